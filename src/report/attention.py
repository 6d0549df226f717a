"""Attention of the attacked experiments that ``audits.attention`` has analysed."""

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from src.artifacts.columns import read_results
from src.artifacts.experiments import Experiment
from src.measures.attention_tables import MEANS, MOVED, outcome_to_show
from src.report.estimates import estimate_of, estimate_text, number
from src.report.gallery import data_uri
from src.report.study import Study
from src.report.tables import Table

_WIDEST = 1800
"""Pixels of an embedded figure; the file beside the images has all of them."""
_QUALITY = 88
_ENDINGS = (".tsv", "_summary.tsv")


@dataclass(frozen=True)
class Drawn:
    """Figure that a stage has drawn."""

    title: str
    alt: str
    source: str
    """Image as a data URI."""
    width: int
    """Width in pixels of the page at which the figure is legible."""
    kind = "drawn"


def attention_blocks(study: Study) -> list[Table | Drawn]:
    """Return a table and two figures of each experiment with ``attention.tsv``."""
    blocks: list[Table | Drawn] = []
    for experiment in study.attacked:
        if all(study.layout.attention(experiment, of).is_file() for of in _ENDINGS):
            blocks += _of_experiment(study, experiment)
    return blocks


def _of_experiment(study: Study, experiment: Experiment) -> list[Table | Drawn]:
    layout = study.layout
    images, summary = (
        read_results(layout.attention(experiment, ending), ()) for ending in _ENDINGS
    )
    name = f"{study.label(experiment)} on extractor {experiment.extractor}"
    blocks: list[Table | Drawn] = [_table(experiment, name, summary, outcome_to_show(images))]
    for ending, what in (
        ("_panels.png", "single images: clean, attacked, their attention before and after"),
        ("_scatter.png", "how far attention moved, by the outcome of the attack"),
    ):
        if (path := layout.attention(experiment, ending)).is_file():
            blocks.append(drawn(path, f"{name}: {what}", f"Attention under {name}, {what}"))
    return blocks


def _table(experiment: Experiment, name: str, summary: pd.DataFrame, outcome: str) -> Table:
    """Return shifts of attention, and differences between images with and without ``outcome``."""
    rows = summary[(summary["kind"] == MOVED) & (summary["outcome"] == outcome)]
    rows = rows[rows["measure"].isin(("1 - iou_top", "1 - pearson", "centroid_distance"))]
    first, second = MEANS[outcome].values()
    shown = pd.DataFrame(
        {
            "read-out": rows["read_out"],
            "measure": rows["measure"],
            "images": rows["n"],
            first: rows["mean_success"].map(number),
            second: rows["mean_failed"].map(number),
            "difference": [
                estimate_text(estimate_of(row, "difference")) for _, row in rows.iterrows()
            ],
            "p": rows["mann_whitney_p"].map(lambda p: number(p, 2)),
        }
    )
    caption = "Relabelled: no attack, but a clean image asked for the target instead of its class."
    return Table(f"attention_{experiment.name}", f"Attention, {name}", shown, rows, caption, 2)


def drawn(path: Path, title: str, alt: str) -> Drawn:
    """Embed a figure, as JPEG if it is large, since it then holds photographs."""
    with Image.open(path) as image:
        width = min(image.width, _WIDEST)
        if path.stat().st_size < 400_000:
            return Drawn(title, alt, data_uri(path.read_bytes(), "image/png"), width // 2)
        height = round(image.height * width / image.width)
        smaller = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    smaller.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return Drawn(title, alt, data_uri(stream.getvalue(), "image/jpeg"), width // 2)
