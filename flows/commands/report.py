"""`uvmap report`: check a product against its checksums and show what it holds."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, show


def report(
    product: Annotated[Path, typer.Argument(help="Folder of a product.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Check a product against its checksums and say what it holds and where its report page is.

    Example: uvmap report out/china/440300
    """
    from pipeline.product.files import check_product, read_manifest

    manifest = read_manifest(product)
    faults = check_product(product)
    data = {
        "product": str(product),
        "adcode": manifest["adcode"],
        "figures": manifest["figures"],
        "files": sorted(manifest["files"]),
        "faults": faults,
        "report": str(product / "report.html"),
    }
    lines = [f"{key:<18} {value}" for key, value in manifest["figures"].items() if not isinstance(value, dict)]
    lines += [f"{key:<18} {value}" for key, value in manifest["figures"].get("accuracy", {}).items()]
    lines += [f"file               {name} ({known['bytes']} bytes)" for name, known in manifest["files"].items()]
    lines += [f"FAULT              {fault}" for fault in faults] or ["whole: every file fits its checksum"]
    show(data, text="\n".join([*lines, f"report page        {data['report']}"]), as_json=json)
    if faults:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)
