"""Make the embedded captioner again: `python jobs/train_captioner.py --target fracray/assets/captioner`.

On two idle cores it takes about 90 minutes. A rerun goes on from the last finished stage in the work folder.
"""

import argparse
import logging
from pathlib import Path

from fracray.captions.tiny.training import Plan, make_captioner
from fracray.errors import FracrayError


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="folder for the finished captioner")
    parser.add_argument(
        "--work", type=Path, default=Path("captioner-training"), help="folder for phantoms and stages"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pairs", type=int, nargs=2, default=[Plan.vision_pairs, Plan.words_pairs])
    parser.add_argument(
        "--steps", type=int, nargs=3, default=[Plan.crop_steps, Plan.picture_steps, Plan.word_steps]
    )
    parser.add_argument("--processes", type=int, default=Plan.processes)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(arguments.seed, *arguments.pairs, *arguments.steps, processes=arguments.processes)
    try:
        make_captioner(arguments.work, arguments.target, plan)
    except FracrayError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
