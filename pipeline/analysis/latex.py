"""Tables for papers."""

from __future__ import annotations

import pandas as pd

from pipeline.analysis.cells import lay_out
from pipeline.analysis.layouts import Layout

_PAGE_ROWS = 45
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "²": r"$^{2}$", "π": r"$\pi$", "–": "--",
          "<": r"$<$", ">": r"$>$", "−": "$-$"}  # fmt: skip


def latex_table(name: str, table: pd.DataFrame, layout: Layout) -> str:
    """A table for papers: booktabs, caption, label, note; longtable where it is longer than a page.

    Needs the packages booktabs and, for long tables, longtable.
    """
    columns, cells = lay_out(table, layout, html=False)
    spec = "".join("r" if c.is_number else "l" for c in columns) or "l"
    head = " & ".join(latex_text(c.heading) for c in columns) + r" \\"
    body = [" & ".join(latex_text(v) for v in row) + r" \\" for row in cells]
    caption = rf"\caption{{{latex_text(layout.title)}}}\label{{tab:{name.replace('_', '-')}}}"
    note = [rf"\par\smallskip\footnotesize {latex_text(layout.note)}"] if layout.note else []
    if len(body) > _PAGE_ROWS:
        lines = [rf"\begin{{longtable}}{{{spec}}}", caption + r" \\", r"\toprule", head, r"\midrule", r"\endfirsthead"]
        lines += [r"\toprule", head, r"\midrule", r"\endhead", *body, r"\bottomrule", r"\end{longtable}"]
        return "\n".join([r"% \usepackage{booktabs,longtable}", *lines, *note]) + "\n"
    lines = [r"\begin{table}", r"\centering", caption, rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule"]
    lines += [*body, r"\bottomrule", r"\end{tabular}", *note, r"\end{table}"]
    return "\n".join([r"% \usepackage{booktabs}", *lines]) + "\n"


def latex_text(text: str) -> str:
    """Text with every character that LaTeX takes for a command escaped."""
    return "".join(_LATEX.get(c, c) for c in text)
