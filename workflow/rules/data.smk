# data: download, verify, normalise. Local: compute nodes often have no internet.


localrules:
    fetch,
    data,
    backbone,


rule fetch:
    input:
        lambda w: plan.own_files(w.dataset, w.file),
    output:
        "results/raw/{dataset}/{file}",
    log:
        "logs/fetch/{dataset}/{file}.log",
    conda:
        "../../envs/data.yaml"
    params:
        spec=lambda w: plan.fetch_params(w.dataset, w.file),
    shell:
        "python workflow/scripts/fetch.py --dataset {wildcards.dataset} --file {wildcards.file:q}"
        " --user .cache/config.json --output {output:q} 2>&1 | tee {log:q}"


rule data:
    input:
        lambda w: plan.raw_files(w.dataset, w.split),
    output:
        "results/data/{dataset}/{split}.jsonl",
    log:
        "logs/data/{dataset}/{split}.log",
    conda:
        "../../envs/data.yaml"
    params:
        spec=lambda w: plan.data_params(w.dataset, w.split),
    shell:
        "python workflow/scripts/data.py --dataset {wildcards.dataset} --split {wildcards.split}"
        " --raw results/raw/{wildcards.dataset} --output {output} 2>&1 | tee {log}"


rule backbone:
    output:
        directory("results/backbones/{backbone}"),
    log:
        "logs/backbone/{backbone}.log",
    conda:
        "../../envs/models.yaml"
    params:
        spec=lambda w: plan.backbone_params(w.backbone),
    shell:
        "python workflow/scripts/backbone.py --backbone {wildcards.backbone} --output {output} 2>&1 | tee {log}"
