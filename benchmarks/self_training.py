"""Self-training on ground without labels: what it is worth on every place left out, and on parts with few villages.

Run ``python benchmarks/self_training.py --data DATA [--seeds 3] [--weights 0.25 0.5 1.0]``. Places and scenes as in
`benchmarks/few_villages.py`: the model of two places is adapted to a scene of the third, taught by its sure answers
there (`models.segmentation.self_training`), and judged on that scene at the same decision, before and after, with the
level that the scene's rise asks for. Nothing of the scene is looked at but its imagery. Prints a table and, as its
last line, one JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from adaptation import iou, places_of, scores, tiles_of
from few_villages import Judge, part, scenes
from recipe import Learner, Variant
from torch import nn

from models.encoders.rise import scene_rise, village_direction
from models.segmentation.head_data import PlaceFeatures
from models.segmentation.head_training import DECISION, HeadTraining, fit_head, place_logits
from models.segmentation.self_training import SelfTraining, sure_answers

SCENES = ("all tiles", "up to 6%", "no village")


def judged(judge: Judge, head: nn.Linear, scene: PlaceFeatures) -> dict[str, float]:
    """Share called village and IoU of a classifier on a scene, with the level of the scene's rise."""
    direction = village_direction(head.weight.detach().numpy(), judge.calibration.temperature)
    level = scene_rise(scene.moments.pooled()[0], *judge.source, direction).level
    p = scores(place_logits(scene, head, judge.config), judge.calibration)[scene.known.numpy()].astype(np.float64)
    p = np.clip(p, 1e-9, 1 - 1e-9)
    p = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + level)))
    truth = (scene.labels[:, 1] > 0.5)[scene.known].numpy()
    return {"called": float((p >= DECISION).mean()), "IoU": iou(p, truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=float, nargs="*", default=[0.25])
    options = parser.parse_args()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        places = places_of(tiles_of(options.data, Path(work)))
    rows = []
    heads = f"{'seed, place, scene, weight':45} {'share':>6} {'sure':>6} {'right':>6}"
    print(f"{heads}   called before, after   IoU before, after")
    for seed in range(options.seeds):
        learner = Learner(Variant(), None, seed)
        for held in places:
            others = [p for p in places if p is not held]
            judge = Judge(learner, others)
            prior = float(np.mean([float(p.labels[:, 1][p.known].mean()) for p in others]))
            for name, tiles in scenes(held, judge):
                if name not in SCENES:
                    continue
                scene = part(held, tiles)
                before = judged(judge, judge.head, scene)
                for weight in options.weights:
                    how = SelfTraining(weight=weight)
                    sure = sure_answers(
                        scene,
                        place_logits(scene, judge.head, judge.config),
                        judge.calibration,
                        rise=judge.rise(scene),
                        source_share=prior,
                        how=how,
                    )
                    row = {"seed": seed, "place": held.name, "scene": name, "weight": weight, "before": before}
                    row |= {"share": float(scene.labels[:, 1][scene.known].mean()), "taught": sure.place is not None}
                    after = before
                    if sure.place is not None:
                        head = fit_head([*others, sure.place], judge.config, HeadTraining(), seed)
                        after = judged(judge, head, scene)
                        agrees = (sure.place.labels[:, 1] > 0.5) == (scene.labels[:, 1] > 0.5)
                        row["right"] = float(agrees[sure.place.known].float().mean())
                    row |= {"after": after, "sure": (sure.villages + sure.others) / sure.cells}
                    rows.append(row)
                    print(
                        f"{f'{seed}, {held.name}, {name}, {weight:g}':45} {row['share']:6.3f} {row['sure']:6.2f} "
                        f"{row.get('right', float('nan')):6.2f}   {before['called']:.3f} {after['called']:.3f}   "
                        f"{before['IoU']:.3f} {after['IoU']:.3f}",
                        flush=True,
                    )
    print(json.dumps({"benchmark": "self_training", "cpu_s": round(time.process_time() - started), "rows": rows}))


if __name__ == "__main__":
    main()
