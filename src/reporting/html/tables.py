"""Tables of the report: for the page, as TSV of numbers, and in LaTeX."""

from dataclasses import dataclass

import pandas as pd

_LATEX = {
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
        r"""A ``tabular`` (packages booktabs and amsmath) in a ``table`` with the caption and a label."""
        header = " & ".join(_latex_cell([name]) for name in self.header)
        body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in self.rows]
        alignment = "l" * self.headings + "r" * (len(self.header) - self.headings)
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_latex_text(f'{self.title}. {self.caption}'.strip())}}}",
                rf"\label{{tab:{self.name}}}",
                rf"\begin{{tabular}}{{{alignment}}}",
                r"\toprule",
                rf"{header} \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    @property
    def tsv(self) -> str:
        return self.data.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def _latex_cell(lines: list[str]) -> str:
    texts = [_latex_text(line) for line in lines]
    stacked = r" \\ ".join(texts)
    return texts[0] if len(texts) == 1 else rf"\shortstack{{{stacked}}}"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
