"""The stages of a city as a table of values: to add a stage is to add an entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.city.extent import CityExtent
    from pipeline.city.job import CityJob
    from pipeline.city.stage_store import StageResult


class UnknownStageError(PipelineError):
    """No stage has this name, or a stage needs one that does not stand before it."""


@dataclass(frozen=True)
class CityRun:
    """What every stage of a city is given beside the results it needs.

    Attributes:
        job: The city, model and settings.
        extent: Grid and area of interest.
        progress: Show progress bars on standard error.
        warnings: What the check of the inputs found.
    """

    job: CityJob
    extent: CityExtent
    progress: bool = False
    warnings: tuple[str, ...] = ()


Build = Callable[[CityRun, Mapping[str, "StageResult"]], "StageResult"]


@dataclass(frozen=True)
class Stage:
    """One stage of a city.

    Attributes:
        name: Its name on the command line, in flows and in the work folder.
        build: Finds or makes its result from the run and the results it needs; keyed by all that shapes it, most
            simply through `pipeline.city.stage_store.stage_result`.
        needs: Names of the stages whose results it reads; they stand before it in the table.
        uses_model: Whether it uses an accelerator where there is one: flows then hold a slot of the GPU limit.
    """

    name: str
    build: Build
    needs: tuple[str, ...] = ()
    uses_model: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that it will import when it is run: what a process imports ahead that forks others for stages."""
        return (self.build.module,) if isinstance(self.build, Lazily) else ()


@dataclass(frozen=True)
class Lazily:
    """A stage's function that is imported when it is called: the table is read where no stage runs."""

    module: str
    function: str

    def __call__(self, run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
        """Import the function and call it."""
        result: StageResult = getattr(import_module(self.module), self.function)(run, done)
        return result


STAGES: tuple[Stage, ...] = (
    Stage("graph", Lazily("pipeline.city.steps.graph", "graph_stage")),
    Stage("check", Lazily("pipeline.city.steps.check", "check_stage"), needs=("graph",)),
    Stage("adapt", Lazily("pipeline.city.steps.adapt", "adapt_stage"), uses_model=True),
    Stage("scores", Lazily("pipeline.city.steps.scores", "score_stage"), needs=("graph", "adapt"), uses_model=True),
    Stage("polygons", Lazily("pipeline.city.steps.polygons", "polygon_stage"), needs=("graph", "scores")),
    Stage(
        "refinement",
        Lazily("pipeline.city.steps.refinement", "refinement_stage"),
        needs=("graph", "scores", "polygons"),
        uses_model=True,
    ),
    Stage(
        "product",
        Lazily("pipeline.product.build", "product_stage"),
        needs=("graph", "check", "adapt", "scores", "refinement"),
    ),
)
"""In order; the last one makes the product."""


def stage_names(stages: Sequence[Stage] = STAGES) -> tuple[str, ...]:
    """Names of the stages, in order."""
    return tuple(stage.name for stage in stages)


def find_stage(name: str, stages: Sequence[Stage] = STAGES) -> Stage:
    """The stage with a name.

    Raises:
        UnknownStageError: there is none.
    """
    for stage in stages:
        if stage.name == name:
            return stage
    raise UnknownStageError(f"no stage '{name}'; the stages are {', '.join(stage_names(stages))}")


def stages_up_to(name: str, stages: Sequence[Stage] = STAGES) -> tuple[Stage, ...]:
    """The stage with a name and all it needs, directly or not, in order.

    Raises:
        UnknownStageError: there is none, or one needs a stage that does not stand before it.
    """
    wanted = {find_stage(name, stages).name}
    chosen: list[Stage] = []
    for stage in reversed(stages):
        if stage.name in wanted:
            chosen.append(stage)
            wanted |= set(stage.needs)
    missing = wanted - {stage.name for stage in chosen}
    if missing:
        raise UnknownStageError(
            f"stage '{name}' needs {', '.join(sorted(missing))}, which does not stand before it in "
            f"{', '.join(stage_names(stages))}"
        )
    return tuple(reversed(chosen))
