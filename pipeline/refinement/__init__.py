"""Refinement: outlines drawn anew from the imagery where a rule accepts them; SAM is imported only where it is used."""

from pipeline.refinement.choice import choose_refiner, mark_unrefined, summarise_refinement
from pipeline.refinement.errors import RefinementError
from pipeline.refinement.measures import boundary_f1, boundary_iou, compare_outlines
from pipeline.refinement.refine import ImageReader, refine_villages
from pipeline.refinement.refiner import RefinedMask, Refiner
from regions.settings import AcceptanceRule, RefinementConfig

__all__ = [
    "AcceptanceRule",
    "ImageReader",
    "RefinedMask",
    "RefinementConfig",
    "RefinementError",
    "Refiner",
    "boundary_f1",
    "boundary_iou",
    "choose_refiner",
    "compare_outlines",
    "mark_unrefined",
    "refine_villages",
    "summarise_refinement",
]
