"""HTML page of the report, and the files beside it."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from src.artifacts.atomic import atomic_outputs
from src.artifacts.layout import Layout
from src.artifacts.locks import sole_maker
from src.artifacts.manifest import Manifest, read_record
from src.artifacts.progress import progress_bar
from src.report.blocks import Hidden, Section, flat
from src.report.plots import Plot
from src.report.provenance import OWN, ran
from src.report.sections import sections
from src.report.study import Study
from src.report.tables import Table

TEMPLATES = Path(__file__).parent / "templates"
FIGURES, TABLES = "figures", "tables"
_PLAIN = " !$&'()*+,-./:;=?@_~"
"""Signs that need no escape in a data URI within double quotes, beside letters and digits."""
_FOLDERS = {".png": FIGURES, ".pdf": FIGURES, ".tsv": TABLES, ".tex": TABLES}


def write_report(
    study: Study, out: Path, items: Sequence[int], users: Sequence[int], *, force: bool
) -> bool:
    """Write the page, its figures (PNG, PDF) and tables (TSV, LaTeX) unless they are current.

    Figures and tables are in ``figures/`` and ``tables/`` of the data set's results. Files of an earlier
    report that this one lacks are removed. Returns whether anything was written.
    """
    manifest = _manifest(study, items, users)
    with sole_maker(out):
        earlier = _recorded(study.layout, out)
        if not force and earlier and manifest.is_current([out, *earlier]):
            return False
        shown = sections(study, items, users)
        files = _files(study.layout, shown)
        with atomic_outputs(out, *files) as (page, *temporaries):
            for temporary, content in zip(temporaries, files.values(), strict=True):
                temporary.write_bytes(content)
            page.write_text(render(study, shown), encoding="utf-8")
        for path in set(earlier).difference(files):
            path.unlink(missing_ok=True)
        manifest.write([out, *files])
    return True


def render(study: Study, shown: Sequence[Section]) -> str:
    """Return the HTML text, which fetches nothing."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": _svg_uri, "groupby_runs": _runs_of_a_kind}
    script = (TEMPLATES / "report.js").read_text()
    return environment.get_template("report.html.j2").render(
        dataset=study.layout.dataset,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        present=[section for section in shown if not section.missing],
        absent=[section for section in shown if section.missing],
    )


def _runs_of_a_kind(blocks: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Group neighbours of the same kind."""
    return [(kind, list(of)) for kind, of in itertools.groupby(blocks, lambda block: block.kind)]


def _svg_uri(plot: Plot) -> str:
    """Return an SVG as a data URI in which only signs with a meaning in addresses are escaped."""
    text = re.sub(r"\s*\n\s*", " ", plot.page.decode())
    return f"data:image/svg+xml,{quote(text, safe=_PLAIN)}"


def _manifest(study: Study, items: Sequence[int], users: Sequence[int]) -> Manifest:
    """Return the manifest of the page; dates of artifacts are shown, but do not make it stale."""
    commands, versions = ran(study.layout)
    options = {
        "k": study.k,
        "items": list(items),
        "users": list(users),
        "runs": [run.name for run in study.runs],
        "trainings": [layout.dataset for layout, _ in study.others],
        "commands": [{**asdict(command), "date": None} for command in commands],
        "versions": versions,
    }
    return Manifest.of(OWN, options, [*study.inputs(), *sorted(TEMPLATES.iterdir())])


def _files(layout: Layout, shown: Iterable[Section]) -> dict[Path, bytes]:
    """Return the content of each file beside the page."""
    blocks = list(flat(block for section in shown for block in section.blocks))
    contents: dict[str, bytes] = {}
    for plot in progress_bar(
        [of for of in blocks if isinstance(of, Plot)], desc="figures", leave=False
    ):
        contents |= {f"{plot.name}.{suffix}": plot.light[suffix] for suffix in ("png", "pdf")}
    for block in blocks:
        table = block if isinstance(block, Table) else getattr(block, "table", None)
        if table is not None:
            contents[f"{table.name}.tsv"] = table.tsv.encode()
        if table is not None and not isinstance(block, Hidden):
            contents[f"{table.name}.tex"] = table.latex.encode()
    return {_place(layout, name): content for name, content in contents.items()}


def _place(layout: Layout, name: str) -> Path:
    return layout.results / _FOLDERS[Path(name).suffix] / name


def _recorded(layout: Layout, out: Path) -> list[Path]:
    """Return the files beside the page that the record of an earlier one names, in its order."""
    names = read_record(out).get("outputs", {})
    return [_place(layout, name) for name in names if Path(name).suffix in _FOLDERS]
