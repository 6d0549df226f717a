"""Tables of the report for the page, as TSV of numbers, and in LaTeX."""

import re
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from src.artifacts.tables import NUMBERS

LONGEST_WORD = 60
"""Characters; what is longer is a sentence or a command, which needs several lines in print."""
LONGEST_NAME = 24
"""Characters of half a phone's width."""
SENTENCE = r">{\raggedright\arraybackslash}p{.42\linewidth}"
LATEX_LINE, PRINTED_LINE = 75, 130
"""Characters that fit between the margins of an article, and of the printed page."""
_KEPT_HYPHEN = "\N{HYPHEN}"
_LATEX = {
    _KEPT_HYPHEN: "-{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
    "×": r"$\times$",
    "→": r"$\to$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "Δ": r"$\Delta$",
    "†": r"$^\dagger$",
    "–": "--",
    "…": r"\ldots{}",
}


@dataclass(frozen=True)
class Table:
    """Table under its file name's stem."""

    name: str
    title: str
    shown: pd.DataFrame
    """Text for readers; a cell may have several lines."""
    data: pd.DataFrame
    """Numbers behind the text, unrounded."""
    caption: str = ""
    headings: int = 1
    """Number of columns at the left that name the row."""
    kind = "table"

    @property
    def header(self) -> list[str]:
        return list(self.shown)

    @property
    def rows(self) -> list[list[list[str]]]:
        """Return the lines of each cell."""
        return [[str(cell).split("\n") for cell in row] for row in self.shown.to_numpy(object)]

    @property
    def latex(self) -> str:
        """Return a ``table``, or a ``longtable`` across pages if cells are whole sentences.

        It needs the packages booktabs, graphicx if the table must shrink to the width of the text, and
        array and longtable for sentences.
        """
        caption = _latex_text(f"{self.title}. {self.caption}".strip())
        caption = rf"\caption{{{caption}}}\label{{tab:{self.name}}}"
        rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in self.rows]
        if any(len(lines) > 1 for row in self.rows for lines in row):
            rows = [rf"\addlinespace {row}" for row in rows]
        header = " & ".join(_latex_cell([name]) for name in self.header)
        head, foot = [r"\toprule", rf"{header} \\", r"\midrule"], [r"\bottomrule"]
        alignment = self._alignment
        if SENTENCE in alignment:
            # Names of experiments may exceed the column, and break at their underscores.
            rows = [row.replace(r"\_", r"\_\allowbreak{}") for row in rows]
            lines = [rf"{caption} \\", *head, r"\endhead", *rows, *foot]
            return _environment("longtable", alignment, lines)
        inner = _environment("tabular", alignment, [*head, *rows, *foot])
        if sum(self._widths) > LATEX_LINE:
            inner = "\n".join([r"\resizebox{\linewidth}{!}{%", inner.rstrip(), "}", ""])
        return "\n".join([r"\begin{table}", r"\centering", caption, inner + r"\end{table}", ""])

    @property
    def print_zoom(self) -> float:
        """Factor by which the table shrinks to fit the width of paper, on which sentences wrap."""
        width = sum(min(width, LONGEST_WORD) for width in self._widths)
        return round(min(1.0, PRINTED_LINE / max(width, 1)), 2)

    @property
    def has_long_names(self) -> bool:
        """True if the first column would hide the others if it stayed in sight on a phone."""
        return self._widths[0] > LONGEST_NAME

    @cached_property
    def _widths(self) -> list[int]:
        """Return the widths of the columns: characters of the longest line, and the space between."""
        cells = [[[name] for name in self.header], *self.rows]
        return [
            2 + max(len(line) for cell in column for line in cell)
            for column in zip(*cells, strict=True)
        ]

    @property
    def _alignment(self) -> str:
        """Return the alignment of the columns: names left, numbers right, sentences in a fixed width."""
        return "".join(
            SENTENCE if width > LONGEST_WORD else "l" if column < self.headings else "r"
            for column, width in enumerate(self._widths)
        )

    @property
    def tsv(self) -> str:
        return self.data.to_csv(sep="\t", index=False, float_format=NUMBERS, lineterminator="\n")


def _environment(name: str, alignment: str, lines: list[str]) -> str:
    return "\n".join([rf"\begin{{{name}}}{{{alignment}}}", *lines, rf"\end{{{name}}}", ""])


def _latex_cell(lines: list[str]) -> str:
    text = r" \\ ".join(map(_latex_text, lines))
    if len(lines) == 1:
        return text
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\end{{tabular}}"


def _latex_text(text: str) -> str:
    """Return ``text`` with LaTeX's special characters escaped; two hyphens stay two."""
    return "".join(_LATEX.get(sign, sign) for sign in re.sub("-(?=-)", _KEPT_HYPHEN, text))
