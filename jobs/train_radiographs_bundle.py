"""Make the bundle that ships again, from FracAtlas (Abedeen et al., Scientific Data 2023, CC BY 4.0).

    python jobs/train_radiographs_bundle.py FracAtlas --outside OTHER --target NEW-FOLDER

FracAtlas is the public archive's folder as it is unpacked, OTHER a folder or CSV of radiographs to hold out.
On two cores it takes about two hours for 2,459 radiographs; started again it goes on where it was.
"""

import argparse
import subprocess
import sys
from pathlib import Path

DATA = (
    "FracAtlas (Abedeen et al., Scientific Data 2023, CC BY 4.0): hands, legs, hips and shoulders, copies of "
    "at most 512 pixels, ages not stated. Not seen: other hospitals, spine, skull, chest, children as such."
)
OUTSIDE = "Other blocks of FracAtlas, in original size, without copies of what was trained on."
# No row has this test fold, so all are trained on; what is held out is OTHER.
SETTINGS = ("--profile", "radiographs", "--set", "search.test_fold=1000", "--data", DATA)


def _fracray(*arguments: str | Path) -> None:
    command = [sys.executable, "-c", "from fracray.cli.app import main; main()"]
    if status := subprocess.run([*command, *map(str, arguments)], check=False).returncode:
        raise SystemExit(status)  # The command has said in one line what was wrong.


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fracatlas", type=Path)
    parser.add_argument("--outside", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("radiographs-bundle"))
    asked = parser.parse_args()
    training, boxes, outside = (asked.work / f"{name}.parquet" for name in ("fracatlas", "boxes", "outside"))
    _fracray("manifest", asked.fracatlas, "--out", training, "--boxes", boxes)
    _fracray("manifest", asked.outside, "--out", outside, "--beside", training)
    _fracray("train", training, "--boxes", boxes, *SETTINGS, "--out", asked.target)
    _fracray("evaluate", asked.target, outside, "--out", asked.work / "evaluation", "--data", OUTSIDE)
