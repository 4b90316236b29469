# annotations: a teacher reads raw passages. Local: compute nodes often have no internet.


localrules:
    annotate,


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
