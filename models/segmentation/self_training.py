"""Self-training: a model's own sure answers on ground without labels, as labels of one more place to learn from.

What the classifier that learnt from labelled places is sure of on the adapted target, both ways, becomes the label;
what it is not sure of is left out (Lee 2013, Pseudo-Label; Zou et al. 2018, Unsupervised Domain Adaptation for
Semantic Segmentation via Class-Balanced Self-Training). The level of scenes with few villages is taken off first
(`models.encoders.share`, `models.encoders.rise`), or the false villages of such a scene would be learnt. The place
weighs less than a labelled one, and has no part in the calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from models.calibration import Calibration
from models.encoders.rise import SceneRise, bounded_level
from models.encoders.share import estimated_share
from models.segmentation.head_data import PlaceFeatures


class SelfTraining(BaseModel):
    """What is taken for a label.

    Attributes:
        village: Least probability of a cell that is taken for a village.
        other: Highest probability of a cell that is taken for other ground.
        weight: Part of the cells of a training step that come from the target, relative to a labelled place.
        least_cells: Least number of cells of each kind; with fewer nothing is learnt from the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    village: float = Field(default=0.7, gt=0, lt=1)
    other: float = Field(default=0.2, gt=0, lt=1)
    weight: float = Field(default=0.25, gt=0, le=1)
    least_cells: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> SelfTraining:
        if self.other >= self.village:
            raise ValueError(f"other is {self.other} and village {self.village}: other must be the lower one")
        return self


@dataclass(frozen=True)
class SureAnswers:
    """What a model is sure of on a target.

    Attributes:
        name: The target.
        place: Its features, its sure cells alone known, labelled by the model; None where they are too few.
        cells: Cells with data.
        villages: Cells taken for villages.
        others: Cells taken for other ground.
        level: Log-odds that were added to the scores first, 0 or less.
    """

    name: str
    place: PlaceFeatures | None
    cells: int
    villages: int
    others: int
    level: float

    @property
    def figures(self) -> dict[str, float]:
        """For the model card."""
        return {
            "self_trained": float(self.place is not None),
            "self_village_share": self.villages / max(self.cells, 1),
            "self_other_share": self.others / max(self.cells, 1),
            "self_level": self.level,
        }

    def describe(self, how: SelfTraining) -> str:
        """One paragraph of the model card."""
        said = (
            f"Self-training on {self.name}, no label of it read: of {self.cells} cells {self.villages} had a "
            f"probability of village of {how.village:g} or more and {self.others} of {how.other:g} or less"
        )
        if self.level < 0:
            said += f", after {-self.level:.2f} log-odds were taken off"
        if self.place is None:
            return f"{said}; {how.least_cells} of each are needed, so nothing was learnt from them."
        return f"{said}; they were learnt from at {how.weight:g} of the weight of a labelled place."


def sure_answers(
    target: PlaceFeatures,
    logits: Tensor,
    calibration: Calibration,
    *,
    rise: SceneRise,
    source_share: float,
    how: SelfTraining,
) -> SureAnswers:
    """The cells of a target that a model is sure of.

    Args:
        target: Features; ``known`` says which cells hold data, the labels are not read.
        logits: Float (N, 2, h, w), of the model adapted to the target, not calibrated.
        calibration: Of the model.
        rise: What adapting to the target added (`models.encoders.rise`).
        source_share: Share of villages on the labelled ground.
        how: What counts as sure.
    """
    calibrated = calibration.calibrated(logits.float())
    margin = calibrated[:, 1] - calibrated[:, 0]
    share = estimated_share(torch.sigmoid(margin)[target.known].numpy(), source_share)
    level = bounded_level(share, source_share, rise)
    probability = torch.sigmoid(margin + level)
    village, other = (target.known & taken for taken in (probability >= how.village, probability <= how.other))
    counts = int(village.sum()), int(other.sum())
    place = None
    if min(counts) >= how.least_cells:
        label = village.float()
        weight = target.known.double()
        tile_share = (probability.double() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
        place = replace(
            target,
            labels=torch.stack([1 - label, label], dim=1),
            known=village | other,
            share=np.asarray(tile_share.numpy(), np.float64),
            weight=how.weight,
        )
    return SureAnswers(target.name, place, int(target.known.sum()), *counts, float(level))
