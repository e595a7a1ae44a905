"""One run of a training: where it writes, what decides it, whether it goes on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a training.

    Attributes:
        out: Folder of the log (``log/part-*/metrics.csv``), of the resumable state and of the checkpoint.
        seed: Seed of dropout and initialisations in the run.
        key: `key_of_run` of data and configuration.
        label: Name of the progress bar.
        resume: Continue an interrupted run of the same key; else start from the beginning.
        progress: Show the bar.
    """

    out: Path
    seed: int
    key: str
    label: str
    resume: bool = True
    progress: bool = True


def key_of_run(*parts: Any) -> str:
    """SHA-256 of what decides a run: JSON values, arrays, bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()
