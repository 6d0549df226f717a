# Rules for one catalogue: data set x extractors x attacks x recommenders x seeds, stages 0 to 6.
#
# {dataset} is the study's data set or, where it trains its extractors several times, that of one training: the
# same images and interactions, linked. In the names of experiments {extractor} is nothing (undefended) or
# "<model_dir>_"; {seed} is nothing (seed 0, or all seeds in one job) or "_seed<n>".

from reproduce.workflow.catalogue import power, studies_of
from src.artifacts.layout import Layout

with one_line_errors():
    STUDIES = studies_of(entries)
    study, *OTHERS = STUDIES.values()
    TRAININGS = {file: how for of in STUDIES.values() for file, how in of.trainings(study.labels).items()}
    if not study.prepare:
        Layout(study.dataset).require_data()
        for file in study.prepared:
            require_file(file)
    for of in STUDIES.values():
        for file in of.deployed_files:
            require_file(file, f"make first what is deployed, {of.deployed}")

DATA, LISTS, WEIGHTS = "data/{dataset}", "rec_results/{dataset}", "rec_model_weights/{dataset}"
RESULTS = f"results/{study.dataset}"
LOGS, STAGE_LOGS = f"{RESULTS}/logs", "results/{dataset}/logs"
CLEAN, ATTACKED = "{extractor}original", "{extractor}{attack}"
CLEAN_JOB, ATTACKED_JOB = "{wildcards.extractor}original", "{wildcards.extractor}{wildcards.attack}"
SEED = "{seed}" if study.job_per_seed else ""
DEVICE = f"--dataset {{dataset}} --gpu {GPU}"
RANKINGS = "results/{dataset}/attack_ranking_{name}"
PREPARE = f"{study.prepare} --dataset {study.dataset}" if study.prepare else ""
PREPARED = study.prepared
INTERACTIONS = [f"{DATA}/trainingset.tsv", f"{DATA}/testset.tsv"]
TOGETHER = f"--trainings {' '.join(of.dataset for of in OTHERS)} " if OTHERS else ""
PROMOTION = [f"{RESULTS}/promotion.tsv"] if study.promotion else []
BOUNDS = [table for of in STUDIES.values() for table in of.bounds_tables]
FINAL = [f"{RESULTS}/evaluation.txt", f"{RESULTS}/report.html", *BOUNDS]


wildcard_constraints:
    dataset=one_of(STUDIES),
    extractor=one_of(study.by_prefix),
    attack=one_of(study.attack_options),
    seed=one_of(study.seed_parts),
    name=one_of(study.ranked),
    proof=one_of(study.proofs),


def image_options(wildcards):
    """The options of the verbs that look at images: of the extractor, and of the attack if any."""
    looking = STUDIES[wildcards.dataset].by_prefix[wildcards.extractor]
    options = f"{DEVICE.format(dataset=wildcards.dataset)} {looking.options}"
    if "attack" in wildcards.keys():
        options += f" {study.attack_options[wildcards.attack]}"
    return quoted(options)


def list_options(dataset, experiments, seeds, recommenders=study.visual):
    """The options of rec_generator.py; those of trainings only where a recommender trains in epochs."""
    trained = f"--epochs {study.epoch} {study.recommender_options} " if study.trains(recommenders) else ""
    trained += f"--deployed {study.deployed} " if study.deployed else ""
    return quoted(
        f"{DEVICE.format(dataset=dataset)} --experiment_name {' '.join(experiments)} "
        f"--model {' '.join(recommenders)} --topk {study.topk} {trained}"
        f"--seed {' '.join(map(str, seeds))}"
    )


def training_options(experiment, seeds):
    """Return the options of a job that trains for all of these seeds, or for the one in its wildcards."""

    def options(wildcards):
        chosen = [study.seed_parts[wildcards.seed]] if SEED else seeds
        return list_options(wildcards.dataset, [experiment.format(**wildcards)], chosen)

    return options


def test_time_options(wildcards):
    """Return the options of a job that ranks attacked features by the recommenders of clean ones."""
    attacked = [f"{wildcards.extractor}{attack}" for attack in study.attack_options]
    options = list_options(wildcards.dataset, attacked, study.seeds)
    trained = "" if study.deployed else f"--load_weights_from {wildcards.extractor}original "
    return trained + options


def trained_lists(experiment, seeds):
    """The lists of one training job."""
    endings = study.list_endings([SEED] if SEED else seeds)
    return [f"{LISTS}/{experiment}{ending}.tsv" for ending in endings]


