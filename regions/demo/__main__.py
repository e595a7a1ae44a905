"""``python -m regions.demo OUT --side-m 4000 --seed 1``: make a demo city."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from regions.demo.city import DEMO_ADCODE, DEMO_SEED, DEMO_SIDE_M, generate_demo_city
from regions.errors import RegionsError


def main(argv: list[str] | None = None) -> int:
    """Make a demo city and name its folder; 1 and one line on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m regions.demo",
        description="Make a demo city: imagery, OpenStreetMap data, truth and districts.",
        epilog="example: python -m regions.demo data/990001 --side-m 4000 --seed 1",
    )
    parser.add_argument("out", type=Path, help="folder of the city, made if absent")
    parser.add_argument("--side-m", type=int, default=DEMO_SIDE_M, help="side in metres, 1000 to 50000")
    parser.add_argument("--seed", type=int, default=DEMO_SEED)
    parser.add_argument("--adcode", default=DEMO_ADCODE)
    parser.add_argument("--only", choices=["vectors", "imagery"], help="write only one of the two")
    args = parser.parse_args(argv)
    bars: dict[str, tqdm[Any]] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total, desc=what, file=sys.stderr, dynamic_ncols=True)
        bar = bars[what]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    try:
        city = generate_demo_city(
            args.out,
            seed=args.seed,
            side_m=args.side_m,
            adcode=args.adcode,
            parts=(args.only,) if args.only else ("vectors", "imagery"),
            progress=show,
        )
    except RegionsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{city.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
