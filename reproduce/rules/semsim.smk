# Rules that train networks in several ways, invert their gradients, score by every metric, and rank.

from reproduce.workflow.leaks import Leaks
from reproduce.workflow.training import Training

with one_line_errors():
    NAME = check_name(entries.text("pictures"), "pictures")
    PREPARE, DATA = entries.text("prepare", ""), entries.path("data")
    if not PREPARE:
        require_file(DATA)
    SOURCE = f"--data {shlex.quote(DATA)} {entries.text('source')} --seed {entries.number('seed', 0)}"
    IMAGES, METRICS = entries.text("images"), entries.text("metrics")
    if entries.text("semsim", ""):
        METRICS += f" semsim --semsim {shlex.quote(require_file(entries.path('semsim')))}"
    leaks = Leaks.read(entries)
    ATTACKS = leaks.attacks()
    FIRST = next(iter(ATTACKS))
    entries.require_all_read()

RECONSTRUCTIONS, RESULTS = f"reconstructions/{NAME}", f"results/{NAME}"
LOGS = f"{RESULTS}/logs"
PREPARED = [f"{DATA}/trainingset.tsv", f"{DATA}/testset.tsv"] if PREPARE else [DATA]


def inversion(attack):
    """The options of an attack, but for its network."""
    return quoted(f"{SOURCE} --gpu {GPU} {IMAGES} {ATTACKS[attack].options} --out {RECONSTRUCTIONS}")


def checkpoint(network, condition):
    return f"models/semsim_{NAME}_{network}_{condition}/model_best.pth.tar"


def attacked(attack):
    """The network of an attack."""
    return checkpoint(ATTACKS[attack].network, ATTACKS[attack].condition)


def training(network, condition):
    out = checkpoint(network, condition)
    options = f"{SOURCE} {leaks.training_of(network, condition)} --out {out}"
    return out, Training.of(options, PREPARED)


TRAININGS = dict(
    training(network, condition) for network in leaks.networks for condition in leaks.trained
)
FINAL = [f"{RECONSTRUCTIONS}/grid.png", f"{RESULTS}/semsim.tsv"]


wildcard_constraints:
    attack=one_of(ATTACKS),


localrules:
    rank,


include: "preparing.smk"
include: "training.smk"


rule invert:
    input:
        PREPARED,
        checkpoint=lambda wildcards: attacked(wildcards.attack),
    output:
        update(f"{RECONSTRUCTIONS}/{{attack}}.json"),
    params:
        options=lambda wildcards: inversion(wildcards.attack),
    log:
        f"{LOGS}/invert/{{attack}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "reconstructions, {wildcards.attack}; log: {log}"
    shell:
        "{AUDIT}leaks {params.options} --checkpoint {input.checkpoint} --no_grid > {log} 2>&1"


# The first command is up to date by then, and draws the reconstructions of all commands.
rule draw:
    input:
        expand(f"{RECONSTRUCTIONS}/{{attack}}.json", attack=ATTACKS),
        checkpoint=attacked(FIRST),
    output:
        f"{RECONSTRUCTIONS}/grid.png",
    params:
        options=inversion(FIRST),
    log:
        f"{LOGS}/draw.log",
    message:
        "the reconstructions: {output}"
    shell:
        "{AUDIT}leaks {params.options} --checkpoint {input.checkpoint} > {log} 2>&1"


rule score:
    input:
        files_in(METRICS),
        expand(f"{RECONSTRUCTIONS}/{{attack}}.json", attack=ATTACKS),
    output:
        update(f"{RESULTS}/semsim_images.tsv"),
        update(f"{RESULTS}/semsim_images_conditions.tsv"),
    params:
        folders=[f"{RECONSTRUCTIONS}/{attack}" for attack in ATTACKS],
        options=quoted(f"--metrics {METRICS} --gpu {GPU}"),
    log:
        f"{LOGS}/score.log",
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
        f"{RESULTS}/semsim_images_conditions.tsv",
    output:
        f"{RESULTS}/semsim.tsv",
    message:
        "what leaks most: {output}"
    shell:
        "{PYTHON}summarize.py --leaks {input} {output}"
