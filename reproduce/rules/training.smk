# Rule for the trainings of extractors. TRAININGS has them by the file that a training writes.

wildcard_constraints:
    checkpoint=one_of(TRAININGS),


rule train:
    input:
        lambda wildcards: TRAININGS[wildcards.checkpoint].inputs,
    output:
        update("{checkpoint}"),
    params:
        options=lambda wildcards: quoted(TRAININGS[wildcards.checkpoint].options),
    log:
        f"{LOGS}/train/{{checkpoint}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "an extractor, {output}; log: {log}"
    shell:
        "{PYTHON}train_extractor.py --gpu {GPU} {params.options} > {log} 2>&1"
