"""Tables of results in files, each with a manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage


def manifest_of(
    stage: str, options: Mapping[str, object], inputs: Mapping[Layout, Sequence[Path]]
) -> Manifest:
    """Return the manifest of a table made of files of several data sets, whose names precede theirs."""
    hashes = {
        f"{layout.dataset}/{name}": digest
        for layout, files in inputs.items()
        for name, digest in Manifest.of(stage, {}, files).inputs.items()
    }
    return replace(Manifest.of(stage, options, ()), inputs=hashes)


def tabulated(
    path: Path, manifest: Manifest, make: Callable[[], pd.DataFrame], *, force: bool
) -> pd.DataFrame:
    """Return the table at ``path`` (TSV); make and write it unless ``manifest`` says it is current."""
    stage = Stage(manifest, [path])
    if stage.is_up_to_date(force):
        return pd.read_csv(path, sep="\t", dtype={"k": "Int64"}).fillna({"placebo": ""})
    table = make()
    stage.publish_tables(table)
    print(f"written: {path}")
    return table
