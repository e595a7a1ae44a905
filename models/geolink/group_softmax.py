"""Softmax over groups of rows, with torch's own scatter reductions."""

from __future__ import annotations

from torch import Tensor

TINY = 1e-16
"""Added to a group's sum, as PyTorch Geometric does, so that the official figures are met to the last bit."""


def group_softmax(logits: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """The softmax of each group: ``exp(logit) / sum of exp(logit) over the rows of the same group``.

    Each group's largest logit is taken off first, so large values do not overflow. A row's weight depends on the rows
    of its own group alone, in their order; what else is in the batch does not matter.

    Args:
        logits: Float (N,).
        group: int64 (N,), from 0 to ``n_groups - 1``, in any order; a group may be empty.
        n_groups: Number of groups.

    Returns:
        Float (N,): weights from 0 to 1, summing to 1 in each group that has rows.
    """
    largest = logits.new_zeros(n_groups).scatter_reduce(0, group, logits.detach(), "amax", include_self=False)
    powers = (logits - largest[group]).exp()
    total = logits.new_zeros(n_groups).scatter_add(0, group, powers) + TINY
    return powers / total[group]
