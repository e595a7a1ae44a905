"""What is asked of every city of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.city.stage_table import STAGES, Stage, stages_up_to


@dataclass(frozen=True)
class Orders:
    """What is asked of every city of a run.

    Attributes:
        stages: The stages to go through, in order.
        anew: Whether their results are made again although they are there.
    """

    stages: tuple[Stage, ...] = STAGES
    anew: bool = False

    @property
    def makes_products(self) -> bool:
        """Whether the last stage is among them."""
        return STAGES[-1] in self.stages


def chosen_stages(names: Sequence[str] | None) -> tuple[Stage, ...]:
    """The stages with these names and all they need, in order; all where None.

    Raises:
        UnknownStageError: there is no such stage.
    """
    wanted = set(STAGES) if names is None else {s for name in names for s in stages_up_to(name)}
    return tuple(stage for stage in STAGES if stage in wanted)
