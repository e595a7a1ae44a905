"""Outlines drawn anew where the rule accepts them, in windows round the candidate villages only."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.polygons import ScoreSource, open_scores
from pipeline.polygons.runs import runs_of_mask
from pipeline.polygons.scores import ReadScores
from pipeline.refinement.errors import RefinementError
from pipeline.refinement.evidence import Evidence
from pipeline.refinement.outlines import settle_outlines
from pipeline.refinement.prompts import Prompt, make_prompt
from pipeline.refinement.refiner import RefinedMask, Refiner
from pipeline.refinement.windows import View, place_views
from regions.raster.burn import ShapeLayer
from regions.raster.grid import Grid, Window
from regions.raster.scores import is_predicted
from regions.settings import PolygonConfig, RefinementConfig


class ImageReader(Protocol):
    """Imagery on the city's grid; `pipeline.imagery.ImageSource` is one."""

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Uint8 (bands, H, W) and bool (H, W) valid."""


def refine_villages(
    villages: gpd.GeoDataFrame,
    *,
    scores: ScoreSource,
    imagery: ImageReader,
    grid: Grid,
    refiner: Refiner,
    config: RefinementConfig | None = None,
    polygons: PolygonConfig | None = None,
    forbidden: gpd.GeoSeries | None = None,
) -> gpd.GeoDataFrame:
    """Refine the outlines of villages.

    Every window is read and encoded once. Large villages are seen in several windows, each of which answers for its
    core. Rows, their order and the other columns stay; outlines that the rule rejects stay too.

    Args:
        villages: Polygons in the grid's CRS that do not overlap.
        scores: The score raster.
        imagery: At least three bands, the first three red, green, blue.
        grid: The city's grid.
        refiner: SAM or the built-in refiner.
        config: Windows, prompts and rule; None takes the defaults.
        polygons: Smallest areas and holes of the refined outlines, and their simplification; None takes the defaults.
        forbidden: Polygons in the grid's CRS that a village may not reach into (barriers, excluded land).

    Returns:
        The villages with ``boundary`` (``model`` or the refiner's name), ``boundary_reason`` (string),
        ``boundary_agreement`` (Float64, intersection over union with the outline before) and ``boundary_quality``
        (Float64, the refiner's own estimate, null where it gives none). Polygons are valid and do not overlap.

    Raises:
        RefinementError: The imagery has fewer than three bands.
        PolygonError: The score raster does not lie on the grid.
    """
    config, polygons = config or RefinementConfig(), polygons or PolygonConfig()
    shapes = villages.geometry.to_numpy()
    by_window: dict[Window, list[View]] = defaultdict(list)
    for k, shape in enumerate(shapes):
        area = grid.window_of_bounds(tuple(shapely.bounds(shape)))
        for view in place_views(k, area, grid=grid, side_px=refiner.side_px, margin_px=config.margin_px):
            by_window[view.window].append(view)
    evidence = [Evidence() for _ in shapes]
    ground = _Ground(shapes, forbidden, grid)
    order = sorted(by_window)
    with open_scores(scores, grid) as read:
        for start in range(0, len(order), config.batch_windows):
            windows = order[start : start + config.batch_windows]
            batch = {window: by_window[window] for window in windows}
            images, prompts, views = _make_prompts(batch, ground, read=read, imagery=imagery, config=config)
            if not images:
                continue
            answers = refiner.refine(np.stack(images), prompts)
            for seen, asked, found in zip(views, prompts, answers, strict=True):
                for view, prompt, answer in zip(seen, asked, found, strict=True):
                    _add_evidence(evidence[view.village], view, prompt, answer, grid)
    return settle_outlines(villages, evidence, grid=grid, rule=config.rule, polygons=polygons, name=refiner.name)


class _Ground:
    """Which village and which forbidden land lies where, as pixels of a window."""

    def __init__(self, shapes: NDArray[np.object_], forbidden: gpd.GeoSeries | None, grid: Grid) -> None:
        self._villages = ShapeLayer(shapes, grid)
        self._forbidden = ShapeLayer(np.zeros(0, object) if forbidden is None else forbidden.to_numpy(), grid)

    def villages(self, window: Window) -> NDArray[np.int32]:
        """int32 (h, w): row of the village, -1 where there is none."""
        return self._villages.rows(window)

    def forbidden(self, window: Window) -> NDArray[np.bool_]:
        """Bool (h, w)."""
        return self._forbidden.mask(window)


def _make_prompts(
    by_window: dict[Window, list[View]],
    ground: _Ground,
    *,
    read: ReadScores,
    imagery: ImageReader,
    config: RefinementConfig,
) -> tuple[list[NDArray[np.uint8]], list[list[Prompt]], list[list[View]]]:
    """Images, prompts and views of the windows that show a pixel of their villages."""
    images, prompts, views = [], [], []
    for window, of_window in by_window.items():
        image, valid = imagery.read(window)
        if image.shape[0] < 3:
            raise RefinementError(
                f"imagery has {image.shape[0]} band(s), refinement needs red, green and blue: map with --refine none"
            )
        scores = read(window)
        owner = ground.villages(window)
        open_ground = valid & is_predicted(scores) & ~ground.forbidden(window)
        asked: list[Prompt] = []
        seen: list[View] = []
        for view in of_window:
            inside = owner == view.village
            prompt = make_prompt(
                inside,
                scores,
                open_ground & ((owner < 0) | inside),
                positive_points=config.positive_points,
                negative_points=config.negative_points,
            )
            if prompt is not None:
                asked.append(prompt)
                seen.append(view)
        if asked:
            images.append(image[:3])
            prompts.append(asked)
            views.append(seen)
    return images, prompts, views


def _add_evidence(evidence: Evidence, view: View, prompt: Prompt, answer: RefinedMask, grid: Grid) -> None:
    own = view.core.intersection(grid.window)
    part = own.slices_in(view.window)
    refined, allowed, before = answer.inside[part], prompt.allowed[part], prompt.inside[part]
    evidence.refined_px += int(np.count_nonzero(refined))
    evidence.spilled_px += int(np.count_nonzero(refined & ~allowed))
    if answer.quality is not None:
        count = int(np.count_nonzero(before))
        evidence.quality_px += answer.quality * count
        evidence.before_px += count
    evidence.parts.append(runs_of_mask(refined & allowed, window=own, height_px=grid.height_px, width_px=grid.width_px))