def runs(experiment, endings, **values):
    """The names of the runs with these endings, of every extractor."""
    return expand(experiment + "{ending}", extractor=study.by_prefix, ending=endings, **values)


def clean_runs():
    return runs(CLEAN, study.list_endings(study.seeds))


def every_run():
    names = clean_runs() + study.blind_lists
    if "retrained" in study.protocols:
        endings = study.list_endings(study.seeds)
        names += runs(ATTACKED, endings, attack=study.retrained_attacks)
    if "test_time" in study.protocols:
        endings = study.list_endings(study.seeds, "test_time")
        names += runs(ATTACKED, endings, attack=study.attack_options)
    return names


RUNS = every_run()


localrules:
    attacked,
    clean_lists,
    share,
    summarize,
    report,


# Target for the lists of the first extractor, by which a pair of classes is chosen.
rule clean_lists:
    input:
        expand(
            f"{LISTS}/{CLEAN}{{ending}}.tsv",
            dataset=study.dataset,
            extractor=study.extractors[0].prefix,
            ending=study.list_endings(study.seeds),
        ),


# Target for attacked images that another study reads, and for what judges them. It prints their names.
rule attacked:
    input:
        expand(
            f"{DATA}/{ATTACKED}/attack.tsv",
            dataset=STUDIES,
            extractor=study.by_prefix,
            attack=study.attack_options,
        ),
        expand(
            f"{WEIGHTS}/{{run}}.npz",
            dataset=STUDIES,
            run=runs(CLEAN, study.weight_endings(study.seeds)),
        ),
        BOUNDS,
    params:
        names=expand(ATTACKED, extractor=study.by_prefix, attack=study.attack_options),
    shell:
        "printf '%s\\n' {params.names}"


include: "preparing.smk"


include: "training.smk"


# Other trainings see the same data. Later stages write beside the links, never through them.
rule share:
    input:
        PREPARED,
    output:
        f"{DATA}/trainingset.tsv",
        f"{DATA}/testset.tsv",
    wildcard_constraints:
        dataset=one_of([of.dataset for of in OTHERS]),
    params:
        first=f"../{study.dataset}",
    message:
        "the data set {wildcards.dataset}: links to those of another training"
    shell:
        "mkdir -p data/{wildcards.dataset}/original && cd data/{wildcards.dataset} && "
        "for file in {params.first}/*; do if [ -f $file ]; then ln -sf $file .; fi; done && "
        "if [ -d {params.first}/extractor ]; then ln -sfn {params.first}/extractor extractor; fi && "
        "ln -sfn ../{params.first}/original/images original/images"


rule classify:
    input:
        INTERACTIONS,
        lambda wildcards: STUDIES[wildcards.dataset].by_prefix[wildcards.extractor].files,
    output:
        update(f"{DATA}/{CLEAN}/classes.csv"),
        update(f"{DATA}/{CLEAN}/features.npy"),
    params:
        options=image_options,
    log:
        f"{STAGE_LOGS}/classify/{CLEAN}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        f"stage 1, {CLEAN_JOB}; log: {{log}}"
    shell:
        "{PYTHON}classify_extract.py {params.options} > {log} 2>&1"


# Stage 5 takes seconds: jobs of its own would be as many lines as the attacks.
rule attack:
    input:
        f"{DATA}/{CLEAN}/classes.csv",
        f"{DATA}/{CLEAN}/features.npy",
        lambda wildcards: STUDIES[wildcards.dataset].resembled(
            wildcards.extractor, wildcards.attack
        ),
        lambda wildcards: [
            f"{WEIGHTS}/{CLEAN}{ending}.npz".format(**wildcards)
            for ending in study.scored_by(wildcards.attack)
        ],
    output:
        update(f"{DATA}/{ATTACKED}/classes.csv"),
        update(f"{DATA}/{ATTACKED}/features.npy"),
        update(f"{DATA}/{ATTACKED}/attack.tsv"),
        update(f"{DATA}/{ATTACKED}/success_results.txt"),
        update(f"{DATA}/{ATTACKED}/features_dist_avg_all_attack.txt"),
    params:
        options=image_options,
    log:
        f"{STAGE_LOGS}/attack/{ATTACKED}.log",
    threads: THREADS
    priority: 1 # the longest jobs come first, so that none is left over at the end
    resources:
        gpu=ON_GPU,
    message:
        f"stages 3 and 5, {ATTACKED_JOB}; log: {{log}}"
    shell:
        "{PYTHON}classify_extract_attack.py {params.options} > {log} 2>&1\n"
        "{PYTHON}evaluate_attack.py {params.options} >> {log} 2>&1\n"
        "{PYTHON}feature_loss.py {params.options} >> {log} 2>&1"


