"""What a bundle's cross-validation is worth: beside simpler answers, per region, with words from annotations.

    python benchmarks/real_radiographs.py fracray/assets/bundle manifest.parquet > figures.md

MANIFEST is the one that the bundle was fitted on, with the columns region, projection, hardware and several
views, as `fracray manifest` makes it of FracAtlas. Everything is scored on the bundle's own folds: by
logistic regressions that did not see the fold, with intervals that draw whole groups. With `--sizes 224 384`
frozen features at these sizes are scored too (some minutes each on two cores). Prints Markdown.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fracray.bundle.bundle import load_bundle
from fracray.config import BackboneSettings, Config, Preprocessing
from fracray.evaluation.metrics import Bootstrap, Figure, auroc, brier, mcnemar
from fracray.fusion.rows import load_rows
from fracray.schema import MANIFEST, OUT_OF_FOLD, read_table
from fracray.vision.backbone import load_backbone
from fracray.vision.embed import embed

Floats = NDArray[np.float64]

SHOWN = ["region", "projection", "hardware", "several_views"]
FILE = ["width", "height", "aspect", "pixels", "format", "bits"]
REGULARISATION = 1e-3
"""C of the regressions on frozen features: hundreds of standardised numbers on some thousand rows."""


def joined(bundle: Path, manifest: Path) -> pd.DataFrame:
    """Return one line per row of the cross-validation: probabilities, label, and what the manifest says."""
    scored = read_table(bundle / "out_of_fold.parquet", OUT_OF_FOLD).to_pandas()
    known = read_table(manifest, MANIFEST).to_pandas().query("status == 'ok'")
    table = scored.merge(known.drop(columns=["label", "fold"]), on="image_id", how="inner")
    if len(table) < len(scored):
        raise SystemExit(
            f"{len(scored) - len(table)} of {len(scored)} rows of {bundle} do not stand in {manifest}; "
            "give the manifest that the bundle was fitted on"
        )
    table["aspect"], table["pixels"] = table.width / table.height, table.width * table.height
    table[SHOWN] = table[SHOWN].astype("string").fillna("unknown").astype(object)
    table["words"] = table.apply(_words, axis=1)
    return table


def _words(row: "pd.Series[str]") -> str:
    """What a perfect captioner that gives no verdict would say, as far as the annotations go."""
    metal = "metal hardware" if row.hardware == "True" else "no hardware"
    views = "several views" if row.several_views == "True" else "one view"
    return f"{row.region} {str(row.projection).replace('+', ' ')} {metal} {views}"


def out_of_fold(model: Pipeline, features: "pd.DataFrame | Floats", table: pd.DataFrame) -> Floats:
    """Return the probability of each row by `model` fitted on the rows of the other folds."""
    probabilities = np.empty(len(table))
    labels, folds = table.label.to_numpy(), table.fold.to_numpy()
    for fold in np.unique(folds):
        model.fit(features[folds != fold], labels[folds != fold])
        probabilities[folds == fold] = model.predict_proba(features[folds == fold])[:, 1]
    return probabilities


def regression(regularisation: float = 1.0) -> LogisticRegression:
    """Return an unfitted logistic regression with balanced classes, like the bundle's own."""
    return LogisticRegression(C=regularisation, class_weight="balanced", max_iter=5000)


def simple_answers(table: pd.DataFrame) -> dict[str, Floats]:
    """Return what needs no picture: file and annotations, and annotations as words beside the image."""
    names = OneHotEncoder(handle_unknown="ignore")

    def columns(chosen: Sequence[str]) -> Pipeline:
        numbers = [name for name in chosen if name in ("width", "height", "aspect", "pixels")]
        rest = [name for name in chosen if name not in numbers]
        return make_pipeline(
            make_column_transformer((StandardScaler(), numbers), (names, rest)), regression()
        )

    table = table.assign(image_logit=logit(table.image.clip(1e-6, 1 - 1e-6)))
    fused = make_column_transformer((StandardScaler(), ["image_logit"]), (TfidfVectorizer(), "words"))
    return {
        "file alone (size, shape, format)": out_of_fold(columns(FILE), table, table),
        "region and hardware alone": out_of_fold(columns(["region", "hardware"]), table, table),
        "all annotations but the fracture": out_of_fold(columns(SHOWN), table, table),
        "annotations and file": out_of_fold(columns(SHOWN + FILE), table, table),
        "image beside annotations as words": out_of_fold(make_pipeline(fused, regression()), table, table),
    }


