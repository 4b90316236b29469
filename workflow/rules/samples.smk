# samples: the tasks of a block of draws, by sentence ids.


rule sample:
    input:
        lambda w: plan.sample_files(w.dataset, w.setting),
    output:
        "results/samples/{dataset}/{setting}/{block}.jsonl",
    log:
        "logs/sample/{dataset}/{setting}/{block}.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=growing(lambda w: 2000),
        runtime=growing(lambda w: 30),
    params:
        spec=lambda w: plan.sample_params(w.dataset, w.setting, w.block),
    shell:
        "python workflow/scripts/sample.py --spec {params.spec:q} --data results/data/{wildcards.dataset}"
        " --raw results/raw/{wildcards.dataset} --output {output} 2>&1 | tee {log}"
