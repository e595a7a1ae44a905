"""`uvmap diff`: what became of the villages between two products or releases."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, show


def diff(
    old: Annotated[Path, typer.Argument(help="Folder of the older product, or a polygon file with `uv_id`.")],
    new: Annotated[Path, typer.Argument(help="The newer one.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives events.csv, events.parquet and diff.html.")] = Path(
        "out/diff"
    ),
    json: JsonFlag = False,
) -> None:
    """Match the villages of two products by overlap: unchanged, changed, split, merged, new and gone, with areas.

    Example: uvmap diff out/china-v1/440300 out/china-v2/440300 --out out/diff-440300
    """
    from pipeline.product.identity_page import read_villages, write_diff

    before, after = read_villages(old), read_villages(new)
    figures = write_diff(before, after, out, title=f"{old.name} to {new.name}")
    text = "\n".join(
        f"{key:<22} {value:.4f}" if key == "iou" else f"{key:<22} {value:.0f}" for key, value in figures.items()
    )
    data = {**figures, "events": str(out / "events.csv"), "page": str(out / "diff.html")}
    show(data, text=f"{text}\nnext: open {out / 'diff.html'}", as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(diff)
