"""Do a captioner's words add to the image? Beside the shipped bundle's cross-validation, on the same folds.

    python benchmarks/words.py fracray/assets/bundle manifest.parquet FOLDER/out_of_fold.parquet > words.md

The captions are those of `jobs/train_radiographs_captioner.py`, each by a captioner that had not seen the
row's fold, made on the same manifest. Words are 262 TF-IDF terms, scored by logistic regressions that did not
see the fold either: all words, without the verdict, and only the lines that say what is shown (region,
devices, number of views). Prints Markdown, first how far the captions are right.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_radiographs import Floats, joined, out_of_fold, regression, show
from scipy.special import logit
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fracray.bundle.bundle import load_bundle
from fracray.captions.findings import labelled_lines, parse_findings
from fracray.captions.mask import mask_verdict
from fracray.captions.verdict import verdict
from fracray.evaluation.metrics import Bootstrap, auroc

SURROUNDINGS = ("region", "devices", "other")
TERMS = 262
"""The paper's number of TF-IDF terms."""


def surroundings(caption: str) -> str:
    """Return the lines of a caption that say what is shown and nothing about a fracture."""
    return "\n".join(line.whole for line in labelled_lines(caption) if line.label in SURROUNDINGS)


def with_captions(table: pd.DataFrame, captions: Path) -> pd.DataFrame:
    """Return the rows of `table` with their captions: whole, masked, and what is shown."""
    found = table.merge(pd.read_parquet(captions)[["image_id", "caption"]], on="image_id", how="left")
    if (missing := int(found.caption.isna().sum())) > 0:
        raise SystemExit(
            f"{missing} rows of the bundle have no caption in {captions}; caption the manifest again"
        )
    return found.assign(
        masked=found.caption.map(mask_verdict),
        shown=found.caption.map(surroundings),
        image_logit=logit(found.image.clip(1e-6, 1 - 1e-6)),
    )


def systems(table: pd.DataFrame) -> dict[str, Floats]:
    """Return the out-of-fold scores of words alone and beside the image."""

    def words(column: str, *, image: bool) -> Floats:
        blocks = [(TfidfVectorizer(max_features=TERMS), column)]
        blocks += [(StandardScaler(), ["image_logit"])] if image else []
        return out_of_fold(make_pipeline(make_column_transformer(*blocks), regression()), table, table)

    said = table.caption.map(verdict).map({"positive": 1.0, "negative": 0.0}).fillna(0.5)
    return {
        "the caption's verdict": said.to_numpy(),
        "words": words("caption", image=False),
        "words without the verdict": words("masked", image=False),
        "words on what is shown": words("shown", image=False),
        "image beside words": words("caption", image=True),
        "image beside words without the verdict": words("masked", image=True),
    }


def print_captions(table: pd.DataFrame) -> None:
    """Print how far the captions agree with the annotations."""
    regions = [parse_findings(caption).region for caption in table.caption]
    named = [said.startswith(region) for said, region in zip(regions, table.region, strict=True)]
    views = [said.split(", ", 1)[-1].removesuffix(".").removesuffix(" view") for said in regions]
    seen = views == table.projection.str.replace("+", ", ")
    positive = table.caption.map(verdict) == "positive"
    balanced = balanced_accuracy_score(table.label, positive)
    print("| of the captions | |\n|---|---|")
    print(f"| region right | {np.mean(named):.3f} |\n| projection right | {np.mean(seen):.3f} |")
    print(f"| impression, balanced accuracy | {balanced:.3f} |")
    print(f"| distinct | {table.caption.nunique()} of {len(table)} |\n")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("bundle", "manifest", "captions"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    table = with_captions(joined(arguments.bundle, arguments.manifest), arguments.captions)
    print_captions(table)
    labels: NDArray[np.int8] = table.label.to_numpy(np.int8)
    bootstrap = Bootstrap(table.group.tolist(), 2000, 0.95, load_bundle(arguments.bundle).config.seed)
    image = table.image.to_numpy()
    print("| what decides | AUROC | more than the image |\n|---|---|---|")
    for name, scores in {"the bundle's image": image, **systems(table)}.items():
        found = bootstrap.figure(auroc, labels, scores, "one class")
        more = bootstrap.difference(auroc, labels, scores, image, "one class")
        print(f"| {name} | {show(found)} | {show(more)} |")


if __name__ == "__main__":
    main()
