"""Flows of what goes before and after the maps: each runs one command of `uvmap` in a process of its own.

Their parameters are the command's options under the same names; `options` takes those that have none of their own
here, such as ``{"stride_px": 112}``.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from flows.errors import StageFailedError
from flows.failures import one_line
from flows.process import run_isolated
from flows.progress import publish
from flows.slots import CPU_LIMIT, GPU_LIMIT, slot_of_limit

Cities = list[int | str]
Seed = Annotated[int, Field(ge=0)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]


@flow(name="uv-pretrain")
def uv_pretrain(  # noqa: PLR0917 - parameters of a deployment are given by name
    cities: Cities,
    out: str = "out/pretrained",
    data_root: str = "data/china",
    size: str = "tiny",
    epochs: Annotated[int, Field(gt=0)] | None = None,
    max_seconds: Annotated[float, Field(gt=0)] | None = None,
    options: dict[str, Any] | None = None,
) -> State[Any]:
    """Pretrain GeoLink on the imagery and maps of cities, without labels.

    Args:
        cities: Adcodes or names.
        out: Folder that receives the checkpoint.
        data_root: Folder of the cities' data.
        size: Size of the model, such as tiny or large.
        epochs: Passes over the tiles.
        max_seconds: Time limit.
        options: Further options of `uvmap pretrain`.
    """
    given = {"out": out, "data_root": data_root, "size": size, "epochs": epochs, "max_seconds": max_seconds}
    return _run(["pretrain", *map(str, cities)], given, options, slot=GPU_LIMIT)


@flow(name="uv-train")
def uv_train(  # noqa: PLR0917 - as above
    cities: Cities,
    out: str = "out/model",
    data_root: str = "data/china",
    encoder: str | None = None,
    pretrained: str | None = None,
    epochs: Annotated[int, Field(gt=0)] | None = None,
    max_seconds: Annotated[float, Field(gt=0)] | None = None,
    options: dict[str, Any] | None = None,
) -> State[Any]:
    """Train a model on the labels of cities.

    Args:
        cities: Adcodes or names.
        out: Folder that receives the checkpoint.
        data_root: Folder of the cities' data.
        encoder: A backbone of timm, such as efficientnet_lite0; GeoLink where left out.
        pretrained: Folder of a pretrained encoder.
        epochs: Passes over the tiles.
        max_seconds: Time limit.
        options: Further options of `uvmap train`.
    """
    given = {"out": out, "data_root": data_root, "encoder": encoder, "pretrained": pretrained, "epochs": epochs}
    return _run(["train", *map(str, cities)], {**given, "max_seconds": max_seconds}, options, slot=GPU_LIMIT)


@flow(name="uv-sample")
def uv_sample(  # noqa: PLR0917 - as above
    seed: Seed,
    products: str = "out/china",
    out: str = "out/sample",
    per_region: Annotated[int, Field(gt=0)] = 4,
    mapped: Annotated[int, Field(gt=0)] = 30,
    candidate: Annotated[int, Field(gt=0)] = 60,
    rest: Annotated[int, Field(gt=0)] = 120,
) -> State[Any]:
    """Draw the cities and points of an assessment: what interpreters label, and what the estimate needs.

    Args:
        seed: Seed of the survey: keep it, and a pilot can grow.
        products: Folder of the cities' products.
        out: Folder that receives the sample.
        per_region: Cities drawn in each of the seven regions.
        mapped: Points per city in mapped urban village.
        candidate: Points per city where omissions hide.
        rest: Points per city elsewhere.
    """
    drawn = f"{out}/cities.csv"
    state = _run(["sample", "cities"], {"seed": seed, "per_region": per_region, "out": drawn})
    if not state.is_completed():
        return state
    given = {"cities": drawn, "products": products, "seed": seed, "out": out}
    return _run(["sample", "points"], {**given, "mapped": mapped, "candidate": candidate, "rest": rest})


@flow(name="uv-estimate")
def uv_estimate(  # noqa: PLR0917 - as above
    labelled: str,
    out: str = "out/assessment",
    psu_selection: Literal["probability", "pps", "purposive", "census"] = "probability",
    second_stage_stratum: str | None = "map_stratum",
    product: str | None = None,
    options: dict[str, Any] | None = None,
) -> State[Any]:
    """Accuracy with intervals from a labelled sample.

    Args:
        labelled: Labelled sample of `uvmap label merge`.
        out: Folder that receives the report.
        psu_selection: How the cities were chosen.
        second_stage_stratum: Column that cuts a city into strata.
        product: Name and version of the map.
        options: Further options of `uvmap assess sample`.
    """
    given = {"psu_selection": psu_selection, "second_stage_stratum": second_stage_stratum, "out": out}
    return _run(["assess", "sample", labelled], {**given, "product": product}, options)


@flow(name="uv-analyze")
def uv_analyze(
    campaign: str = "china",
    out: str = "out/analysis",
    products: str | None = None,
    assessment: str | None = None,
    options: dict[str, Any] | None = None,
) -> State[Any]:
    """Analyse the products of a campaign.

    Args:
        campaign: Name of a campaign, or path of its YAML file.
        out: Folder that receives report and tables.
        products: Folder of the cities' products, in place of the campaign's.
        assessment: Folder of the assessment, for areas corrected by it.
        options: Further options of `uvmap analyze`.
    """
    given = {"campaign": campaign, "out": out, "products": products, "assessment": assessment}
    return _run(["analyze"], given, options)


@flow(name="uv-release")
def uv_release(
    version: Version,
    campaign: str = "china",
    out: str = "out/release",
    options: dict[str, Any] | None = None,
) -> State[Any]:
    """Build the release of a campaign from its products; publishing it stays a command of a person.

    Args:
        version: Version of the release, such as 1.2.0.
        campaign: Name of a campaign, or path of its YAML file.
        out: Folder that receives the release.
        options: Further options of `uvmap release build`.
    """
    return _run(["release", "build"], {"campaign": campaign, "version": version, "out": out}, options)


def command_arguments(words: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The words of a command line: flags for true and false, an option again for each of several values."""
    arguments = list(words)
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            for one in value if isinstance(value, list | tuple) else [value]:
                arguments += [f"--{flag}", str(one)]
    return arguments


@task(name="command", task_run_name="{what}", cache_policy=NO_CACHE, persist_result=False)
def run_command(what: str, arguments: list[str], slot: str) -> dict[str, Any] | State[Any]:
    """Run one command in a process of its own, holding a slot; what it printed as JSON."""
    logger = get_run_logger()
    logger.info("uvmap %s", " ".join(arguments))
    with slot_of_limit(slot):
        try:
            return run_isolated({"kind": "command", "arguments": arguments}, what=what, log=logger.info).result
        except StageFailedError as error:
            return Failed(message=one_line(error))


def _run(
    words: Sequence[str], given: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, slot: str = CPU_LIMIT
) -> State[Any]:
    """Run a command; the flow's state, with what it said as an artifact."""
    what = " ".join(words[:2] if words[0] in {"sample", "assess", "release"} else words[:1])
    state = run_command(what, command_arguments(words, {**given, **(options or {})}), slot, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message)
    answer: dict[str, Any] = state.result()  # type: ignore[assignment]
    rows = [(k, v) for k, v in answer.items() if not isinstance(v, dict | list)]
    text = "\n".join([f"# uvmap {what}", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])
    publish(create_markdown_artifact, key=f"uv-{what.replace(' ', '-')}", markdown=text + "\n", description=what)
    said = ", ".join(f"{k} {v}" for k, v in rows[:6])
    return Completed(message=f"{what}: {said}")
