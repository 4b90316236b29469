# tables, statistics and the report: cells and counts laid out beside the papers' printed values.


localrules:
    table,
    statistics,
    report,


rule table:
    input:
        cells=cells_of("tables", "results/cells/{dataset}/{setting}/{method}/{backbone}.json"),
        tracked=ancient(cells_of("tables", "results/tracking/{dataset}/{setting}/{method}/{backbone}.json")),
    output:
        report("results/{table}.csv", caption="../report/table.rst", category="Tables"),
        "results/{table}.md",
        "results/{table}.tex",
        report("results/{table}.html", caption="../report/table.rst", category="Tables"),
    log:
        "logs/table/{table}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.table_params(w.table),
    shell:
        "python workflow/scripts/table.py --spec {params.spec:q}" " --output results/{wildcards.table} 2>&1 | tee {log}"


rule statistics:
    input:
        lambda w: plan.statistics_files(w.statistics),
    output:
        report("results/{statistics}.csv", caption="../report/statistics.rst", category="Tables"),
        "results/{statistics}.md",
        "results/{statistics}.tex",
        report("results/{statistics}.html", caption="../report/statistics.rst", category="Tables"),
    log:
        "logs/statistics/{statistics}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.statistics_params(w.statistics),
    shell:
        "python workflow/scripts/dataset_statistics.py --spec {params.spec:q} --output results/{wildcards.statistics}"
        " 2>&1 | tee {log}"


rule report:
    input:
        expand("results/{table}.csv", table=plan.user.tables),
    output:
        report("results/report.html", caption="../report/report.rst", category="Report"),
    log:
        "logs/report.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.report_params(plan.user.tables),
    shell:
        "python workflow/scripts/report.py --spec {params.spec:q} --output {output} 2>&1 | tee {log}"
