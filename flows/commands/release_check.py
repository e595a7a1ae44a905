"""`uvmap release check`: what a release must hold before it is published."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, say_when_slow, show


def check(
    release: Annotated[Path, typer.Argument(help="Folder of the release.")],
    *,
    previous: Annotated[Path | None, typer.Option(help="Folder of the last release, where there is one.")] = None,
    max_not_predicted: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a city's ground without a prediction.")
    ] = 0.1,
    waive: Annotated[list[str] | None, typer.Option(help="Gate that may fail; once per gate, with --reason.")] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Why, in the order of --waive; the README prints it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a release: every gate says what holds and what does not; a failed one blocks publishing.

    Exit code 1 where a gate fails that nobody has waived. A waiver is kept in the release and printed in its README.

    Example: uvmap release check out/release-1.1.0 --previous out/release-1.0.0
    """
    from pipeline.release.check import check_release, waive_gates
    from pipeline.release.errors import ReleaseError

    gates, reasons = waive or [], reason or []
    if len(gates) != len(reasons):
        raise ReleaseError(f"{len(gates)} gates are waived with {len(reasons)} reasons: give --reason once per --waive")
    report = check_release(release, previous=previous, max_not_predicted=max_not_predicted, tell=say_when_slow())
    if gates or any(r.waiver is not None for r in report.results):
        waive_gates(release, report, dict(zip(gates, reasons, strict=True)))
        say("the waivers stand in the release: check it once more")
        report = check_release(release, previous=previous, max_not_predicted=max_not_predicted, tell=say_when_slow())
    lines = []
    for result in report.results:
        word = "ok" if result.passed else "waived" if result.waiver is not None else "FAILED"
        lines.append(f"{word:<7} {result.gate:<11} {result.states}")
        lines += [f"        {text}" for text in result.findings]
        if result.count > len(result.findings):
            lines.append(f"        and {result.count - len(result.findings)} more")
        if not result.passed and result.waiver is not None:
            lines.append(f"        waived: {result.waiver}")
    lines.append(
        f"may be published\nnext: uvmap release publish {release} --dry-run"
        if report.publishable
        else f"blocked by: {', '.join(report.blocking)}"
    )
    show(report.as_dict(), text="\n".join(lines), as_json=as_json)
    if not report.publishable:
        say("mend what is named, or waive a gate by name with a reason")
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)
