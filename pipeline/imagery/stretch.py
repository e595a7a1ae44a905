"""From 16 bits to 8: one linear stretch per scene and band, recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOW_PERCENT, HIGH_PERCENT = 2.0, 98.0


@dataclass(frozen=True)
class Stretch:
    """A linear stretch of uint16 to uint8: ``low`` becomes 0, ``high`` 255, clipped outside.

    Attributes:
        low: Per band, digital number.
        high: Per band, digital number; above ``low``.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fitted(cls, sample: NDArray[np.uint8 | np.uint16], valid: NDArray[np.bool_]) -> Stretch:
        """The stretch between the 2nd and the 98th percentile of the valid pixels.

        Args:
            sample: (bands, H, W).
            valid: (H, W).
        """
        if not valid.any():
            return cls((0.0,) * len(sample), (65535.0,) * len(sample))
        cuts = np.percentile(sample[:, valid].astype(np.float64), [LOW_PERCENT, HIGH_PERCENT], axis=1)
        low = tuple(float(v) for v in cuts[0])
        return cls(low, tuple(max(float(v), lo + 1.0) for v, lo in zip(cuts[1], low, strict=True)))

    def tables(self) -> NDArray[np.uint8]:
        """(bands, 65536): the 8-bit value of every 16-bit value."""
        values = np.arange(65536, dtype=np.float64)
        rows = [
            np.rint(np.clip((values - lo) / (hi - lo), 0.0, 1.0) * 255.0)
            for lo, hi in zip(self.low, self.high, strict=True)
        ]
        return np.stack(rows).astype(np.uint8)
