# views and cases: two runs held against each other. A view's numbers need its models; all else is local.


localrules:
    view,
    cases,


rule look:
    input:
        lambda w: plan.look_files(w.view),
    output:
        "results/views/{view}.json",
    log:
        "logs/look/{view}.log",
    conda:
        "../../envs/models.yaml"
    threads: plan.user.runtime.threads
    resources:
        gpu=lambda w: min(1, view_backbone(w).gpu),
        mem_mb=growing(lambda w: view_backbone(w).decode_mem_mb),
        runtime=growing(lambda w: view_backbone(w).minutes),
    params:
        spec=lambda w: plan.look_params(w.view),
    shell:
        "python workflow/scripts/look.py --spec {params.spec:q} --output {output} 2>&1 | tee {log}"


rule view:
    input:
        "results/views/{view}.json",
    output:
        "results/{view}.csv",
        report("results/{view}.svg", caption="../report/view.rst", category="Figures"),
        "results/{view}.png",
    log:
        "logs/view/{view}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.view_params(w.view),
    shell:
        "python workflow/scripts/view.py --spec {params.spec:q} --output results/{wildcards.view} 2>&1 | tee {log}"


rule cases:
    input:
        lambda w: plan.cases_files(w.cases),
    output:
        report("results/{cases}.csv", caption="../report/cases.rst", category="Figures"),
        "results/{cases}.md",
        report("results/{cases}.html", caption="../report/cases.rst", category="Figures"),
    log:
        "logs/cases/{cases}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.cases_params(w.cases),
    shell:
        "python workflow/scripts/cases.py --spec {params.spec:q} --output results/{wildcards.cases} 2>&1 | tee {log}"
