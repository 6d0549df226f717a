"""Tables of the report: for the page, as TSV of numbers, and in LaTeX."""

import re
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

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
    """One table under its file name's stem."""

    name: str
    title: str
    shown: pd.DataFrame
    """Text as people read it; a cell may have several lines."""
    data: pd.DataFrame
    """The numbers behind it, unrounded."""
    caption: str = ""
    headings: int = 1
    """How many columns at the left name the row."""
    kind = "table"

    @property
    def header(self) -> list[str]:
        return list(self.shown)

    @property
    def rows(self) -> list[list[list[str]]]:
        """The lines of each cell."""
        return [[str(cell).split("\n") for cell in row] for row in self.shown.to_numpy(object)]

    @property
    def latex(self) -> str:
        """A ``table``, or what breaks over pages (``longtable``) where cells are whole sentences.

        It needs the packages booktabs, graphicx where the table has to shrink to the width of the text,
        and with sentences array and longtable.
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
            # Names of experiments are longer than the column, and break at their underscores.
            rows = [row.replace(r"\_", r"\_\allowbreak{}") for row in rows]
            lines = [rf"{caption} \\", *head, r"\endhead", *rows, *foot]
            return _environment("longtable", alignment, lines)
        inner = _environment("tabular", alignment, [*head, *rows, *foot])
        if sum(self._widths) > LATEX_LINE:
            inner = "\n".join([r"\resizebox{\linewidth}{!}{%", inner.rstrip(), "}", ""])
        return "\n".join([r"\begin{table}", r"\centering", caption, inner + r"\end{table}", ""])

    @property
    def print_zoom(self) -> float:
        """By how much the table shrinks on paper to fit its width; sentences wrap there."""
        width = sum(min(width, LONGEST_WORD) for width in self._widths)
        return round(min(1.0, PRINTED_LINE / max(width, 1)), 2)

    @property
    def has_long_names(self) -> bool:
        """Whether the first column would hide the others if it stayed in sight on a phone."""
        return self._widths[0] > LONGEST_NAME

    @cached_property
    def _widths(self) -> list[int]:
        """Of the columns: characters of the longest line, and what is between columns."""
        cells = [[[name] for name in self.header], *self.rows]
        return [
            2 + max(len(line) for cell in column for line in cell)
            for column in zip(*cells, strict=True)
        ]

    @property
    def _alignment(self) -> str:
        """Of the columns: names left, numbers right, sentences in a column of their own width."""
        return "".join(
            SENTENCE if width > LONGEST_WORD else "l" if column < self.headings else "r"
            for column, width in enumerate(self._widths)
        )

    @property
    def tsv(self) -> str:
        return self.data.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def _environment(name: str, alignment: str, lines: list[str]) -> str:
    return "\n".join([rf"\begin{{{name}}}{{{alignment}}}", *lines, rf"\end{{{name}}}", ""])


def _latex_cell(lines: list[str]) -> str:
    text = r" \\ ".join(map(_latex_text, lines))
    if len(lines) == 1:
        return text
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\end{{tabular}}"


def _latex_text(text: str) -> str:
    """``text`` with what LaTeX would read as its own escaped; two hyphens stay two."""
    return "".join(_LATEX.get(sign, sign) for sign in re.sub("-(?=-)", _KEPT_HYPHEN, text))
