# passages: raw text, cut and drawn. Local: compute nodes often have no internet, and the hub is streamed.


localrules:
    passages,


rule passages:
    input:
        files=lambda w: plan.passage_files(w.corpus),
        backbone=lambda w: plan.counting_backbone(w.corpus) or [],
    output:
        passages="results/passages/{corpus}.jsonl",
        summary="results/passages/{corpus}.summary.json",
    log:
        "logs/passages/{corpus}.log",
    conda:
        "../../envs/data.yaml"
    params:
        spec=lambda w: plan.passages_params(w.corpus),
    shell:
        "python workflow/scripts/passages.py --spec {params.spec:q} --data results/data"
        " --backbone {input.backbone} --output {output.passages} 2>&1 | tee {log}"
