"""`uvmap release build`: the products of a campaign as one dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import JsonFlag, say, show

if TYPE_CHECKING:
    from regions.campaign import Campaign


def build(
    *,
    campaign: Annotated[str, typer.Option(help="Campaign by name, or the path of its YAML file.")],
    version: Annotated[str, typer.Option(help="Version of the release, X.Y.Z.")],
    out: Annotated[Path, typer.Option(help="Folder that receives the release.")],
    previous: Annotated[Path | None, typer.Option(help="Folder of the last release; none for the first.")] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="YAML file: title, creators, keywords and so on (docs/release.md).")
    ] = None,
    accuracy: Annotated[
        Path | None, typer.Option(help="Folder of `uvmap assess sample`; without, the products' own comparisons.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="With --accuracy: the reference set that it published (--publish).")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Put the score rasters into the archives.")
    ] = False,
    date: Annotated[str | None, typer.Option(help="Day of the release, YYYY-MM-DD; publishing sets it.")] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster/--no-cluster", help="Spread the work over the campaign's Dask cluster.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be built, and build nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make one dataset of all products of a campaign: archives, national files, tables, texts, checksums.

    A build that was stopped goes on where it was; the same inputs give the same bytes.

    Example: uvmap release build --campaign demo --version 1.0.0 --out out/release-1.0.0
    """
    from pipeline.release.build import ReleaseRequest, build_release, describe_release
    from pipeline.release.layout import size_text
    from pipeline.release.metadata import read_metadata
    from pipeline.release.plan import plan_release
    from regions.campaign import load_campaign

    chosen = load_campaign(campaign)
    judged = [folder for folder in (accuracy, sample) if folder is not None]
    plan = plan_release(chosen, with_scores=scores, assessment=judged)
    for adcode, why in list(plan.missing.items())[:5]:
        say(f"not in the release: {adcode}: {why}")
    if len(plan.missing) > 5:
        say(f"not in the release: {len(plan.missing) - 5} more cities")
    say(f"{len(plan.products)} cities, {len(plan.files)} files, at most {size_text(plan.bytes)}")
    if dry_run:
        data = {"version": version, "cities": len(plan.products), "missing": dict(plan.missing)}
        data |= {"files": list(plan.files), "bytes_at_most": plan.bytes}
        show(data, text="\n".join(plan.files), as_json=as_json)
        return
    request = ReleaseRequest(
        campaign=chosen,
        version=version,
        out=out,
        previous=previous,
        metadata=read_metadata(metadata),
        with_scores=scores,
        accuracy=accuracy,
        sample=sample,
        date=date,
    )
    with _spread(chosen, cluster=cluster) as spread:
        record = build_release(request, spread=spread, tell=say)
    data = describe_release(out, record)
    text = "\n".join(f"{key:<14} {value}" for key, value in data.items())
    show(data, text=f"{text}\nnext: uvmap release check {out}", as_json=as_json)


@contextmanager
def _spread(campaign: "Campaign", *, cluster: bool) -> Iterator[Any]:
    """``map``, or a map over the campaign's cluster, answers in order."""
    from functools import partial

    from pipeline.national.cluster import in_order, open_cluster

    if not cluster:
        yield map
        return
    with open_cluster(campaign.cluster) as client:
        yield partial(in_order, client)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)
