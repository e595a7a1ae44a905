"""Text models of map tags: hashed n-grams beside a sentence model, where tags are renamed or rare.

Run ``python benchmarks/tag_semantics.py [--encoders hashed minilm] [--weights PATH] [--steps 320] [--seeds 1]``
(about two minutes of one core per seed, seconds with ``--steps 0``). Three questions:

1. *Retrieval*: for each tag that OpenStreetMap's editors replace by another, is the replacement the nearest of all
   others (cosine)? Split into replacements that keep letters of the old word (respelled) and others (other words).
2. *Objects*: is an object of a demo nation in an urban village, by its tags alone? A ridge classifier of the tag
   vectors learns it in two cities and is judged in the third (area under the ROC curve): as mapped; with every value in
   other words; and with tags that it never saw, where a fifth of the kinds of tags is left out of the learning.
3. *Segmentation*: the `tiny` model trained on a demo city from the map alone (grey images, no map dropped) and from
   image and map; average precision of its scores on districts that were not learnt from, as mapped, with every value
   in other words, and without a map (from the map alone: the share of urban village).

It is checked first that a sentence model gives a tag equal bits in any vocabulary.
Prints tables and, as its last line, one JSON object.
"""

import argparse
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import torch
from demo_tiles import demo_ground, seen_and_unseen
from numpy.typing import NDArray
from tag_words import OTHER_TAGS, REPLACED, Tag, renamed
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from models.geolink.config import GeoLinkConfig
from models.geolink.tag_vectors import KeptTagEncoder
from models.geolink.text import HashedTagEncoder, TagTextEncoder, tag_set_embeddings
from models.geolink.text_encoders import named_text_encoder
from models.segmentation.config import SegmentationConfig
from models.segmentation.predictor import SegmentationPredictor
from models.segmentation.trainer import train_segmenter
from models.tiles.augmentation import AugmentationConfig
from models.tiles.samples import IGNORE, SampleSet
from models.training import TrainingConfig
from pipeline.graph.semantics import parse_tag_sets, read_semantics
from pipeline.vectors import read_features
from regions.demo import DemoCity, generate_demo_nation

SIDE_PX = 112
BATCH = 8
GREY = 127
RIDGE = 1.0
FOLDS = 5


def retrieval(encoder: TagTextEncoder) -> dict[str, float]:
    """Shares of replaced tags whose replacement is the nearest, or among the nearest five; mean reciprocal rank."""
    known = sorted({new for _, new in REPLACED} | set(OTHER_TAGS))
    gallery, asked = (_unit(encoder.encode(tags)) for tags in (known, [old for old, _ in REPLACED]))
    order = np.argsort(-(asked @ gallery.T), axis=1, kind="stable")
    rank = np.array(
        [1 + int(np.flatnonzero(row == known.index(new))[0]) for row, (_, new) in zip(order, REPLACED, strict=True)]
    )
    spelled = np.array([_shares_letters(old, new) for old, new in REPLACED])
    return {
        "first_respelled": float((rank[spelled] == 1).mean()),
        "first_other_words": float((rank[~spelled] == 1).mean()),
        "five_respelled": float((rank[spelled] <= 5).mean()),
        "five_other_words": float((rank[~spelled] <= 5).mean()),
        "reciprocal_rank": float((1 / rank).mean()),
        "respelled": int(spelled.sum()),
        "other_words": int((~spelled).sum()),
    }


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _shares_letters(old: Tag, new: Tag) -> bool:
    """Whether the values share four letters in a row."""
    grams = [{w[k : k + 4] for w in re.split(r"_", v) for k in range(len(w) - 3)} for v in (old[1], new[1])]
    return bool(grams[0] & grams[1])


