# train and decode: one job a block of draws.


rule train:
    input:
        samples="results/samples/{dataset}/{setting}/{block}.jsonl",
        data=data_of,
        backbone="results/backbones/{backbone}",
        init=lambda w: plan.init_model(run_of(w), w.block) or [],
    output:
        model=directory("results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/model"),
    log:
        "logs/train/{dataset}/{setting}/{method}/{backbone}/{block}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}/{setting}/{method}/{backbone}/{block}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: plan.user.runtime.threads
    resources:
        gpu=lambda w: plan.train_gpus(run_of(w)),
        mem_mb=growing(backbone_of("train_mem_mb")),
        runtime=growing(lambda w: plan.train_minutes(run_of(w))),
        device_batch=plan.user.runtime.device_batch,
        gradient_checkpointing=int(plan.user.runtime.gradient_checkpointing),
    params:
        spec=lambda w: plan.run_params(run_of(w), w.block, decode=False),
    shell:
        "python workflow/scripts/train.py --spec {params.spec:q} --samples {input.samples} --data {input.data}"
        " --backbone {input.backbone} --init {input.init} --output {output.model}"
        " --checkpoint results/checkpoints/{wildcards.dataset}/{wildcards.setting}/{wildcards.method}/"
        "{wildcards.backbone}/{wildcards.block} --device-batch {resources.device_batch}"
        " --gradient-checkpointing {resources.gradient_checkpointing} --processes {resources.gpu} 2>&1 | tee {log}"


rule decode:
    input:
        samples="results/samples/{dataset}/{setting}/{block}.jsonl",
        data=data_of,
        backbone="results/backbones/{backbone}",
        model=lambda w: plan.trained_model(run_of(w), w.block),
    output:
        "results/runs/{dataset}/{setting}/{method}/{backbone}/{block}/outputs.{split}.jsonl",
    log:
        "logs/decode/{dataset}/{setting}/{method}/{backbone}/{block}.{split}.log",
    benchmark:
        "logs/benchmarks/decode/{dataset}/{setting}/{method}/{backbone}/{block}.{split}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: plan.user.runtime.threads
    resources:
        gpu=backbone_of("gpu"),
        mem_mb=growing(backbone_of("decode_mem_mb")),
        runtime=growing(backbone_of("minutes")),
    params:
        spec=lambda w: plan.run_params(run_of(w), w.block, decode=True),
    shell:
        "python workflow/scripts/decode.py --spec {params.spec:q} --samples {input.samples} --data {input.data}"
        " --backbone {input.backbone} --model {input.model} --output {output}"
        " --checkpoint results/checkpoints/{wildcards.dataset}/{wildcards.setting}/{wildcards.method}/"
        "{wildcards.backbone}/{wildcards.block}.decode 2>&1 | tee {log}"
