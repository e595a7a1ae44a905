"""Strong augmentation: image, label and graph stay in step, no data stays no data, chance is the only source."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    RICH_COLUMNS,
    TileGraphs,
)
from models.tiles.augmentation import AUGMENTATIONS, AugmentationConfig, augment, coloured
from models.tiles.crops import Crop, draw_view, zoomed_graph, zoomed_pixels
from models.tiles.photometry import Photometry, recoloured
from models.tiles.samples import IGNORE
from tests.support.samples import assert_equal_graphs, random_graphs

SIDE = 64
STEADY = AugmentationConfig(
    scale=(0.7, 1.45), brightness=0, contrast=0, channel_gain=0, saturation=0, noise=0, drop_map=0, drop_nodata=0
)
"""Geometry alone."""
SAME = Photometry(
    gain=(1, 1),
    bias=0,
    contrast=(1, 1),
    saturation=(1, 1),
    grey=0,
    gamma=(1, 1),
    haze=0,
    shadow=0,
    blur=0,
    noise=0,
    jpeg=0,
)
"""Colours as they are."""


def graph_of(*shapes):
    """A graph of polygons, four points each, in pixels."""
    base = TileGraphs.empty(1)
    n = len(shapes)
    position = np.array(shapes, np.float32).reshape(n, 8) / SIDE
    return replace(
        base,
        node_tile={**base.node_tile, "polygon": np.zeros(n, np.int64)},
        semantic_id={**base.semantic_id, "polygon": np.arange(n)},
        position={**base.position, "polygon": position},
        geometry={**base.geometry, "polygon": np.zeros((n, len(GEOMETRY_COLUMNS)), np.float32)},
    )


def burnt(ring):
    """bool (T, T): pixels whose centre lies in a ring (n, 2) of x, y in pixels."""
    rows, cols = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    return shapely.contains_xy(shapely.Polygon(ring), cols, rows)


corner = st.tuples(st.floats(2, SIDE - 2), st.floats(2, SIDE - 2))


@given(ring=st.tuples(corner, corner, corner), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_polygon_of_the_map_stays_on_its_label_and_its_pixels(ring, seed):
    if shapely.Polygon(ring).area < 60:
        return
    mask = burnt(ring)
    image = np.where(mask, 220, 40).astype(np.uint8)[None].repeat(3, axis=0)
    corners = [(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)]
    graph = graph_of([*ring, np.mean(ring, axis=0)], corners)
    pixels, label, seen = augment(image, mask.astype(np.uint8), graph, config=STEADY, rng=np.random.default_rng(seed))
    names, points = seen.semantic_id["polygon"].tolist(), seen.position["polygon"].reshape(-1, 4, 2) * SIDE
    places = dict(zip(names, points, strict=True))
    # beyond the tile its mirror image is seen, in which nothing is mapped
    footprint = burnt(places[1]) if 1 in places else np.ones((SIDE, SIDE), bool)
    if 0 not in places:
        return
    triangle = shapely.Polygon(places[0][:3])
    for found in (label == 1, pixels[0] > 130):
        odd = (found != burnt(places[0][:3])) & footprint
        rows, cols = np.nonzero(odd)
        away = shapely.distance(triangle.exterior, shapely.points(cols + 0.5, rows + 0.5))
        assert (away <= 1.5).all()  # half a pixel, up to 1.45 times as large, on the diagonal
    assert not (label == IGNORE).any()


def test_seen_as_it_is_nothing_changes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, SIDE, SIDE), np.uint8)
    image[:, :5] = 0
    label = rng.choice(np.array([0, 1, IGNORE], np.uint8), (SIDE, SIDE))
    whole = Crop(left=0, top=0, width=1, height=1)
    pixels, labels = zoomed_pixels(image, label, whole)
    blank = ~image.any(0)
    np.testing.assert_array_equal(labels, label)
    np.testing.assert_array_equal(pixels[:, blank], 0)
    np.testing.assert_array_equal(pixels[:, ~blank], np.maximum(image, 1)[:, ~blank])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_views_are_of_the_scales_and_touch_the_tile(seed):
    view = draw_view((0.7, 1.45), np.random.default_rng(seed))
    assert view.width == view.height and 1 / 1.45 <= view.width <= 1 / 0.7
    for start in (view.left, view.top):
        low, high = sorted((start, 0.0)), sorted((start + view.width, 1.0))
        inner, outer = (low[1], high[0]), (low[0], high[1])
        # the smaller of tile and view lies in the larger
        assert inner[1] - inner[0] == pytest.approx(min(1, view.width))
        assert outer[1] - outer[0] == pytest.approx(max(1, view.width))


@given(seed=st.integers(0, 10_000), side=st.floats(0.69, 1.42))
@settings(max_examples=30, deadline=None)
def test_sizes_and_distances_grow_with_the_view(seed, side):
    graph = random_graphs(np.random.default_rng(seed), 1)
    view = Crop(left=min(0, (1 - side) / 2), top=0.0 if side <= 1 else 1 - side, width=side, height=side)
    seen = zoomed_graph(graph, view)
    seen.validate()
    factor = 1 / side
    kept = {}
    for t in NODE_TYPES:
        xy = graph.position[t].reshape(-1, POSITION_POINTS[t], 2)
        inside = ((xy >= [view.left, view.top]) & (xy <= [view.left + side, view.top + side])).all(2).any(1)
        kept[t] = np.flatnonzero(inside)
        old, new = graph.geometry[t][kept[t]].astype(float), seen.geometry[t].astype(float)
        for name, power in (("log_area", 2), ("log_length", 1)):
            column = GEOMETRY_COLUMNS.index(name)
            np.testing.assert_allclose(
                np.expm1(10 * new[:, column]), np.expm1(10 * old[:, column]) * factor**power, rtol=1e-4
            )
        steady = [GEOMETRY_COLUMNS.index(n) for n in ("elongation", "cos_2_orientation", "height", "height_known")]
        np.testing.assert_array_equal(new[:, steady], old[:, steady])
        np.testing.assert_allclose(
            seen.position[t].reshape(-1, POSITION_POINTS[t], 2) * side + [view.left, view.top], xy[kept[t]], atol=1e-5
        )
    for pair in EDGE_TYPES:
        source, target = graph.edge_index[pair]
        both = np.isin(source, kept[pair[0]]) & np.isin(target, kept[pair[1]])
        column = len(RELATIONS[pair]) + RICH_COLUMNS.index("log_distance")
        old, new = graph.edge_attr[pair][both].astype(float), seen.edge_attr[pair].astype(float)
        np.testing.assert_allclose(np.expm1(10 * new[:, column]), np.expm1(10 * old[:, column]) * factor, rtol=1e-4)
        np.testing.assert_array_equal(np.delete(new, column, 1), np.delete(old, column, 1))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_colours_keep_no_data_and_depend_on_chance_alone(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, SIDE, SIDE)).astype(np.uint8)
    image[:, : rng.integers(0, SIDE), :5] = 0
    config = AUGMENTATIONS["strong"]
    found = []
    for threads in (1, 2, 1):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found.append(coloured(image, config, np.random.default_rng(seed)))
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0].any(0), image.any(0))
    assert found[0].dtype == np.uint8 and found[0].shape == image.shape


def test_each_change_is_what_its_name_says():
    rng = np.random.default_rng(3)
    image = rng.integers(20, 200, (3, SIDE, SIDE)).astype(np.uint8)
    image = np.asarray([np.kron(band[:8, :8], np.ones((8, 8))) for band in image], np.uint8)  # some texture
    x = image.astype(float)

    def changed(**what):
        return recoloured(image, replace(SAME, **what), np.random.default_rng(5)).astype(float)

    np.testing.assert_array_equal(changed(), image)
    grey = changed(grey=1)
    assert np.ptp(grey, axis=0).max() <= 1
    assert np.abs(grey[0] - np.tensordot([0.2989, 0.587, 0.114], x, 1)).max() <= 1
    assert np.abs(changed(contrast=(0.5, 0.5)) - (x + x.mean((1, 2), keepdims=True)) / 2).max() <= 1
    assert np.abs(changed(gamma=(0.5, 0.5)) - 255 * (x / 255) ** 0.5).max() <= 1
    assert np.abs(changed(gain=(0.81, 0.81)) - x * 0.81**1.5).max() <= 1
    shift = changed(bias=0.05) - x
    assert np.ptp(shift, axis=(1, 2)).max() <= 1 and 0 < np.abs(shift).max() <= 0.05 * 255 + 1
    hazy = changed(haze=1)
    assert hazy.std() < x.std() and hazy.mean() > x.mean()
    shadow = changed(shadow=1) / x
    assert 0.45 < shadow.min() < 0.85 and shadow.max() <= 1.03
    assert np.abs(np.diff(changed(blur=1), axis=2)).max() < np.abs(np.diff(x, axis=2)).max()
    noise = changed(noise=0.03) - x
    assert 0 < noise.std() < 0.03 * 255
    jpeg = changed(jpeg=1) - x
    assert 0 < np.abs(jpeg).mean() < 20  # its colours are of every other pixel


def test_strong_differs_from_plain_and_repeats():
    rng = np.random.default_rng(1)
    image = rng.integers(1, 256, (3, SIDE, SIDE), np.uint8)
    label = (image[0] > 128).astype(np.uint8)
    graph = random_graphs(rng, 1)
    one, two = (
        augment(image, label, graph, config=AUGMENTATIONS["strong"], rng=np.random.default_rng(7)) for _ in range(2)
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert_equal_graphs(one[2], two[2])
    assert AUGMENTATIONS["plain"] == AugmentationConfig()
