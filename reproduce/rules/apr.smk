# Rules that train recommenders without images and attack their parameters, with a table for each part.

from reproduce.workflow.recommenders import Part, files_of, runs_of
from src.artifacts.layout import Layout

with one_line_errors():
    layout = Layout(check_name(entries.text("dataset"), "dataset"))
    layout.require_data()
    PREPARED = [require_file(str(file)) for file in (layout.training_set, layout.test_set)]
    TOP_K, SEEDS = entries.number("topk"), entries.numbers("seeds")
    PARTS = Part.read(entries)
    entries.require_all_read()
    TRAINED = {
        options: files_of(runs_of(options, TOP_K, SEEDS), layout)
        for part in PARTS
        for options in part.trainings
    }

RESULTS = f"results/{layout.dataset}"
LOGS = f"{RESULTS}/logs"
FINAL = [f"{RESULTS}/{part.table}.tsv" for part in PARTS]
SHARED = f"--dataset {layout.dataset} --seed {' '.join(map(str, SEEDS))}"


# The commands run one after the other, since later ones continue models of earlier ones.
needed = PREPARED
for number, (options, files) in enumerate(TRAINED.items(), start=1):

    rule:
        name:
            f"recommend_{number}"
        input:
            needed,
        output:
            update(files),
        params:
            options=quoted(f"{SHARED} --topk {TOP_K} --gpu {GPU} {options}"),
        log:
            f"{LOGS}/recommend/{number}.log",
        threads: THREADS
        resources:
            gpu=ON_GPU,
        message:
            "recommenders, {params.options}; log: {log}"
        shell:
            "{PYTHON}rec_generator.py {params.options} > {log} 2>&1"

    needed = files


for part in PARTS:

    rule:
        name:
            f"attack_{part.table}"
        input:
            [file for options in part.trainings for file in TRAINED[options]],
        output:
            update(f"{RESULTS}/{part.table}.tsv"),
            update(f"{RESULTS}/{part.table}_effects.tsv"),
            update(f"{RESULTS}/{part.table}.json"),
        params:
            options=quoted(f"{SHARED} --k {TOP_K} --out {part.table} {part.attack}"),
        log:
            f"{LOGS}/attack/{part.table}.log",
        message:
            "their parameters attacked: {output[0]}; log: {log}"
        shell:
            "{AUDIT}parameters {params.options} > {log} 2>&1"