rule recommend:
    input:
        INTERACTIONS,
        f"{DATA}/{CLEAN}/features.npy",
        lambda wildcards: STUDIES[wildcards.dataset].deployed_files,
    output:
        update(trained_lists(CLEAN, study.seeds)),
        update(
            f"{WEIGHTS}/{CLEAN}{ending}.npz"
            for ending in study.weight_endings([SEED] if SEED else study.seeds)
        ),
    params:
        options=training_options(CLEAN, study.seeds),
    log:
        f"{STAGE_LOGS}/recommend/{CLEAN}{SEED}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        f"stage 2, {CLEAN_JOB}; log: {{log}}"
    shell:
        "{PYTHON}rec_generator.py {params.options} > {log} 2>&1"


if study.blind:

    rule recommend_without_images:
        input:
            INTERACTIONS,
        output:
            update(f"{LISTS}/{run}.tsv" for run in study.blind_lists),
        params:
            options=lambda wildcards: list_options(
                wildcards.dataset, ["original"], study.seeds, study.blind
            ),
        log:
            f"{STAGE_LOGS}/recommend_without_images.log",
        threads: THREADS
        resources:
            gpu=ON_GPU,
        message:
            "stage 2, recommenders that read no images; log: {log}"
        shell:
            "{PYTHON}rec_generator.py {params.options} > {log} 2>&1"


# Stage 4 as published: recommenders learn from attacked features.
rule recommend_retrained:
    input:
        INTERACTIONS,
        f"{DATA}/{ATTACKED}/features.npy",
    output:
        update(trained_lists(ATTACKED, study.seeds)),
    params:
        options=training_options(ATTACKED, study.seeds),
    log:
        f"{STAGE_LOGS}/recommend_retrained/{ATTACKED}{SEED}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        f"stage 4, retrained on {ATTACKED_JOB}; log: {{log}}"
    shell:
        "{PYTHON}rec_generator.py {params.options} > {log} 2>&1"


# Stage 4 at test time: trained recommenders score attacked features. Nothing is trained, so that one job
# serves all attacks on an extractor.
rule recommend_at_test_time:
    input:
        expand(f"{DATA}/{ATTACKED}/features.npy", attack=study.attack_options, allow_missing=True),
        [f"{WEIGHTS}/{CLEAN}{ending}.npz" for ending in study.weight_endings(study.seeds)],
    output:
        update(
            expand(
                f"{LISTS}/{ATTACKED}{{ending}}.tsv",
                attack=study.attack_options,
                ending=study.list_endings(study.seeds, "test_time"),
                allow_missing=True,
            )
        ),
    params:
        options=test_time_options,
    log:
        f"{STAGE_LOGS}/recommend_at_test_time/{CLEAN}.log",
    message:
        f"stage 4, recommenders of {CLEAN_JOB} at test time; log: {{log}}"
    shell:
        "{PYTHON}rec_generator.py {params.options} > {log} 2>&1"


rule evaluate:
    input:
        expand(f"{LISTS}/{{run}}.tsv", dataset=study.dataset, run=RUNS),
    output:
        overview=f"{RESULTS}/evaluation.txt",
        tables=update(
            expand(
                f"{{metric}}/{study.dataset}/{{run}}.tsv",
                metric=("chr", "ncdcg", "accuracy", "bias"),
                run=RUNS,
            )
        ),
    params:
        options=f"--dataset {study.dataset} --origin_class {study.pairs[0][0]} --topk {study.topk}",
    message:
        "stage 2b, every list: {output.overview}, chr/, ncdcg/, accuracy/ and bias/"
    shell:
        "{PYTHON}evaluate_rec.py --metric all {params.options} > {output.overview}"


