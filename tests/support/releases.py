"""Releases of made products, with an assessment that judged their masks."""

import json

from pipeline.national.products import find_products
from pipeline.release.build import ReleaseRequest, build_release
from regions.campaign import load_campaign
from tests.support.products import write_campaign


def make_campaign(root, adcodes, *, products="products", **more):
    """The campaign of the products under ``root / products``."""
    return load_campaign(write_campaign(root / f"{products}.yaml", root / products, adcodes, **more))


def build(campaign, out, *, version="1.0.0", with_accuracy=False, **more):
    """A release at ``out``, which is returned."""
    if with_accuracy:
        folder = out.parent / f"{out.name}-assessment"
        write_assessment(folder, campaign.out_root)
        more |= {"accuracy": folder, "sample": folder / "sample"}
    build_release(ReleaseRequest(campaign=campaign, version=version, out=out, **more))
    return out


def write_assessment(folder, products, *, clean=True):
    """What `uvmap assess sample --survey ... --training ... --publish ...` leaves, as far as a release reads it."""
    (folder / "sample").mkdir(parents=True, exist_ok=True)
    cities = [
        {"city": p.adcode, "files": {p.mask.name: p.files[p.mask.name]["sha256"]}} for p in find_products(products)
    ]
    row = {"variance": "two_stage", "domain": "", "value": "all", "estimate": 0.8, "se": 0.03, "ci_low": 0.73}
    estimates = [row | {"measure": m, "ci_high": 0.85, "n_points": 600, "n_psu": 3} for m in ("UA", "PA", "F1", "IoU")]
    report = {
        "schema_version": "1.0.0",
        "kind": "sample",
        "primary_variance": "two_stage",
        "estimates": estimates,
        "survey": {"cities": cities},
        "leakage": {"clean": clean, "statement": "No leakage was found." if clean else "LEAKAGE: 3 units."},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "report.html").write_text("<!doctype html><title>Accuracy</title>\n", encoding="utf-8")
    (folder / "estimates.csv").write_text("measure,estimate\nF1,0.8\n", encoding="utf-8")
    (folder / "sample" / "points.csv").write_text("point_id,map,ref,weight\n1,1,1,100\n", encoding="utf-8")
    return folder
