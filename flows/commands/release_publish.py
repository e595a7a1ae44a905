"""`uvmap release publish`: a checked release as a draft with a DOI, and, where asked, as a published record."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, say_when_slow, show


class Target(StrEnum):
    """Sites."""

    sandbox = "sandbox"
    production = "production"


def publish(
    release: Annotated[Path, typer.Argument(help="Folder of the release.")],
    *,
    to: Annotated[
        Target, typer.Option(help="Site: the sandbox is for trying, its DOIs lead nowhere.")
    ] = Target.sandbox,
    really: Annotated[
        bool, typer.Option("--publish", help="Publish; without, it stays a draft. What is published cannot be changed.")
    ] = False,
    new_version_of: Annotated[
        str | None,
        typer.Option(help="Record (number or DOI) that this is a new version of; 'none' for a first version there."),
    ] = None,
    previous: Annotated[Path | None, typer.Option(help="Folder of the last release, for the check.")] = None,
    secret_block: Annotated[str | None, typer.Option(help="Prefect secret block with the token.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be sent, and send nothing.")] = False,
    base_url: Annotated[str | None, typer.Option(help="Another server with Zenodo's interface.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a release to Zenodo: a draft with a reserved DOI in all its texts, every file checked by MD5.

    The token is read from ZENODO_SANDBOX_TOKEN or ZENODO_TOKEN, or from a Prefect secret block. A run that was stopped
    goes on where it was.

    Example: uvmap release publish out/release-1.0.0 --to sandbox --dry-run
    """
    from pipeline.release.zenodo.client import BASE_URLS, TOKENS, ZenodoClient
    from pipeline.release.zenodo.errors import PublishError
    from pipeline.release.zenodo.publish import PublishRequest, publish_release

    url = (base_url or BASE_URLS[to.value]).rstrip("/")
    if dry_run:
        _describe(release, to.value, url, new_version_of, previous, really=really, as_json=as_json)
        return
    blocking = _blocking_gates(release, previous)
    if blocking:
        raise PublishError(
            f"{release}: the check fails at {', '.join(blocking)}; `uvmap release check {release}` says what to mend, "
            "or waive a gate by name there"
        )
    token = _token(TOKENS[to.value], secret_block, url)
    with ZenodoClient(url, token) as client:
        done = publish_release(
            client,
            PublishRequest(folder=release, target=to.value, publish=really, new_version_of=new_version_of),
            tell=say,
        )
    data = done.as_dict()
    lines = [
        f"{key:<12} {data[key]}" for key in ("repository", "deposition", "doi", "concept_doi", "published", "page")
    ]
    lines.append(f"{'files':<12} {len(done.sent)} sent, {len(done.held)} there already, {len(done.removed)} removed")
    if not data["published"]:
        lines.append("next: look at the draft on the site, then the same command with --publish")
    show(data, text="\n".join(lines), as_json=as_json)


def _describe(
    release: Path,
    target: str,
    url: str,
    new_version_of: str | None,
    previous: Path | None,
    *,
    really: bool,
    as_json: bool,
) -> None:
    """What would be asked and sent."""
    from pipeline.release.record import read_record
    from pipeline.release.zenodo.drafts import predecessor
    from pipeline.release.zenodo.model import deposit_metadata
    from pipeline.release.zenodo.publish import publication_date
    from pipeline.release.zenodo.state import read_state, state_path
    from pipeline.release.zenodo.transfer import local_manifest

    record = read_record(release)
    state = read_state(state_path(release, target))
    local = local_manifest(release)
    older = predecessor(record, new_version_of, target=target)
    metadata = deposit_metadata(record, date=publication_date(record) if state is None else state.date).body()[
        "metadata"
    ]
    data: dict[str, Any] = {
        "dry_run": True,
        "repository": url,
        "version": record.version,
        "new_version_of": older,
        "draft": None if state is None else state.deposition,
        "would_publish": really,
        "blocking": _blocking_gates(release, previous),
        "metadata": metadata,
        "files": [{"name": n, "bytes": f.bytes, "md5": f.md5} for n, f in sorted(local.items())],
        "bytes": sum(f.bytes for f in local.values()),
    }
    lines = [
        f"repository   {url}",
        f"draft        {data['draft'] or ('new version of ' + older if older else 'new')}",
        f"publish      {'yes' if really else 'no, it stays a draft'}",
        f"check        {'passed' if not data['blocking'] else 'fails at ' + ', '.join(data['blocking'])}",
        *(f"{key:<12} {value}" for key, value in metadata.items()),
        f"files        {len(local)}, {data['bytes'] / 1e6:.1f} MB",
        *(f"  {f['md5']}  {f['bytes']:>12}  {f['name']}" for f in data["files"]),
        "texts (README, CITATION.cff, STAC, RO-Crate, checksums) change once more when a DOI is reserved",
    ]
    show(data, text="\n".join(lines), as_json=as_json)


def _blocking_gates(release: Path, previous: Path | None) -> list[str]:
    """Gates of the release check that fail and are not waived."""
    from pipeline.release.check import check_release

    return list(check_release(release, previous=previous, tell=say_when_slow()).blocking)


def _token(variable: str, block: str | None, url: str) -> str:
    """The token, from a Prefect secret block where one is named, else from the environment."""
    from pipeline.release.zenodo.errors import PublishError

    if block is not None:
        from prefect.blocks.system import Secret

        try:
            secret: Any = Secret.load(block)  # outside of an event loop it is no coroutine
        except ValueError as error:
            raise PublishError(
                f"no Prefect secret block '{block}'; `prefect block ls` lists those there are"
            ) from error
        return str(secret.get())
    token = os.environ.get(variable, "")
    if not token.strip():
        raise PublishError(
            f"no token: set {variable} to one of {url} (account, Applications, Personal access tokens; scopes "
            "deposit:write and deposit:actions)"
        )
    return token


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish")(publish)
