"""What frozen encodings know: classes of vectors by nearest neighbours and by a linear probe, and their figures.

Vectors are those of `models.tasks.encodings.pooled`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score


def scene_figures(guess: NDArray[np.int64], truth: NDArray[np.int64], *, classes: int) -> dict[str, float]:
    """Overall accuracy and mean F1 over classes, by torchmetrics."""
    g, t = torch.from_numpy(np.asarray(guess, np.int64)), torch.from_numpy(np.asarray(truth, np.int64))
    return {
        "accuracy": float(multiclass_accuracy(g, t, num_classes=classes, average="micro")),
        "f1": float(multiclass_f1_score(g, t, num_classes=classes, average="macro")),
    }


def nearest_neighbours(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], *, neighbours: int = 20
) -> NDArray[np.int64]:
    """Class of each test vector by a vote of its nearest neighbours, cosine distance, nearer ones weighing more.

    Args:
        train: float32 (N, D).
        labels: int64 (N,).
        test: float32 (M, D).
        neighbours: Votes; at most N.
    """
    model = KNeighborsClassifier(min(neighbours, len(train)), metric="cosine", weights="distance")
    return np.asarray(model.fit(train, labels).predict(test), np.int64)


def linear_probe(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], *, penalty: float = 1.0
) -> NDArray[np.int64]:
    """Class of each test vector by logistic regression on scaled vectors.

    Args:
        train: float32 (N, D).
        labels: int64 (N,).
        test: float32 (M, D).
        penalty: Inverse strength of the L2 penalty.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
    return np.asarray(model.fit(train, labels).predict(test), np.int64)
