"""Scores: from a city's imagery and vectors to its score raster."""

from pipeline.inference.blocks import BlockId, BlockPlan
from pipeline.inference.engine import BlocksDone
from pipeline.inference.errors import AreaError, InferenceError, ModelMismatchError, ModelOutputError, ScoreFileError
from pipeline.inference.progress import JsonLinesProgress, Progress
from pipeline.inference.protocols import GraphSource, Imagery, TensorTileModel, TileModel
from pipeline.inference.scores import DEFAULT_BLOCK_PX, ScoreResult, predict_scores
from pipeline.inference.uncertainty import SymmetryEnsemble

__all__ = [
    "DEFAULT_BLOCK_PX",
    "AreaError",
    "BlockId",
    "BlockPlan",
    "BlocksDone",
    "GraphSource",
    "Imagery",
    "InferenceError",
    "JsonLinesProgress",
    "ModelMismatchError",
    "ModelOutputError",
    "Progress",
    "ScoreFileError",
    "ScoreResult",
    "SymmetryEnsemble",
    "TensorTileModel",
    "TileModel",
    "predict_scores",
]
