# figures: cells drawn, with their numbers beside.


localrules:
    figure,


rule figure:
    input:
        cells=cells_of("figures", "results/cells/{dataset}/{setting}/{method}/{backbone}.json"),
        tracked=ancient(cells_of("figures", "results/tracking/{dataset}/{setting}/{method}/{backbone}.json")),
    output:
        "results/{figure}.csv",
        report("results/{figure}.svg", caption="../report/figure.rst", category="Figures"),
        "results/{figure}.png",
    log:
        "logs/figure/{figure}.log",
    conda:
        "../../envs/report.yaml"
    params:
        spec=lambda w: plan.figure_params(w.figure),
    shell:
        "python workflow/scripts/figure.py --spec {params.spec:q} --output results/{wildcards.figure} 2>&1 | tee {log}"
