"""Stage 5: success rate (SR), the share of attacked images that are classified as the target."""

import src.interrupts

import math
import sys
from collections.abc import Sequence

import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.classes import Classes, read_attacked_classes, read_classes
from src.artifacts.experiments import NO_HEAD
from src.artifacts.manifest import Manifest, read_record
from src.artifacts.stage import Stage
from src.artifacts.tables import write_table
from src.attacks.command import AttackCommand
from src.cli import run
from src.measures.comparable import require_same_extractors
from src.metrics.attack import misclassification_rate, success_rate


def main() -> None:
    command = AttackCommand.parse(__doc__, attack="fgsm", eps=4.0)
    command.require_attacked()
    layout, experiment = command.layout, command.experiment
    inputs = (layout.classes(experiment), layout.attack_report(experiment))
    text = layout.success_results(experiment)
    outputs = (text, text.with_suffix(".tsv"))
    require_same_extractors(layout, [experiment])
    stage = Stage(Manifest.of("evaluate_attack", {}, inputs), outputs)
    if stage.is_up_to_date(command.options.force):
        return

    attacked, start = read_attacked_classes(inputs[0])
    before = ["success_before_rounding"]
    report = read_attack_report(inputs[1], needs=before, images=attacked.image_ids)
    table = success_table(command, attacked, start, report)
    lines = success_lines(command, attacked, start, table["success_rate"])
    with stage.publish() as (text_file, table_file):
        text_file.write_text("\n".join(lines) + "\n")
        write_table(table_file, pd.DataFrame([table]), numbers=None)
    print(*lines, sep="\n")
    stage.say_written()


def success_table(
    command: AttackCommand, attacked: Classes, start: Classes, report: pd.DataFrame
) -> dict[str, object]:
    """Return the row of success_results.tsv; rates in percent, probabilities means over the images."""
    settings = command.settings
    n = len(attacked.classes)
    if command.options.head == NO_HEAD or (settings.objective and settings.items.name):
        # No class was attacked, or no image leaves that of the shop: stage 3 judged places in lists.
        rate = 100 * report["success"].mean()
    elif settings.target is None:
        rate = misclassification_rate(attacked.classes, settings.origin)
    else:
        rate = success_rate(attacked.classes, settings.target)
    return {
        "experiment": command.experiment.name,
        "attack": settings.kind,
        "origin": settings.items.name or settings.origin,
        "target": "any" if settings.target is None else settings.target,
        "attacked": n,
        "successes": 0 if math.isnan(rate) else round(rate * n / 100),
        "success_rate": rate,
        "success_rate_before_rounding": 100 * report["success_before_rounding"].mean(),
        "mean_probability_before": start.probabilities.mean(),
        "mean_probability_after": attacked.probabilities.mean(),
    }


def success_lines(
    command: AttackCommand, attacked: Classes, start: Classes, rate: object
) -> list[str]:
    """Return the lines of success_results.txt, in the published layout.

    Attacked items that are not those of a class stand in place of the original class.
    """
    settings, layout = command.settings, command.layout
    record = read_record(layout.classes(command.experiment))
    last = record.get("options", {}).get("n_classes", 1000) - 1
    clean = layout.classes(command.experiment.clean)
    known = [start, attacked, *([read_classes(clean)] if clean.is_file() else [])]
    target, kind = "any", "UNTARGETED"
    if settings.target is not None:
        target = f"{settings.target}/{last} ({label_of(settings.target, known)})"
        kind = "TARGETED"
    origin = f"- ORIGINAL CLASS: {settings.origin}/{last} ({label_of(settings.origin, known)})"
    if settings.items.name:
        origin = f"- ATTACKED ITEMS: {items_text(attacked.image_ids.tolist())}"
    return [
        f"{settings.kind.upper()} ATTACK ON {command.options.dataset}",
        origin,
        f"- TARGET CLASS: {target}",
        "- PARAMETERS:",
        *(f"\t- {key} = {value}" for key, value in settings.attack.shown.items()),
        "",
        "",
        "RESULTS:",
        f"\t- {kind} ATTACK SUCCESS RATE: {rate:f}",
    ]


def items_text(ids: Sequence[int], shown: int = 20) -> str:
    """Return the number of items and the first of their ids: ``3 (1, 3, 4)``."""
    rest = ", ..." if len(ids) > shown else ""
    return f"{len(ids)} ({', '.join(map(str, ids[:shown]))}{rest})"


def label_of(number: int, known: list[Classes]) -> str:
    """Return the extractor's name of class ``number``, if any of its predictions has it."""
    for classes in known:
        if number in classes.classes:
            return classes.label_of(number)
    return f"class {number}"


if __name__ == "__main__":
    sys.exit(run(main))
