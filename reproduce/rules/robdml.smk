# Rules that train embedders and attack their rankings, with a row of scores for each recipe.

from reproduce.workflow.training import Training

with one_line_errors():
    DATASET = check_name(entries.text("dataset"), "dataset")
    DATA = require_file(entries.path("data"), f"get {DATASET} in its published layout, and name it with --data")
    RECIPES = entries.named_texts("recipes")
    SEEDS = seed_parts(entries.numbers("seeds", (0,)))
    COMMON = f"--data {shlex.quote(DATA)} --precision {entries.text('precision', 'fp32')}"
    TRAINING, ATTACK = entries.text("training"), entries.text("attack")
    entries.require_all_read()

RESULTS = f"results/{DATASET}/robdml"
LOGS = f"{RESULTS}/logs"
EMBEDDER = "{recipe}{seed}"
CHECKPOINT = f"models/robdml_{DATASET}_{EMBEDDER}/model_best.pth.tar"


def training(recipe, seed):
    """How the embedder of a recipe and a seed, as names show it, is trained."""
    out = CHECKPOINT.format(recipe=recipe, seed=seed)
    options = f"{COMMON} --seed {SEEDS[seed]} {TRAINING} {RECIPES[recipe]} --out {out}"
    return out, Training.of(options, [DATA])


TRAININGS = dict(training(recipe, seed) for recipe in RECIPES for seed in SEEDS)
ROWS = expand(f"{RESULTS}/{EMBEDDER}_row.tsv", recipe=RECIPES, seed=SEEDS)
JOINED = f"{RESULTS}/rows.tsv"
FINAL = [f"{RESULTS}.tsv"]


wildcard_constraints:
    recipe=one_of(RECIPES),
    seed=one_of(SEEDS),


localrules:
    summarize,


include: "training.smk"


rule attack:
    input:
        DATA,
        checkpoint=CHECKPOINT,
    output:
        table=update(f"{RESULTS}/{EMBEDDER}.tsv"),
        record=update(f"{RESULTS}/{EMBEDDER}.json"),
        row=f"{RESULTS}/{EMBEDDER}_row.tsv",
    params:
        options=lambda wildcards: quoted(
            f"--dataset {DATASET} --gpu {GPU} {COMMON} --seed {SEEDS[wildcards.seed]} {ATTACK}"
        ),
    log:
        f"{LOGS}/attack/{EMBEDDER}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "rankings of {wildcards.recipe}{wildcards.seed} under attack; log: {log}"
    shell:
        "{AUDIT}rankings {params.options} --checkpoint {input.checkpoint}"
        " --out {output.table} --compare {output.row} {wildcards.recipe} > {log} 2>&1"


include: "joining.smk"


rule summarize:
    input:
        JOINED,
    output:
        update(f"{RESULTS}.tsv"),
    message:
        "a row a recipe: {output}"
    shell:
        "{PYTHON}summarize.py --embedders {input} {output}"
