"""How often a bundle calls a picture unlike its training radiographs: radiographs it should know, and others.

    python benchmarks/familiarity.py BUNDLE manifest.parquet

MANIFEST names radiographs that the bundle was not fitted on: each of them called unlike is a false alarm. The
others are made on the spot: phantoms, photographs of scikit-learn, blank film, noise, a page of text, slices
of pydicom's test files. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_images

from fracray.bundle.bundle import Bundle, load_bundle
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.schema import MANIFEST, read_table
from fracray.vision.embed import embed_with_statistics
from fracray.vision.preprocess import preprocess, resize

Grey = NDArray[np.float32]
COPY = 512
"""Pixels of the longer side of the radiographs that the shipped bundle was fitted on, at most."""
SLICES = {"CT head and body": ("693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "CT_small.dcm")}
SLICES["MR"] = ("examples_overlay.dcm", "MR_small.dcm")


def others() -> dict[str, list[Grey]]:
    """Return pictures that no bundle for radiographs of limbs has seen, by what they are."""
    rng = np.random.default_rng(0)
    photographs = [_grey(Image.fromarray(photograph)) for photograph in load_sample_images().images]
    crops = [photograph[top : top + 200, 200:440] for photograph in photographs for top in (0, 100, 200)]
    return {
        "phantoms": [make_phantom(9_000_000 + seed).pixels for seed in range(30)],
        "photographs and crops of them": photographs + crops,
        "blank film": [np.full((400, 300), grey, np.float32) for grey in (0.0, 0.2, 0.5, 1.0)],
        "noise": [rng.random((400, 300), dtype=np.float32) for _ in range(4)],
        "a page of text": [_page(), 1 - _page()],
        **{name: [_slice(file) for file in files] for name, files in SLICES.items()},
    }


def copy_of(picture: Grey) -> Grey:
    """Return `picture` shrunk to at most `COPY` pixels a side."""
    shrink = min(1.0, COPY / max(picture.shape))
    height, width = (max(1, round(side * shrink)) for side in picture.shape)
    return resize(picture, (height, width))


def _grey(picture: Image.Image) -> Grey:
    return np.asarray(picture.convert("L"), np.float32) / 255


def _page() -> Grey:
    page = Image.new("L", (480, 640), 255)
    for line in range(40):
        ImageDraw.Draw(page).text(
            (20, 16 * line), "No fracture is seen. The joint is congruent. " * 2, fill=0
        )
    return _grey(page)


def _slice(file: str) -> Grey:
    pixels = pydicom.dcmread(str(get_testdata_file(file))).pixel_array.astype(np.float32)
    return (pixels - pixels.min()) / (pixels.max() - pixels.min())


def distances(bundle: Bundle, pictures: list[Grey]) -> NDArray[np.float64]:
    """Return the distance [n] of each picture to the bundle's training radiographs."""
    settings = bundle.config.vision
    squares = np.stack([preprocess(picture, settings.preprocessing) for picture in pictures])
    _, statistics = embed_with_statistics(bundle.pipeline.backbone, squares, 2, settings.device)
    return bundle.pipeline.familiarity.distances(statistics)


def main() -> None:
    """Print one line per kind of picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("manifest", type=Path)
    asked = parser.parse_args()
    bundle = load_bundle(asked.bundle)
    settings = bundle.config.radiographs
    known = [
        read_radiograph(read_bytes(row["uri"], settings), settings).pixels
        for row in read_table(asked.manifest, MANIFEST).to_pylist()
        if row["status"] == "ok" and row["image_id"] not in bundle.training_ids
    ]
    kinds = {"radiographs of other groups": known}
    kinds[f"the same, copies of at most {COPY} pixels"] = [copy_of(picture) for picture in known]
    kinds["the same, dense dark instead of bright"] = [1 - picture for picture in known]
    print("| pictures | n | called unlike | median distance (threshold: 1) |\n|---|---|---|---|")
    for name, pictures in (kinds | others()).items():
        relative = distances(bundle, pictures) / bundle.pipeline.familiarity.threshold
        print(f"| {name} | {len(relative)} | {(relative > 1).mean():.0%} | {np.median(relative):.2f} |")


if __name__ == "__main__":
    main()
