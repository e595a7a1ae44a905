"""The softmax over groups against one group at a time in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import softmax as softmax_of_pyg

from models.geolink.group_softmax import group_softmax

rows = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.floats(-90, 90, width=32)), min_size=0, max_size=40)
    )
)


def split(drawn):
    n_groups, pairs = drawn
    group = torch.tensor([g for g, _ in pairs], dtype=torch.int64)
    return n_groups, group, torch.tensor([v for _, v in pairs], dtype=torch.float32)


@settings(deadline=None)
@given(rows)
def test_each_group_has_its_own_softmax(drawn):
    n_groups, group, logits = split(drawn)
    got = group_softmax(logits, group, n_groups)
    for g in range(n_groups):
        inside = group == g
        expected = torch.softmax(logits[inside].double(), 0)
        assert torch.allclose(got[inside].double(), expected, rtol=1e-5, atol=1e-7)


@settings(deadline=None)
@given(rows)
def test_equal_to_pyg_to_the_last_bit(drawn):
    n_groups, group, logits = split(drawn)
    assert torch.equal(group_softmax(logits, group, n_groups), softmax_of_pyg(logits, group, num_nodes=n_groups))


@settings(deadline=None)
@given(rows, st.integers(0, 30), st.integers(1, 9))
def test_other_groups_do_not_matter(drawn, others, seed):
    n_groups, group, logits = split(drawn)
    more = torch.randn(others, generator=torch.Generator().manual_seed(seed)) * 50
    joined = group_softmax(torch.cat([more, logits]), torch.cat([torch.full((others,), n_groups), group]), n_groups + 1)
    assert torch.equal(joined[others:], group_softmax(logits, group, n_groups))


@pytest.mark.parametrize("value", [1e4, -1e4, 3e38])
def test_large_values_do_not_overflow(value):
    got = group_softmax(torch.tensor([value, value, 0.0]), torch.tensor([0, 0, 1]), 3)
    assert torch.equal(got, torch.tensor([0.5, 0.5, 1.0]))


def test_gradients_are_those_of_the_plain_softmax():
    group = torch.tensor([1, 0, 1, 1, 0])
    logits = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: group_softmax(x, group, 2), (logits,))
