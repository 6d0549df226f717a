"""Tables of reconstructions by inversion: a row per image, and a comparison of conditions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_outputs
from src.artifacts.reconstructions import METRICS_FILE, write_reconstructions
from src.artifacts.tables import write_table
from src.datasets.image_set import ImageSet
from src.leaks.attack import InversionOutcome
from src.leaks.command import UNRECORDED
from src.measures.agreement import capped
from src.measures.terminal import format_number
from src.metrics.image_quality import mse, psnr


def image_table(
    outcome: InversionOutcome, attacked: ImageSet, untransformed: ImageSet
) -> pd.DataFrame:
    """Return a row for each image: cost, restart, MSE (pixels in [0, 1]), PSNR (dB) of the stored file.

    Both are against the attacked image and, with the ending ``_untransformed``, against the image
    before its transformation; NaN if every restart diverged (-1), since the file then shows no
    reconstruction. ``label_found`` is -1 if labels were given.
    """
    converged = outcome.restarts >= 0
    found = outcome.pixels / 255
    columns: dict[str, np.ndarray] = {
        "id": attacked.ids,
        "label": attacked.classes,
        "label_found": outcome.classes,
        "cost": outcome.costs,
        "restart": outcome.restarts,
        "seconds": outcome.seconds,
    }
    for ending, images in (("", attacked), ("_untransformed", untransformed)):
        for name, metric in (("mse", mse), ("psnr", psnr)):
            values = metric(images.pixels() / 255, found)
            columns[f"{name}{ending}"] = np.where(converged, values, np.nan)
    return pd.DataFrame(columns)


def condition_record(described: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Return the options ``described`` and the results, in values that JSON knows.

    Means are over the images that did not diverge, None if all did; PSNR is ``capped`` in them.
    ``labels_recovered`` is the share of images whose label was found, None if labels were given.
    """
    sought = (table["label_found"] >= 0).any()
    found = table[table["restart"] >= 0]
    names = ("cost", "mse", "psnr", "mse_untransformed", "psnr_untransformed")
    means = {name: pd.Series(capped(name, found[name].to_numpy(float))).mean() for name in names}
    return {
        **described,
        "n_images": len(table),
        "diverged": int((table["restart"] < 0).sum()),
        "labels_recovered": float((table["label"] == table["label_found"]).mean())
        if sought
        else None,
        "seconds": round(float(table["seconds"].sum()), 3),
        **{f"mean_{name}": value if np.isfinite(value) else None for name, value in means.items()},
    }


def write_condition(
    folder: Path,
    described: Mapping[str, Any],
    outcome: InversionOutcome,
    attacked: ImageSet,
    untransformed: ImageSet,
) -> None:
    """Write the three folders of images, ``<folder>/metric.tsv`` and ``<folder>.json``."""
    table = image_table(outcome, attacked, untransformed)
    write_reconstructions(
        folder,
        attacked.ids.tolist(),
        attacked.classes.tolist(),
        outcome.pixels,
        attacked.pixels(),
        untransformed.pixels(),
    )
    record = condition_record(described, table)
    with atomic_outputs(folder / METRICS_FILE, record_of(folder)) as (metrics_file, record_file):
        write_table(metrics_file, table)
        record_file.write_text(json.dumps(record, indent=2) + "\n")


def record_of(folder: Path) -> Path:
    """Return the JSON file beside the folder of a condition, whose name may hold dots."""
    return folder.with_name(f"{folder.name}.json")


def conditions_in(root: Path) -> list[Path]:
    """Return the folders of all conditions of ``root``, in the order of their names."""
    return sorted(folder for folder in root.iterdir() if record_of(folder).is_file())


def outputs_of(folder: Path, images: ImageSet) -> list[Path]:
    """Return the files of a condition without its originals; others may add files to ``folder``."""
    places = zip(images.ids, images.classes, strict=True)
    pictures = [folder / f"{image_id}_{number}_rec.png" for image_id, number in places]
    return [record_of(folder), folder / METRICS_FILE, *pictures]


def read_records(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the JSON records of conditions."""
    return [json.loads(record_of(folder).read_text()) for folder in folders]


def title(record: Mapping[str, Any]) -> str:
    """Return a condition in a few words, for figures and tables."""
    words = [record["arch"], record["optim"]]
    if record["epochs"] != UNRECORDED:
        words.append(f"{record['epochs']} epochs" if record["epochs"] else "untrained")
    if record["augmentation"] != "none":
        words.append(record["augmentation"])
    elif record.get("trained_augmentation") not in (None, "none"):
        words.append(f"trained with {record['trained_augmentation']}")
    if record["labels"] != "given":
        words.append(f"{record['labels']} labels")
    if record["trained_defence"]:
        words.append(f"trained with {record['trained_defence']}")
    if record["observation"] != "gradients":
        words.append(record["observation"])
    return ", ".join([*words, *([record["defence"]] if record["defence"] else [])])


def overview(folders: Sequence[Path]) -> str:
    """Return a line per condition: diverged images, means of the others, and the labels found."""
    rows = [
        {
            "condition": title(record),
            "images": record["n_images"],
            "diverged": record["diverged"],
            "cost": record["mean_cost"],
            "mse": record["mean_mse"],
            "psnr": record["mean_psnr"],
            "psnr_untransformed": record["mean_psnr_untransformed"],
            "labels": record["labels_recovered"],
            "seconds": record["seconds"],
        }
        for record in read_records(folders)
    ]
    frame = pd.DataFrame(rows).dropna(axis=1, how="all")
    return frame.to_string(index=False, float_format=format_number)
