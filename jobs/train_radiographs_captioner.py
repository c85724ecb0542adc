"""Teach the embedded captioner real radiographs, from a manifest with annotations and boxes of fractures.

    fracray manifest FracAtlas --out manifest.parquet --boxes boxes.parquet
    python jobs/train_radiographs_captioner.py manifest.parquet boxes.parquet --work FOLDER

Leaves FOLDER/all, the captioner of all radiographs, and FOLDER/out_of_fold.parquet: captions of each
radiograph by a captioner that has not seen its fold. Stopped and started again it goes on.
"""

import argparse
from pathlib import Path

from fracray.captions.tiny.radiograph_set import load_radiographs
from fracray.captions.tiny.radiograph_training import RadiographPlan, make_radiograph_captioners
from fracray.config import RadiographSettings
from fracray.errors import FracrayError
from fracray.schema import BOXES, MANIFEST, read_table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("manifest", "boxes"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--eye-steps", type=int, default=RadiographPlan.eye_steps)
    parser.add_argument("--word-steps", type=int, default=RadiographPlan.word_steps)
    asked = parser.parse_args()
    try:
        tables = read_table(asked.manifest, MANIFEST), read_table(asked.boxes, BOXES)
        radiographs = load_radiographs(*tables, RadiographSettings())
        plan = RadiographPlan(asked.seed, asked.eye_steps, asked.word_steps)
        make_radiograph_captioners(radiographs, asked.work, plan)
    except FracrayError as error:
        raise SystemExit(f"error: {error}") from None
