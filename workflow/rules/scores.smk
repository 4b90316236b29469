# parse and score, cell: what a model wrote -> entities -> counts -> draws put together. Seconds each, so local.


localrules:
    score,
    cell,


rule score:
    input:
        samples="results/samples/{dataset}/{setting}/{block}.jsonl",
        data=data_of,
        outputs="results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/outputs.{split}.jsonl",
    output:
        predictions="results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/predictions.{split}.jsonl",
        scores="results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/scores.{split}.json",
    log:
        "logs/score/{dataset}/{setting}/{method}/{backbone}/{block}.{split}.log",
    conda:
        "../../envs/workflow.yaml"
    params:
        spec=lambda w: plan.score_params(run_of(w)),
    shell:
        "python workflow/scripts/score.py --spec {params.spec:q} --samples {input.samples} --data {input.data}"
        " --outputs {input.outputs} --predictions {output.predictions} --scores {output.scores} 2>&1 | tee {log}"


rule cell:
    input:
        scores=blocks_of("results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/scores.{query}.json"),
        samples=blocks_of("results/samples/{dataset}/{setting}/{block}.jsonl"),
    output:
        "results/cells/{dataset}/{setting}/{method}/{backbone}.json",
    log:
        "logs/cell/{dataset}/{setting}/{method}/{backbone}.log",
    conda:
        "../../envs/workflow.yaml"
    params:
        spec=lambda w: plan.cell_params(run_of(w)),
    shell:
        "python workflow/scripts/cell.py --spec {params.spec:q} --scores {input.scores} --samples {input.samples}"
        " --output {output} 2>&1 | tee {log}"
