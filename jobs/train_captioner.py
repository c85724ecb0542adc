"""Make the embedded captioner again: `python jobs/train_captioner.py --target fracray/assets/captioner`.

On two idle cores it takes about an hour. A rerun goes on from the last finished step in the work folder.
"""

import argparse
import logging
from pathlib import Path

from fracray.captions.tiny.training import Plan, make_captioner


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="folder for the finished captioner")
    parser.add_argument(
        "--work", type=Path, default=Path("captioner-training"), help="folder for phantoms and steps"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=Plan.pairs, help="pairs of phantoms")
    parser.add_argument("--minutes", type=float, nargs=3, default=[Plan.crops, Plan.pictures, Plan.words])
    parser.add_argument("--processes", type=int, default=Plan.processes)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    crops, pictures, words = arguments.minutes
    plan = Plan(arguments.seed, arguments.pairs, crops, pictures, words, processes=arguments.processes)
    make_captioner(arguments.work, arguments.target, plan)


if __name__ == "__main__":
    main()
