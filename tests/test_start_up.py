"""What a room brings into a process when it is imported: every stage, worker and command pays for it."""

import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "torch",
    "torchvision",
    "torch._dynamo",
    "torch_geometric",
    "timm",
    "segmentation_models_pytorch",
    "transformers",
    "lightning",
    "torchmetrics",
    "geopandas",
    "rasterio",
    "sklearn",
    "skimage",
    "plotly",
    "prefect",
    "dask",
)

ALLOWED = {
    "flows.cli": set(),
    "flows.stages": {"numpy", "prefect"},
    "regions.registry": set(),
    "regions.campaign": set(),
    "regions.raster.grid": set(),
    "models.geolink.encoder": {"numpy", "torch"},
    "models.segmentation.predictor": {"numpy", "torch"},
    "models.tasks.encodings": {"numpy", "torch"},
    "models.pretraining.pairs": {"numpy", "torch"},
    "pipeline.vectors": {"numpy", "geopandas"},
    "pipeline.imagery": {"numpy", "rasterio"},
    "pipeline.inference": {"numpy", "rasterio"},
    "accuracy.estimation.estimation": {"numpy"},
}
"""What each may bring of the list above, and no more."""


@pytest.mark.parametrize("module", ALLOWED)
def test_heavy_modules(module):
    program = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=240, check=True
    )
    assert set(result.stdout.split()) <= ALLOWED[module]


def test_help_imports_no_heavy_module():
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom flows.cli import build_app\n"
        "assert CliRunner().invoke(build_app(), ['--help']).exit_code == 0\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=240, check=True
    )
    assert result.stdout.split() == []
