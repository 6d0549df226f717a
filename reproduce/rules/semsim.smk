# Rules that train networks in several ways, invert their gradients, score by every metric, and rank.

from reproduce.workflow.leaks import Leaks
from reproduce.workflow.training import Training

with one_line_errors():
    NAME = check_name(entries.text("pictures"), "pictures")
    PREPARE, DATA = entries.text("prepare", ""), entries.path("data")
    if not PREPARE:
        require_file(DATA)
    SEEDS = seed_parts(entries.numbers("seeds", (0,)))
    SOURCE = f"--data {shlex.quote(DATA)} {entries.text('source')}"
    IMAGES, METRICS = entries.text("images"), entries.text("metrics")
    if entries.text("semsim", ""):
        METRICS += f" semsim --semsim {shlex.quote(require_file(entries.path('semsim')))}"
    leaks = Leaks.read(entries)
    ATTACKS = leaks.attacks()
    FIRST = next(iter(ATTACKS))
    entries.require_all_read()

RECONSTRUCTIONS, RESULTS = f"reconstructions/{NAME}{{seed}}", f"results/{NAME}"
LOGS = f"{RESULTS}/logs"
PREPARED = [f"{DATA}/trainingset.tsv", f"{DATA}/testset.tsv"] if PREPARE else [DATA]


def inversion(attack, seed):
    """The options of an attack, but for its network."""
    out = RECONSTRUCTIONS.format(seed=seed)
    seeded = f"{SOURCE} --seed {SEEDS[seed]} --gpu {GPU}"
    return quoted(f"{seeded} {IMAGES} {ATTACKS[attack].options} --out {out}")


def checkpoint(network, condition, seed):
    return f"models/semsim_{NAME}_{network}_{condition}{seed}/model_best.pth.tar"


def attacked(attack, seed):
    """The network of an attack."""
    return checkpoint(ATTACKS[attack].network, ATTACKS[attack].condition, seed)


def training(network, condition, seed):
    out = checkpoint(network, condition, seed)
    options = f"{SOURCE} --seed {SEEDS[seed]} {leaks.training_of(network, condition)} --out {out}"
    return out, Training.of(options, PREPARED)


TRAININGS = dict(
    training(network, condition, seed)
    for network in leaks.networks
    for condition in leaks.trained
    for seed in SEEDS
)
FINAL = [*expand(f"{RECONSTRUCTIONS}/grid.png", seed=SEEDS), f"{RESULTS}/semsim.tsv"]


wildcard_constraints:
    attack=one_of(ATTACKS),
    seed=one_of(SEEDS),


localrules:
    rank,


include: "preparing.smk"
include: "training.smk"


rule invert:
    input:
        PREPARED,
        checkpoint=lambda wildcards: attacked(wildcards.attack, wildcards.seed),
    output:
        update(f"{RECONSTRUCTIONS}/{{attack}}.json"),
    params:
        options=lambda wildcards: inversion(wildcards.attack, wildcards.seed),
    log:
        f"{LOGS}/invert/{{attack}}{{seed}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "reconstructions, {wildcards.attack}{wildcards.seed}; log: {log}"
    shell:
        "{AUDIT}leaks {params.options} --checkpoint {input.checkpoint} --no_grid > {log} 2>&1"


# The first command is up to date by then, and draws the reconstructions of all commands.
rule draw:
    input:
        expand(f"{RECONSTRUCTIONS}/{{attack}}.json", attack=ATTACKS, allow_missing=True),
        checkpoint=lambda wildcards: attacked(FIRST, wildcards.seed),
    output:
        f"{RECONSTRUCTIONS}/grid.png",
    params:
        options=lambda wildcards: inversion(FIRST, wildcards.seed),
    log:
        f"{LOGS}/draw{{seed}}.log",
    message:
        "the reconstructions: {output}"
    shell:
        "{AUDIT}leaks {params.options} --checkpoint {input.checkpoint} > {log} 2>&1"


rule score:
    input:
        files_in(METRICS),
        expand(f"{RECONSTRUCTIONS}/{{attack}}.json", attack=ATTACKS, allow_missing=True),
    output:
        update(f"{RESULTS}/semsim_images{{seed}}.tsv"),
        conditions=update(f"{RESULTS}/semsim_images{{seed}}_conditions.tsv"),
    params:
        folders=expand(f"{RECONSTRUCTIONS}/{{attack}}", attack=ATTACKS, allow_missing=True),
        options=quoted(f"--metrics {METRICS} --gpu {GPU}"),
    log:
        f"{LOGS}/score{{seed}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "scores of the reconstructions: {output[0]}; log: {log}"
    shell:
        "{AUDIT}images score --attacked {params.folders} {params.options}"
        " --out {output[0]} > {log} 2>&1"


rule rank:
    input:
        expand(rules.score.output.conditions, seed=SEEDS),
    output:
        f"{RESULTS}/semsim.tsv",
    message:
        "what leaks most: {output}"
    shell:
        "{PYTHON}summarize.py --leaks {input} {output}"