def frozen_features(table: pd.DataFrame, manifest: Path, backbone: BackboneSettings, size: int) -> Floats:
    """Return out-of-fold probabilities by a regression on features of a backbone as it comes."""
    config = Config.model_validate(
        {
            "captions": {"captioner": "none"},
            "vision": {
                "preprocessing": Preprocessing(size=size, keep_proportions=True),
                "backbone": backbone,
            },
        }
    )
    rows = load_rows(read_table(manifest, MANIFEST), None, config)
    order = pd.Index(rows.image_ids).get_indexer(table.image_id)
    numbers = embed(load_backbone(backbone), rows.pixels[order], batch_size=2)
    return out_of_fold(make_pipeline(StandardScaler(), regression(REGULARISATION)), numbers, table)


def show(figure: Figure) -> str:
    """Return a figure with its interval."""
    if figure.value is None or figure.low is None:
        return "-"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def print_systems(table: pd.DataFrame, systems: dict[str, Floats], seed: int) -> None:
    """Print each system's AUROC and how it differs from the image's, whose probabilities are calibrated."""
    labels = table.label.to_numpy(np.int8)
    bootstrap = Bootstrap(table.group.tolist(), 2000, 0.95, seed)
    image = table.image.to_numpy()
    print("| what decides | AUROC | less than the image |\n|---|---|---|")
    for name, scores in {"the bundle's image": image, **systems}.items():
        found = bootstrap.figure(auroc, labels, scores, "one class")
        less = bootstrap.difference(auroc, labels, image, scores, "one class")
        print(f"| {name} | {show(found)} | {show(less)} |")
    beside = systems["image beside annotations as words"]
    first, second = (at_sensitivity(scores, labels, 0.9) for scores in (image, beside))
    only_image, only_fused, p = mcnemar(
        labels, (image >= first).astype(np.int8), (beside >= second).astype(np.int8)
    )
    print(f"\nBrier score of the image: {show(bootstrap.figure(brier, labels, image, 'no rows'))}.")
    print(
        f"At a sensitivity of 0.9 the image alone is right where words beside it are wrong on {only_image} "
        f"rows, the other way round on {only_fused} (McNemar p = {p:.2g}).\n"
    )


def print_regions(table: pd.DataFrame, seed: int) -> None:
    """Print the image's AUROC within each region: what is left once legs are compared with legs only."""
    print("| region | rows | fractured | AUROC of the image |\n|---|---|---|---|")
    for region, part in table.groupby("region"):
        bootstrap = Bootstrap(part.group.tolist(), 2000, 0.95, seed)
        found = bootstrap.figure(auroc, part.label.to_numpy(np.int8), part.image.to_numpy(), "one class")
        print(f"| {region} | {len(part)} | {int(part.label.sum())} | {show(found)} |")
    print()


def at_sensitivity(scores: Floats, labels: NDArray[np.int8], wanted: float) -> float:
    """Return the highest threshold that calls the share `wanted` of the fractured rows."""
    fractured = np.sort(scores[labels == 1])[::-1]
    return float(fractured[int(np.ceil(wanted * len(fractured))) - 1])


def print_operating_points(table: pd.DataFrame) -> None:
    """Print two thresholds: one that misses few fractures, one that raises few false alarms."""
    labels, scores = table.label.to_numpy(np.int8), table.image.to_numpy()
    cautious = at_sensitivity(scores, labels, 0.9)
    specific = float(np.quantile(scores[labels == 0], 0.9))
    print("| operating point | probability from | sensitivity | specificity |\n|---|---|---|---|")
    for name, threshold in (("few missed", cautious), ("few false alarms", specific)):
        called = scores >= threshold
        found, cleared = called[labels == 1].mean(), (~called)[labels == 0].mean()
        print(f"| {name} | {threshold:.3f} | {found:.3f} | {cleared:.3f} |")
    print()


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="frozen features at these sizes too")
    arguments = parser.parse_args()
    seed = load_bundle(arguments.bundle).config.seed
    table = joined(arguments.bundle, arguments.manifest)
    systems = simple_answers(table)
    for size in arguments.sizes:
        backbone = BackboneSettings(architecture="efficientnet_lite0", weights="imagenet")
        systems[f"frozen ImageNet features, {size} pixels"] = frozen_features(
            table, arguments.manifest, backbone, size
        )
    if arguments.sizes:
        systems["phantom-trained ResNet, 224 pixels"] = frozen_features(
            table, arguments.manifest, BackboneSettings(), 224
        )
    print(f"{len(table)} radiographs, {int(table.label.sum())} fractured, {table.group.nunique()} groups\n")
    print_systems(table, systems, seed)
    print_regions(table, seed)
    print_operating_points(table)


if __name__ == "__main__":
    main()
