"""What a new run over 342 finished cities costs before it can say that there is nothing to do.

    python benchmarks/finished_nation.py

342 cities with 12 source files of data and a product of 14 files each are laid out and marked as finished; then they
are looked up as a run does it, first all as they are, then with one source file of one city touched. The last line is
one JSON object. The rest of such a run is its start on the server: about 20 s.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.campaign_run import configured
from flows.choice import chosen
from flows.finished import find_finished, mark_finished
from flows.record import stamp_of
from pipeline.city.job import job_of

SOURCES, PRODUCTS = 12, 14


def main() -> None:
    """Lay out, look up twice, print."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "model").mkdir()
        (root / "model" / "weights.safetensors").write_bytes(b"w")
        campaign = configured(
            "china", data_root=str(root / "data"), out_root=str(root / "out"), checkpoint=str(root / "model")
        )
        cities = chosen(campaign)
        for city in cities:
            imagery = campaign.data_folder(city.adcode) / "imagery"
            imagery.mkdir(parents=True)
            for k in range(SOURCES):
                (imagery / f"{k}.tif").write_bytes(b"x")
            product = campaign.product_folder(city.adcode)
            product.mkdir(parents=True)
            files = {f"{k}.bin": {"bytes": 3} for k in range(PRODUCTS)}
            for name in files:
                (product / name).write_bytes(b"abc")
            (product / "manifest.json").write_text(json.dumps({"files": files}))
            job = job_of(campaign, city)
            mark_finished(job, stamp_of(job), {"scores": {"predicted_px": 1}})
        start, cpu = time.perf_counter(), time.process_time()
        found = sum(find_finished(job_of(campaign, city)) is not None for city in cities)
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        os.utime(campaign.data_folder("440300") / "imagery" / "0.tif", (1, 1))
        left = [c.adcode for c in cities if find_finished(job_of(campaign, c)) is None]
        if found != len(cities) or left != ["440300"]:
            raise SystemExit(f"{found} of {len(cities)} found, then missing {left}")
        print(f"{found} finished cities found in {seconds:.2f} s, {cpu_s:.2f} CPU-s")
        print(json.dumps({"cities": found, "seconds": round(seconds, 2), "cpu_s": round(cpu_s, 2)}))


if __name__ == "__main__":
    main()
