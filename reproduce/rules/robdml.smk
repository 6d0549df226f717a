# Robust deep metric learning: train embedders, attack their rankings, a row of scores for each recipe.

from reproduce.workflow.training import Training

with one_line_errors():
    DATASET = check_name(entries.text("dataset"), "dataset")
    DATA = require_file(entries.path("data"))
    RECIPES = entries.named_texts("recipes")
    SEED, PRECISION = entries.number("seed", 0), entries.text("precision", "fp32")
    COMMON = f"--data {shlex.quote(DATA)} --precision {PRECISION} --seed {SEED}"
    TRAINING, ATTACK = entries.text("training"), entries.text("attack")
    entries.require_all_read()

RESULTS = f"results/{DATASET}/robdml"
LOGS = f"{RESULTS}/logs"
CHECKPOINT = f"models/robdml_{DATASET}_{{recipe}}/model_best.pth.tar"
TRAININGS = {
    out: Training.of(f"{COMMON} {TRAINING} {options} --out {out}", [DATA])
    for out, options in ((CHECKPOINT.format(recipe=name), of) for name, of in RECIPES.items())
}
FINAL = [f"{RESULTS}.tsv"]


wildcard_constraints:
    recipe=one_of(RECIPES),


localrules:
    table,


include: "training.smk"


rule attack:
    input:
        DATA,
        checkpoint=CHECKPOINT,
    output:
        table=update(f"{RESULTS}/{{recipe}}.tsv"),
        record=update(f"{RESULTS}/{{recipe}}.json"),
        row=f"{RESULTS}/{{recipe}}_row.tsv",
    params:
        options=quoted(f"--dataset {DATASET} --gpu {GPU} {COMMON} {ATTACK}"),
    log:
        f"{LOGS}/attack/{{recipe}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "rankings of {wildcards.recipe} under attack; log: {log}"
    shell:
        "{PYTHON}attack_ranking.py {params.options} --checkpoint {input.checkpoint}"
        " --out {output.table} --compare {output.row} {wildcards.recipe} > {log} 2>&1"


rule table:
    input:
        expand(f"{RESULTS}/{{recipe}}_row.tsv", recipe=RECIPES),
    output:
        f"{RESULTS}.tsv",
    message:
        "the recipes together: {output}"
    shell:
        JOIN + "\ncolumn -t -s $'\\t' {output} || cat {output}"
