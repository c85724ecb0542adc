"""Make the bundle that ships again, from FracAtlas (Abedeen et al., Scientific Data 2023, CC BY 4.0).

    python jobs/train_radiographs_bundle.py FracAtlas --outside OTHER --target fracray/assets/bundle

FracAtlas is the public archive's folder as it is unpacked, OTHER a folder or a CSV of further radiographs
that are held out. On two cores it takes some two hours for 2,459 radiographs; stopped and started again it
goes on with what it has finished.
"""

import argparse
import subprocess
import sys
from pathlib import Path

DATA = (
    "FracAtlas (Abedeen et al., Scientific Data 2023, CC BY 4.0): hands, legs, hips and shoulders, copies of "
    "at most 512 pixels, ages not stated. Not seen: other hospitals, spine, skull, chest, children as such."
)
NO_FOLD = "1000"
"""A test fold that no row has, so that all rows are trained on; what is held out lies in another folder."""


def fracray(*arguments: str | Path) -> None:
    """Run one command of the command line."""
    program = "from fracray.cli.app import main; main()"
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fracatlas", type=Path)
    parser.add_argument("--outside", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("radiographs-bundle"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    training, outside = asked.work / "fracatlas.parquet", asked.work / "outside.parquet"
    fracray("manifest", asked.fracatlas, "--out", training)
    fracray("manifest", asked.outside, "--out", outside)
    settings = ("--profile", "radiographs", "--set", f"search.test_fold={NO_FOLD}", "--data", DATA)
    fracray("train", training, *settings, "--out", asked.target)
    fracray("evaluate", asked.target, outside, "--out", asked.work / "evaluation")
