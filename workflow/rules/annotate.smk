# annotations: a teacher reads raw passages; local, for compute nodes often have no internet. Their types by frequency.


localrules:
    annotate,
    bands,


rule annotate:
    input:
        "results/passages/{corpus}.jsonl",
    output:
        "results/annotations/{teacher}/{corpus}/answers.jsonl",
        "results/annotations/{teacher}/{corpus}/annotations.jsonl",
        "results/annotations/{teacher}/{corpus}/summary.json",
    log:
        "logs/annotate/{teacher}/{corpus}.log",
    conda:
        "../../envs/teacher.yaml"
    params:
        spec=lambda w: plan.annotation_params(w.teacher),
    shell:
        "python workflow/scripts/annotate.py --teacher {wildcards.teacher} --corpus {wildcards.corpus}"
        " 2>&1 | tee {log}"


rule bands:
    input:
        lambda w: plan.bands_file(w.bands),
    output:
        report("results/{bands}.csv", caption="../report/statistics.rst", category="Tables"),
        "results/{bands}.md",
    log:
        "logs/bands/{bands}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.bands_params(w.bands),
    shell:
        "python workflow/scripts/bands.py --spec {params.spec:q} --output results/{wildcards.bands} 2>&1 | tee {log}"
