"""The sections of the report, from first to last; one whose inputs are missing says what makes them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from src.measures.verdicts import CONTROL
from src.report.attention import attention_blocks
from src.report.blocks import Facts, Folded, Section
from src.report.gallery import gallery_section
from src.report.lists import curves_section, summary_section
from src.report.names import PROTOCOLS
from src.report.outcomes import attacks_section
from src.report.promotion import promotion_section
from src.report.provenance import attack_commands, commands_table, ran
from src.report.studies import image_quality_table, study_sections
from src.report.study import Study
from src.report.tables import Table
from src.report.tradeoff import tradeoff_section
from src.report.verdict import effects_section, verdict_section

ATTACK_SCRIPT = "classify_extract_attack.py"


def sections(study: Study, items: Sequence[int], users: Sequence[int]) -> list[Section]:
    """Return all sections: the verdict, the trade-off and the main table are open, the rest is folded."""
    promotion = promotion_section(study.layout, "promotion", "How far attacks push items")
    effects = _of_lists("effects", "Attacks, the largest effect first", study, effects_section)
    details = [
        *([] if promotion.missing else [effects]),
        _of_lists("summary", "What the attacks do to the lists", study, summary_section),
        _of_lists("curves", "Category hit ratio and nCDCG over K", study, curves_section),
        _of_images("attacks", "What the attacks do to the images", study, attacks_section),
        _of_images(
            "gallery", "Single items", study, partial(gallery_section, items=items, users=users)
        ),
        _attention(study),
        _image_quality(study),
        *(Section(*of) for of in study_sections(study.layout)),
        _what_was_run(study),
    ]
    return [
        verdict_section(study, "verdict", "Verdict"),
        _of_lists("tradeoff", "Accuracy against robustness", study, tradeoff_section),
        *([effects, promotion] if promotion.missing else [promotion]),
        *(replace(section, folded=True) for section in details),
    ]


def _of_lists(
    anchor: str, title: str, study: Study, make: Callable[[Study, str, str], Section]
) -> Section:
    if study.runs:
        return make(study, anchor, title)
    name = study.layout.dataset
    first = study.attacked[0].name if study.attacked else "<attacked experiment>"
    missing = f"python rec_generator.py --dataset {name} --experiment_name {first} original"
    return Section(anchor, title, missing=missing)


def _of_images(
    anchor: str, title: str, study: Study, make: Callable[[Study, str, str], Section]
) -> Section:
    if study.attacked:
        return make(study, anchor, title)
    missing = (
        f"python classify_extract_attack.py --dataset {study.layout.dataset} --attack_type pgd --eps 8 "
        "--origin_class <class> --target_class <class>"
    )
    return Section(anchor, title, missing=missing)


def _what_was_run(study: Study) -> Section:
    commands, versions = ran(study.layout)
    shown = pd.DataFrame(
        [
            (of.stage, of.command, ", ".join(map(str, of.seeds)) or "–", of.artifacts, of.date)
            for of in commands
        ],
        columns=["stage", "command", "seeds", "artifacts", "date"],
    )
    table = Table("commands", f"{len(commands)} commands", shown, commands_table(commands), "", 2)
    facts = _facts(study)
    if dates := sorted({of.date for of in commands}):
        facts["made"] = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    facts["versions"] = ", ".join(f"{name} {' and '.join(of)}" for name, of in versions.items())
    text = []
    if any(len(of) > 1 for of in versions.values()):
        text.append("The artifacts were made with several versions of some packages.")
    return Section("run", "What was run", text, [Facts(facts), Folded(table.title, [table])])


def _facts(study: Study) -> dict[str, str]:
    """Return the facts of the study by their titles, a line each."""
    facts = {
        "attacked classes": "; ".join(study.pairs.values()),
        "extractors": _listed(of.extractor for of in study.attacked),
        "attacks": _listed(study.label(of) for of in study.attacked),
    }
    clean = [run for run in study.runs if run.experiment.attack is None]
    attacked = [run for run in study.runs if run.experiment.attack]
    if attacked:
        facts["recommenders"] = _listed(
            f"{run.model} ({run.epochs} epochs, lists of {run.top_k})" for run in attacked
        )
        facts["protocols"] = _listed(PROTOCOLS[run.protocol] for run in attacked)
        facts["seeds"] = _listed(str(seed) for seed in sorted({run.seed for run in attacked}))
        facts["seeds of clean runs"] = _listed(
            str(of) for of in sorted({run.seed for run in clean})
        )
        facts["fidelity"] = _listed(run.fidelity for run in attacked)
    return {name: text for name, text in facts.items() if text}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _attention(study: Study) -> Section:
    anchor, title = "attention", "Where attention goes"
    blocks = attention_blocks(study)
    if blocks:
        text = ["What audits.attention found in the attacked images of each experiment."]
        return Section(anchor, title, text, blocks)
    return Section(anchor, title, missing=_same_attack(study, "-m audits.attention"))


def _image_quality(study: Study) -> Section:
    anchor, title = "quality", "Image quality"
    if table := image_quality_table(study.layout):
        return Section(anchor, title, blocks=[table])
    missing = f"python -m audits.images score --dataset {study.layout.dataset} --all"
    return Section(anchor, title, missing=missing)


def _same_attack(study: Study, script: str) -> str:
    """Return the command of an attack with the name of another script that takes the same options."""
    commands = attack_commands(study.layout)
    for experiment in study.attacked:
        command = commands.get(experiment.name, "")
        if experiment.attack != CONTROL and ATTACK_SCRIPT in command:
            return command.replace(ATTACK_SCRIPT, script)
    return f"python {script} --dataset {study.layout.dataset} [the options of the attack]"
