"""Stand-in for ``python`` in studies: leaves the files of a verb, in a moment, and notes its calls.

``calls.txt`` has a line for each verb that began, ``finished.txt`` one for each that ended.
"""

import argparse
import itertools
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parsed(arguments: Sequence[str], **options: dict) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name, settings in options.items():
        parser.add_argument("--" + name, **settings)
    return parser.parse_known_args(arguments)[0]


def outputs_of(verb: str, arguments: Sequence[str]) -> list[Path]:
    """Return the files of a verb; ``sys.argv`` has its arguments too."""
    from src.artifacts.experiments import Experiment, Run
    from src.artifacts.layout import Layout
    from src.attacks.command import AttackCommand
    from src.cli import Parser, add_common_options, add_extractor_options
    from src.defences.options import add_preprocess_option, model_dir_of

    layout = Layout(parsed(arguments, dataset={}).dataset or "none")
    if verb == "prepare_dataset":
        return [layout.training_set, layout.test_set]
    if verb == "train_extractor":
        return [parsed(arguments, out={"type": Path}).out]
    if verb == "classify_extract":
        parser = Parser("")
        add_common_options(parser, dataset="")
        add_extractor_options(parser)
        add_preprocess_option(parser)
        experiment = Experiment(model_dir_of(parser.parse_args()))
        return [layout.classes(experiment), layout.features(experiment)]
    if verb in ("classify_extract_attack", "evaluate_attack", "feature_loss"):
        experiment = AttackCommand.parse("").experiment
        outputs = {
            "classify_extract_attack": [layout.classes, layout.features, layout.attack_report],
            "evaluate_attack": [layout.success_results],
            "feature_loss": [layout.feature_loss_average],
        }[verb]
        return [path(experiment) for path in outputs]
    if verb == "rec_generator":
        return outputs_of_recommenders(layout)
    if verb == "evaluate_rec":
        runs = [Run.parse(path.stem) for path in layout.recommendations_dir.glob("*.tsv")]
        metrics = ("chr", "ncdcg", "accuracy", "bias")
        return [layout.metric(metric, run) for metric in metrics for run in runs]
    if verb in ("audits.rankings", "audits.robustness"):
        compare = {"nargs": 2, "default": []}
        options = parsed(arguments, out={"type": Path}, compare=compare)
        return [options.out, options.out.with_suffix(".json"), *map(Path, options.compare[:1])]
    if verb == "summarize" and "--embedders" in arguments:
        return [Path(arguments[-1])]
    if verb == "summarize":
        table = parsed(arguments, robust_accuracy={"type": Path}).robust_accuracy
        outputs = [table.with_name(table.stem + "_summary.tsv") if table else layout.summary]
        if "--extractors" in arguments:
            outputs.append(layout.result("robust_extractors.tsv"))
        return outputs
    if verb == "audits.promotion":
        return [layout.result("promotion.tsv")]
    return [layout.results / "report.html"] if verb == "report" else []


def outputs_of_recommenders(layout) -> list[Path]:
    from rec_generator import parse_options
    from src.artifacts.experiments import Experiment
    from src.recommenders.command import run_of

    options = parse_options()
    outputs = []
    for name, model, seed in itertools.product(
        options.experiment_name, options.model, options.seed
    ):
        experiment = Experiment.parse(name)
        trained = run_of(options, model, experiment, options.topk, seed)
        if options.deployed:
            learnt = replace(trained, experiment=Experiment.parse(options.deployed))
            trained = learnt.deployed_on(experiment)
        attacked = options.load_weights_from or (options.deployed and experiment.attack)
        protocol = "test_time" if attacked else "retrained"
        outputs.append(layout.recommendations(replace(trained, protocol=protocol)))
        if protocol == "retrained":
            outputs.append(layout.weights(trained))
    return outputs


def note(file: str, verb: str, arguments: Sequence[str]) -> None:
    with Path(file).open("a") as notes:
        notes.write(shlex.join([verb, *arguments]) + "\n")


def main() -> None:
    sys.argv = [word for word in sys.argv[1:] if word not in ("-P", "-m")]
    verb, arguments = Path(sys.argv[0]).name.removesuffix(".py"), sys.argv[1:]
    note("calls.txt", verb, arguments)
    outputs = outputs_of(verb, arguments)
    time.sleep(0.05)
    for path in outputs:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("name\n" + path.name + "\n")
    note("finished.txt", verb, arguments)


if __name__ == "__main__":
    main()
