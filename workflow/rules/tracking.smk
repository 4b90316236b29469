# track: the only writer of the MLflow store, after the fact.


localrules:
    track,


rule track:
    input:
        "results/cells/{dataset}/{setting}/{method}/{backbone}.json",
    output:
        "results/tracking/{dataset}/{setting}/{method}/{backbone}.json",
    log:
        "logs/track/{dataset}/{setting}/{method}/{backbone}.log",
    conda:
        "../../envs/tracking.yaml"
    params:
        store=lambda w: plan.tracking_params(),
    shell:
        "python workflow/scripts/track.py --cell {input} --output {output} --user .cache/config.json"
        " 2>&1 | tee {log}"