class Objects:
    """The mapped objects of a city: their tag sets, and whether they lie in an urban village."""

    def __init__(self, city: DemoCity) -> None:
        features = read_features([city.osm_pbf], crs=city.crs, bounds_m=city.bounds_m).table
        found = read_semantics(features["tags"].to_numpy(object), all_keys=False)
        villages = gpd.read_file(city.uv).to_crs(city.crs).union_all()
        self.tag_sets, self.rows = parse_tag_sets(found.texts), found.tag_set
        self.inside = features.geometry.representative_point().within(villages).to_numpy()

    def vectors(self, encoder: TagTextEncoder, *, other_words: bool = False) -> NDArray[np.float64]:
        """float64 (n, width)."""
        sets = [renamed(s) for s in self.tag_sets] if other_words else self.tag_sets
        return tag_set_embeddings(sets, encoder)[self.rows].astype(np.float64)

    def without(self, tags: set[Tag]) -> NDArray[np.bool_]:
        """Whether an object has none of ``tags``: bool (n,)."""
        return np.array([not tags & set(s.items()) for s in self.tag_sets])[self.rows]


def judged(cities: list[Objects], encoder: TagTextEncoder) -> dict[str, float]:
    """Areas under the curve in each city, learnt in the others: means over the cities."""
    as_mapped, other_words, unseen = [], [], []
    for test in cities:
        rest = [c for c in cities if c is not test]
        learnt = np.concatenate([c.vectors(encoder) for c in rest])
        inside = np.concatenate([c.inside for c in rest])
        weights = _ridge(learnt, inside)
        as_mapped.append(_area(test.vectors(encoder) @ weights, test.inside))
        other_words.append(_area(test.vectors(encoder, other_words=True) @ weights, test.inside))
        kinds = sorted({tag for c in cities for s in c.tag_sets for tag in s.items() if not tag[1].isdigit()})
        shuffled = np.random.default_rng(0).permutation(len(kinds))
        score, truth = [], []
        for fold in range(FOLDS):
            left_out = {kinds[k] for k in shuffled[fold::FOLDS]}
            kept = np.concatenate([c.without(left_out) for c in rest])
            chosen = ~test.without(left_out)
            score.append(test.vectors(encoder)[chosen] @ _ridge(learnt[kept], inside[kept]))
            truth.append(test.inside[chosen])
        unseen.append(_area(np.concatenate(score), np.concatenate(truth)))
    means = (float(np.mean(v)) for v in (as_mapped, other_words, unseen))
    return dict(zip(("as_mapped", "other_words", "unseen_tags"), means, strict=True))


def _ridge(x: NDArray[np.float64], y: NDArray[np.bool_]) -> NDArray[np.float64]:
    middle, target = x.mean(0), y - y.mean()
    centred = x - middle
    solved: NDArray[np.float64] = np.linalg.solve(
        centred.T @ centred + RIDGE * len(x) / 100 * np.eye(x.shape[1]), centred.T @ target
    )
    return solved


