"""Ids survive small changes; splits, merges, new and gone villages are told apart."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.product.identity import IdentityError, assign_ids, diff_figures, diff_villages

CRS = "EPSG:32650"
SIDE = 100.0


def cell(k, dx=0.0, width=SIDE, height=SIDE):
    """Village k of a street: 100 m wide every 300 m."""
    return shapely.box(500_000 + 300 * k + dx, 3_000_000, 500_000 + 300 * k + dx + width, 3_000_000 + height)


def frame(shapes):
    return gpd.GeoDataFrame(geometry=list(shapes), crs=CRS)


EDITS = st.lists(
    st.sampled_from(["keep", "shift", "grow", "shrink", "split", "gone", "new", "merge"]), min_size=1, max_size=12
)


def edited(edits, rng):
    """Old shapes, new shapes with the old ones each is made of, and the expected events."""
    old, new, expected = {}, [], []
    for k, edit in enumerate(edits):
        if edit != "new":
            old[k] = [cell(k)]
        if edit == "keep":
            new.append((cell(k), k, [k]))
            expected.append("unchanged")
        elif edit == "shift":
            new.append((cell(k, dx=rng.uniform(2, 30)), k, [k]))
            expected.append("changed")
        elif edit == "grow":
            new.append((cell(k, width=SIDE * rng.uniform(1.05, 1.8)), k, [k]))
            expected.append("changed")
        elif edit == "shrink":
            new.append((cell(k, width=SIDE * rng.uniform(0.4, 0.95)), k, [k]))
            expected.append("changed")
        elif edit == "split":
            cut = rng.uniform(55, 80)
            new.append((cell(k, width=cut - 4), k, [k]))
            new.append((cell(k, dx=cut + 4, width=SIDE - cut - 4), None, [k]))
            expected += ["split", "split"]
        elif edit == "gone":
            expected.append("gone")
        elif edit == "new":
            new.append((cell(k), None, []))
            expected.append("new")
        else:
            old[k].append(cell(k, dx=150, width=60))
            new.append((cell(k, width=210), k, [k]))
            expected += ["merge", "merge"]
    return old, new, expected


@given(edits=EDITS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_synthetic_edits(edits, seed):
    rng = np.random.default_rng(seed)
    old, new, expected = edited(edits, rng)
    before = assign_ids(frame(shape for shapes in old.values() for shape in shapes), adcode="990001")
    owner = [k for k, shapes in old.items() for _ in shapes]
    first_id = {}
    for k, uv_id in zip(owner, before["uv_id"], strict=True):
        first_id.setdefault(k, uv_id)  # of a merge, the larger one comes first
    order = rng.permutation(len(new))
    after = assign_ids(frame(new[i][0] for i in order), before, adcode="990001")
    assert after["uv_id"].is_unique
    for row, i in enumerate(order):
        heir_of = new[i][1]
        if heir_of is None:
            assert after["uv_id"].iloc[row] not in set(before["uv_id"])
        else:
            assert after["uv_id"].iloc[row] == first_id[heir_of]
    events = diff_villages(before, after)
    assert sorted(events["event"]) == sorted(expected)
    figures = diff_figures(before, after, events)
    assert figures["villages_new"] == len(new)
    balance = figures["area_old_m2"] + figures["area_gained_m2"] - figures["area_lost_m2"]
    assert balance == pytest.approx(figures["area_new_m2"], abs=1e-3)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_order_of_rows_does_not_matter(seed, count):
    rng = np.random.default_rng(seed)
    old = frame(
        shapely.box(*(corner := rng.uniform(0, 300, 2)), *(corner + rng.uniform(20, 150, 2))) for _ in range(count)
    )
    new = frame(
        shapely.box(*(corner := rng.uniform(0, 300, 2)), *(corner + rng.uniform(20, 150, 2))) for _ in range(count)
    )
    before = assign_ids(old, adcode="110000")
    ids = assign_ids(new, before, adcode="110000")["uv_id"].tolist()
    shuffle, turn = rng.permutation(count), rng.permutation(count)
    again = assign_ids(new.iloc[shuffle], before.iloc[turn], adcode="110000")["uv_id"].tolist()
    assert again == [ids[k] for k in shuffle]
    assert len(set(ids)) == count


def test_same_input_same_ids_and_nothing_changes_against_itself():
    first = assign_ids(frame([cell(0), cell(1)]), adcode="110000")
    assert first["uv_id"].str.fullmatch(r"110000-[a-z2-7]{10}").all()
    assert assign_ids(frame([cell(0), cell(1)]), adcode="110000")["uv_id"].tolist() == first["uv_id"].tolist()
    events = diff_villages(first, first)
    assert events["event"].tolist() == ["unchanged", "unchanged"]
    assert diff_figures(first, first, events)["iou"] == 1.0


def test_previous_release_in_another_crs():
    first = assign_ids(frame([cell(0), cell(1)]), adcode="110000")
    again = assign_ids(frame([cell(1), cell(0)]), first.to_crs("EPSG:3857"), adcode="110000")
    assert again["uv_id"].tolist() == first["uv_id"].tolist()[::-1]


def test_ids_must_be_there_and_unique():
    with pytest.raises(IdentityError, match="without a `uv_id`"):
        assign_ids(frame([cell(0)]), frame([cell(0)]), adcode="110000")
    twice = frame([cell(0), cell(1)]).assign(uv_id=["a", "a"])
    with pytest.raises(IdentityError, match="repeated"):
        diff_villages(twice, twice)
