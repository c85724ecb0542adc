"""Do a captioner's words add to the image? Beside the shipped bundle's cross-validation, on the same folds.

    python benchmarks/words.py fracray/assets/bundle manifest.parquet FOLDER/out_of_fold.parquet \\
        --outside outside.parquet FOLDER/all > words.md

The captions are those of `jobs/train_radiographs_captioner.py`, each by a captioner that had not seen the
row's fold, made on the same manifest. Words are 262 TF-IDF terms, scored by logistic regressions that did not
see the fold either: all words, without the verdict, and only the lines that say what is shown (region,
devices, number of views). With `--outside`, radiographs that neither bundle nor captioner has seen are scored
too, by regressions fitted on all others. Prints Markdown, first how far the captions are right.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_radiographs import Floats, joined, out_of_fold, regression, show
from scipy.special import logit
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fracray.bundle.bundle import load_bundle
from fracray.captions.captioner import prepare
from fracray.captions.choose import open_captioner
from fracray.captions.findings import labelled_lines
from fracray.captions.mask import mask_verdict
from fracray.captions.tiny.radiograph_card import agreement
from fracray.captions.tiny.radiograph_set import Annotations
from fracray.captions.verdict import verdict
from fracray.config import CaptionSettings
from fracray.evaluation.metrics import Bootstrap, auroc
from fracray.fusion.rows import load_rows
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.schema import MANIFEST, read_table
from fracray.vision.embed import embed

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
    return _prepared(found)


def _prepared(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        masked=table.caption.map(mask_verdict),
        shown=table.caption.map(surroundings),
        image_logit=logit(table.image.clip(1e-6, 1 - 1e-6)),
    )


def models() -> dict[str, Pipeline]:
    """Return what decides by words, alone and beside the image: unfitted, from the columns of the table."""

    def words(column: str, *, image: bool) -> Pipeline:
        blocks: list[tuple[Any, Any]] = [(TfidfVectorizer(max_features=TERMS), column)]
        blocks += [(StandardScaler(), ["image_logit"])] if image else []
        return make_pipeline(make_column_transformer(*blocks), regression())

    return {
        "words": words("caption", image=False),
        "words without the verdict": words("masked", image=False),
        "words on what is shown": words("shown", image=False),
        "image beside words": words("caption", image=True),
        "image beside words without the verdict": words("masked", image=True),
    }


def systems(table: pd.DataFrame, outside: pd.DataFrame | None = None) -> dict[str, Floats]:
    """Return scores out of fold, or of the rows `outside` by models fitted on all of `table`."""
    asked = table if outside is None else outside
    said = asked.caption.map(verdict).map({"positive": 1.0, "negative": 0.0}).fillna(0.5)
    scores: dict[str, Floats] = {"the caption's verdict": said.to_numpy()}
    for name, model in models().items():
        if outside is None:
            scores[name] = out_of_fold(model, table, table)
        else:
            scores[name] = model.fit(table, table.label).predict_proba(outside)[:, 1]
    return scores


def outside_rows(bundle: Path, manifest: Path, captioner: Path) -> pd.DataFrame:
    """Return radiographs that neither the bundle nor the captioner has seen: label, group, image, caption."""
    loaded = load_bundle(bundle)
    known = read_table(manifest, MANIFEST)
    rows = load_rows(known, None, loaded.config)
    numbers = embed(loaded.pipeline.backbone, rows.pixels, loaded.config.vision.batch_size)
    opened = open_captioner(CaptionSettings(model=str(captioner)))
    settings = loaded.config.radiographs
    read = [read_radiograph(read_bytes(uri, settings), settings).pixels for uri in rows.uris]
    pictures = [prepare(pixels, opened.image_size) for pixels in read]
    captions = [answer.text or "" for answer in opened.caption(pictures)]
    image = loaded.pipeline.classifiers["image"].probabilities(numbers, captions)
    columns = {"image_id": rows.image_ids, "label": rows.labels, "group": rows.groups, "image": image}
    return _prepared(pd.DataFrame(columns | {"caption": captions}))


def print_captions(table: pd.DataFrame) -> None:
    """Print how far the captions agree with the annotations."""
    annotations = [
        # `joined` names what is shown in words.
        Annotations(
            bool(row.label),
            row.region,
            row.projection,
            row.several_views == "True",
            row.hardware == "True",
            (),
        )
        for row in table.itertuples()
    ]
    said = agreement(table.caption.tolist(), annotations)
    print("| of the captions | |\n|---|---|")
    print(f"| region right | {said.region:.3f} |\n| projection right | {said.projection:.3f} |")
    print(f"| impression, sensitivity and specificity | {said.sensitivity:.3f}, {said.specificity:.3f} |")
    print(f"| impression, balanced accuracy | {said.balanced:.3f} |")
    print(f"| distinct | {said.distinct} of {len(table)} |\n")


def print_systems(table: pd.DataFrame, scores: dict[str, Floats], seed: int) -> None:
    """Print each system's AUROC and how much it has more than the image."""
    labels: NDArray[np.int8] = table.label.to_numpy(np.int8)
    bootstrap = Bootstrap(table.group.tolist(), 2000, 0.95, seed)
    image = table.image.to_numpy()
    print("| what decides | AUROC | more than the image |\n|---|---|---|")
    for name, values in {"the bundle's image": image, **scores}.items():
        found = bootstrap.figure(auroc, labels, values, "one class")
        more = bootstrap.difference(auroc, labels, values, image, "one class")
        print(f"| {name} | {show(found)} | {show(more)} |")
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("bundle", "manifest", "captions"):
        parser.add_argument(name, type=Path)
    parser.add_argument(
        "--outside", nargs=2, type=Path, metavar=("MANIFEST", "CAPTIONER"), help="score these radiographs too"
    )
    arguments = parser.parse_args()
    seed = load_bundle(arguments.bundle).config.seed
    table = with_captions(joined(arguments.bundle, arguments.manifest), arguments.captions)
    print(f"{len(table)} radiographs, {int(table.label.sum())} fractured, each scored out of fold\n")
    print_captions(table)
    print_systems(table, systems(table), seed)
    if arguments.outside:
        outside = outside_rows(arguments.bundle, *arguments.outside)
        print(f"{len(outside)} radiographs outside, {int(outside.label.sum())} fractured\n")
        print_systems(outside, systems(table, outside), seed)


if __name__ == "__main__":
    main()
