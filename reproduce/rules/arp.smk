# Rules that train classifiers by recipes and seeds at equal compute and measure their robust accuracy.

from reproduce.workflow.training import Training

with one_line_errors():
    NAME = check_name(entries.text("pictures"), "pictures")
    PREPARE = entries.text("prepare", "")
    DATA, TEST = entries.path("data"), entries.path("test")
    if not PREPARE:
        require_file(DATA)
        require_file(TEST)
    RECIPES = entries.named_texts("recipes")
    SEEDS = entries.numbers("seeds")
    BASELINE = entries.choice("baseline", RECIPES)
    TRAINING, EVALUATION = entries.text("training"), entries.text("evaluation")
    entries.require_all_read()

RESULTS = f"results/{NAME}/arp"
LOGS = f"{RESULTS}/logs"
CHECKPOINT = f"models/arp_{NAME}_{{recipe}}_{{seed}}/model_best.pth.tar"
PREPARED = [f"{DATA}/trainingset.tsv", f"{DATA}/testset.tsv"] if PREPARE else [DATA]


def training(recipe, seed):
    """How the network of a recipe and a seed is trained."""
    out = CHECKPOINT.format(recipe=recipe, seed=seed)
    options = f"--data {shlex.quote(DATA)} {TRAINING} --recipe {recipe} {RECIPES[recipe]}"
    return out, Training.of(f"{options} --seed {seed} --out {out}", PREPARED)


TRAININGS = dict(training(recipe, seed) for seed in SEEDS for recipe in RECIPES)
ROWS = [f"{RESULTS}/{recipe}_{seed}.tsv" for seed in SEEDS for recipe in RECIPES]
JOINED = f"{RESULTS}.tsv"
FINAL = [f"{RESULTS}_summary.tsv"]


wildcard_constraints:
    recipe=one_of(RECIPES),
    seed=one_of([str(seed) for seed in SEEDS]),


localrules:
    summarize,


include: "preparing.smk"
include: "training.smk"


rule attack:
    input:
        PREPARED if TEST == DATA else TEST,
        checkpoint=CHECKPOINT,
    output:
        update(f"{RESULTS}/{{recipe}}_{{seed}}.tsv"),
    params:
        options=quoted(f"--data {shlex.quote(TEST)} --gpu {GPU} {EVALUATION}"),
    log:
        f"{LOGS}/attack/{{recipe}}_{{seed}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "{wildcards.recipe}, seed {wildcards.seed}, under attack; log: {log}"
    shell:
        "{AUDIT}robustness {params.options} --checkpoint {input.checkpoint}"
        " --seed {wildcards.seed} --label {wildcards.recipe} --out {output} > {log} 2>&1"


include: "joining.smk"


rule summarize:
    input:
        JOINED,
    output:
        update(f"{RESULTS}_summary.tsv"),
    params:
        baseline=BASELINE,
    message:
        "means over the seeds: {output}"
    shell:
        "{PYTHON}summarize.py --robust_accuracy {input} --baseline {params.baseline}"
