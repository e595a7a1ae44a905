"""Learning rate and weight decay of a training."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

UNDECAYED = ("bias", "token", "pos_embed", "position", "gamma")
"""Parts of the names of parameters that are no weights of a map: offsets, learnt tokens, positions, layer scales."""


def learning_rate_factor(progress: float, *, warmup: float, final_share: float) -> float:
    """Linear warm-up, then half a cosine.

    Worked example: warmup 0.1, final share 0: 0.05 gives 0.5, 0.1 gives 1, 0.55 gives 0.5, 1 gives 0.

    Args:
        progress: Share of the run that is done.
        warmup: Share of the run that warms up.
        final_share: Factor at the end.
    """
    if progress < warmup:
        return progress / warmup
    x = min(1.0, (progress - warmup) / (1 - warmup))
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * x))


def parameter_groups(module: nn.Module, *, weight_decay: float, encoder_rate: float = 1.0) -> list[dict[str, Any]]:
    """Groups for AdamW: no decay for biases, norms and tokens of any shape; an own rate for what is called ``encoder``.

    A bias or norm of several node types is a matrix, so shapes alone do not tell: what a parameter is called, and
    what module holds it, do.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    seen: set[int] = set()
    for path, owner in module.named_modules():
        is_norm = "norm" in type(owner).__name__.lower()
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = parameter.ndim > 1 and not is_norm and not any(part in name for part in UNDECAYED)
            groups.setdefault((decays, "encoder." in f".{path}."), []).append(parameter)
    return [
        {"params": p, "weight_decay": weight_decay if decays else 0.0, "rate": encoder_rate if encoder else 1.0}
        for (decays, encoder), p in sorted(groups.items(), key=lambda item: item[0])
    ]