rule attack_rankings:
    input:
        INTERACTIONS,
        lambda wildcards: STUDIES[wildcards.dataset].by_name[wildcards.name].files,
    output:
        update(f"{RANKINGS}.tsv"),
        update(f"{RANKINGS}.json"),
    params:
        options=lambda wildcards: quoted(
            f"{DEVICE.format(dataset=wildcards.dataset)} "
            f"{STUDIES[wildcards.dataset].by_name[wildcards.name].options} {study.rankings}"
        ),
    log:
        f"{STAGE_LOGS}/attack_rankings/{{name}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "rankings of {wildcards.name} under attack; log: {log}"
    shell:
        "{AUDIT}rankings {params.options} --out {output[0]} > {log} 2>&1"


# Bounds are proven after the attacks, which are in the same table and must not exceed them.
rule bounds:
    input:
        INTERACTIONS,
        f"{DATA}/{CLEAN}/classes.csv",
        f"{DATA}/{CLEAN}/features.npy",
        expand(
            f"{DATA}/{ATTACKED}/{{made}}",
            attack=study.attack_options,
            made=("features.npy", "attack.tsv"),
            allow_missing=True,
        ),
        lambda wildcards: f"{WEIGHTS}/{CLEAN}{study.proven_of(wildcards.proof)}.npz".format(**wildcards),
    output:
        update("results/{dataset}/bounds_{extractor}{proof}.tsv"),
        update("results/{dataset}/bounds_{extractor}{proof}_lists.tsv"),
    params:
        options=lambda wildcards: quoted(
            f"{DEVICE.format(dataset=wildcards.dataset)} "
            f"{STUDIES[wildcards.dataset].by_prefix[wildcards.extractor].options} "
            f"{study.proofs[wildcards.proof]} --out bounds_{wildcards.extractor}{wildcards.proof}"
        ),
    log:
        f"{STAGE_LOGS}/bounds/{{extractor}}{{proof}}.log",
    threads: THREADS
    resources:
        gpu=ON_GPU,
    message:
        "bounds of {wildcards.extractor}{wildcards.proof}; log: {log}"
    shell:
        "{AUDIT}bounds {params.options} > {log} 2>&1"


rule summarize:
    input:
        expand(f"{LISTS}/{{run}}.tsv", dataset=STUDIES, run=RUNS),
        expand(
            f"{DATA}/{ATTACKED}/{{measured}}",
            dataset=STUDIES,
            extractor=study.by_prefix,
            attack=study.attack_options,
            measured=("success_results.txt", "features_dist_avg_all_attack.txt"),
        ),
        expand(f"{RANKINGS}.json", dataset=STUDIES, name=study.ranked),
    output:
        update(f"{RESULTS}/summary.tsv"),
        [update(f"{RESULTS}/robust_extractors.tsv")] if study.ranked else [],
    params:
        options=f"--dataset {study.dataset} {TOGETHER}--epochs {study.epoch} --topk {study.topk} "
        f"--fidelity {study.fidelity} --options {' '.join(study.options_shown)} "
        f"--k {' '.join(map(str, study.list_of_k))} {study.compared}"
        + (f"--extractors {' '.join(study.ranked)}" if study.ranked else ""),
    log:
        f"{LOGS}/summary.log",
    message:
        "stage 6, the summary; log: {log}"
    shell:
        "{PYTHON}summarize.py {params.options} > {log} 2>&1"


if study.promotion:

    rule promotion:
        input:
            expand(
                f"{DATA}/{ATTACKED}/features.npy",
                dataset=STUDIES,
                extractor=study.by_prefix,
                attack=study.attack_options,
            ),
            expand(
                f"{WEIGHTS}/{{run}}.npz",
                dataset=STUDIES,
                run=runs(CLEAN, study.weight_endings(study.seeds)),
            ),
            expand(f"{LISTS}/{{run}}.tsv", dataset=STUDIES, run=RUNS),
        output:
            update(PROMOTION),
        params:
            options=f"--dataset {study.dataset} {TOGETHER}{study.promotion_options} "
            f"--seed {' '.join(map(str, study.seeds))}",
        log:
            f"{LOGS}/promotion.log",
        message:
            "exposure and places of the attacked items; log: {log}"
        shell:
            "{AUDIT}promotion {params.options} > {log} 2>&1"


rule report:
    input:
        f"{RESULTS}/summary.tsv",
        PROMOTION,
    output:
        update(f"{RESULTS}/report.html"),
    params:
        options=f"--dataset {study.dataset} {TOGETHER}--epochs {study.epoch} "
        f"--fidelity {study.fidelity} --options {' '.join(study.options_shown)}",
    message:
        "the report"
    shell:
        "{PYTHON}report.py {params.options}"
