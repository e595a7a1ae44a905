"""One city from sources to product, stage by stage.

Every stage is a plain function of a run and the results it needs; `pipeline.city.stage_table` lists them. The command
line, a notebook and the flows all call `run_stage` or `map_city`, so regenerating one city gives the same bytes as
the nation's run. A result is kept in the ground's work folder under the key of its inputs: what is there is not made
again, and what no longer fits is not used. All inputs are checked before the first stage (`pipeline.city.check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.city.check import check_city
from pipeline.city.job import CityJob
from pipeline.city.stage_store import StageResult
from pipeline.city.stage_table import STAGES, CityRun, Stage, stages_up_to


def run_stage(name: str, job: CityJob, *, progress: bool = False, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """Run one stage of a city and those it needs that are not done; find what is done.

    Args:
        name: Name of a stage.
        job: The city.
        progress: Show progress bars on standard error.
        stages: The table to take the stage from.

    Returns:
        JSON-able summary of the stage, with ``folder``, ``key`` and ``reused``.

    Raises:
        UnknownStageError: no such stage.
        PipelineError: what the sources or the model do not allow, naming the file and the values that conflict.
    """
    result = stage_result_of(name, job, progress=progress, stages=stages)
    return {**result.summary, "folder": str(result.folder), "key": result.key, "reused": result.reused}


def stage_result_of(
    name: str, job: CityJob, *, progress: bool = False, stages: Sequence[Stage] = STAGES
) -> StageResult:
    """As `run_stage`, with the result itself."""
    chosen = stages_up_to(name, stages)
    check = check_city(job.ground)
    run = CityRun(job, check.extent, progress, check.warnings)
    done: dict[str, StageResult] = {}
    for stage in chosen:
        done[stage.name] = stage.build(run, {need: done[need] for need in stage.needs})
    return done[name]


def map_city(job: CityJob, *, progress: bool = False) -> dict[str, Any]:
    """All stages of a city; the summary of its product."""
    result = stage_result_of(STAGES[-1].name, job, progress=progress)
    return {**result.summary, "reused": result.reused}
