"""Tables of a report as text: for the page, for Markdown and for LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "–": "--",
    "σ": r"$\sigma$",
    "×": r"$\times$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


class Text(NamedTuple):
    """A table whose cells are texts.

    Attributes:
        name: For file names.
        caption: What it shows.
        head: Names of the columns.
        rows: As many cells each.
        left: How many columns, from the first, hold words; the rest hold numbers.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int


def markdown(table: Text) -> str:
    """A table of GitHub's Markdown, with its caption above."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_markdown_cell(cell) for cell in cells) + " |"

    rule = "|" + "---|" * table.left + "---:|" * (len(table.head) - table.left)
    rows = [line(row) for row in table.rows]
    return "\n".join([f"{_markdown_cell(table.caption)}\n", line(table.head), rule, *rows]) + "\n"


def latex(table: Text) -> str:
    r"""A floating table with the rules of the package ``booktabs``."""

    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(_latex_cell(cell) for cell in cells) + r" \\"

    columns = "l" * table.left + "r" * (len(table.head) - table.left)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex_cell(table.caption)}}}",
            rf"  \label{{tab:{table.name}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            line(table.head),
            r"    \midrule",
            *map(line, table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _markdown_cell(text: str) -> str:
    # Backslashes first, so that those of the other escapes stay.
    escaped = text.replace("\\", "\\\\")
    for character in "|<>*_`[]":
        escaped = escaped.replace(character, f"\\{character}")
    return " ".join(escaped.split())


def _latex_cell(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