def _area(score: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    return float(binary_auroc(torch.from_numpy(score), torch.from_numpy(inside.copy()).long()))


def segmented(
    seen: SampleSet, unseen: SampleSet, encoder: TagTextEncoder, args: argparse.Namespace, name: str
) -> list[dict[str, float]]:
    """Average precision per seed on the unseen districts: as mapped, with other words, without a map."""
    rows = []
    alone = name.endswith(", map")
    epochs = max(1, round(args.steps * BATCH / len(seen)))
    for seed in range(args.seeds):
        result = train_segmenter(
            seen,
            None,
            SegmentationConfig.of_size("tiny", encoder=GeoLinkConfig.tiny(image_px=SIDE_PX)),
            out=args.work / name / str(seed),
            augmentation=AugmentationConfig(drop_map=0.0 if alone else AugmentationConfig().drop_map),
            training=TrainingConfig(batch_size=BATCH, epochs=epochs, learning_rate=2e-3, accelerator="cpu"),
            text_encoder=encoder,
            seed=seed,
            resume=False,
            progress=False,
        )
        other = replace(unseen, tag_sets=[renamed(s) for s in unseen.tag_sets])
        row = {
            "as_mapped": _precision(result.checkpoint, unseen, encoder),
            "other_words": _precision(result.checkpoint, other, encoder),
            "no_map": _precision(result.checkpoint, unseen.without_map(), encoder),
        }
        rows.append(row)
        print(f"  {name}, seed {seed}, {result.steps} steps: {row}", flush=True)
    return rows


def _precision(checkpoint: Path, samples: SampleSet, encoder: TagTextEncoder) -> float:
    """Average precision of the scores, every fourth row and column."""
    model = SegmentationPredictor.load(checkpoint, samples.tag_sets, device="cpu", text_encoder=encoder)
    scores = []
    for start in range(0, len(samples), model.batch_size):
        part = samples.select(np.arange(start, min(start + model.batch_size, len(samples))))
        scores.append(model.predict(part.images, part.graphs)[:, 2::4, 2::4])
    labels = samples.labels[:, 2::4, 2::4]
    known = labels != IGNORE
    found = torch.from_numpy(np.concatenate(scores)[known]), torch.from_numpy(labels[known]).long()
    return float(binary_average_precision(*found))


def checked(encoder: TagTextEncoder) -> None:
    """A tag's vector does not depend on the others."""
    tags = OTHER_TAGS[:40]
    alone = np.concatenate([encoder.encode([tag]) for tag in tags[:3]])
    assert np.array_equal(encoder.encode(tags)[:3], alone), encoder.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["hashed", "minilm"])
    parser.add_argument("--weights", type=Path, help="folder or zip of MiniLM; its package where not given")
    parser.add_argument("--steps", type=int, default=320, help="of each training; 0 for none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--inputs", nargs="+", choices=("map", "image and map"), default=["map", "image and map"])
    parser.add_argument("--side-m", type=int, default=2000, help="side of the demo cities")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("out/tag_semantics"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoders: dict[str, TagTextEncoder] = {}
    for name in args.encoders:
        path = args.weights if name == "minilm" else None
        encoders[name] = HashedTagEncoder() if name == "hashed" else named_text_encoder(name, path=path)
        checked(encoders[name])
    nation = generate_demo_nation(args.work / "nation", side_m=args.side_m, parts=("vectors",))
    cities = [Objects(city) for city in nation]
    tiles = None
    if args.steps:
        ground = demo_ground(args.work, seed=1, side_m=args.side_m)
        tiles = seen_and_unseen(ground, tile_px=SIDE_PX, stride_px=SIDE_PX)
    found = {}
    for name, encoder in encoders.items():
        start = time.process_time()
        found[name] = {"retrieval": retrieval(encoder), "objects": judged(cities, KeptTagEncoder(encoder, args.work))}
        for inputs in args.inputs if tiles else ():
            sets = [replace(t, images=np.full_like(t.images, GREY)) if inputs == "map" else t for t in tiles or ()]
            kept = KeptTagEncoder(encoder, args.work / "vectors")
            found[name][inputs] = segmented(sets[0], sets[1], kept, args, f"{name}, {inputs}")
        print(f"{name}: {time.process_time() - start:.0f} s of processor time", flush=True)
    for part in ("retrieval", "objects"):
        print(f"\n{part:>25s} " + " ".join(f"{name:>10s}" for name in found))
        for key in next(iter(found.values()))[part]:
            print(f"{key:>25s} " + " ".join(f"{f[part][key]:10.3f}" for f in found.values()))
    for inputs in args.inputs if tiles else ():
        print(f"\n{'precision, ' + inputs:>25s} " + " ".join(f"{name:>10s}" for name in found))
        for key in ("as_mapped", "other_words", "no_map"):
            means = [float(np.mean([row[key] for row in f[inputs]])) for f in found.values()]
            print(f"{key:>25s} " + " ".join(f"{m:10.3f}" for m in means))
    print(json.dumps({"objects": sum(len(c.rows) for c in cities), "steps": args.steps, **found}))


if __name__ == "__main__":
    main()
