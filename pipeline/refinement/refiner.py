"""What a refiner is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.refinement.prompts import Prompt


@dataclass(frozen=True)
class RefinedMask:
    """A refiner's answer for one village in one window.

    Attributes:
        inside: bool (T, T).
        quality: The refiner's own estimate of its intersection over union; None where it gives none.
    """

    inside: NDArray[np.bool_]
    quality: float | None


class Refiner(Protocol):
    """Draws outlines anew.

    Attributes:
        name: What polygon rows say in ``boundary``.
        side_px: Side T of the windows it wants.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  the class documents it
    @property
    def side_px(self) -> int: ...  # noqa: D102

    def refine(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[Prompt]]) -> list[list[RefinedMask]]:
        """New masks for the villages of some windows.

        Args:
            images: uint8 (B, 3, T, T).
            prompts: For each window its villages.

        Returns:
            For each window, in the order of its prompts, the masks.
        """
