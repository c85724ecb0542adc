"""A FracAtlas of drawn bones, laid out like the public archive."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.radiographs.drawing import drawn_bones

COLUMNS = (
    "image_id", "hand", "leg", "hip", "shoulder", "mixed", "hardware", "multiscan", "fractured",
    "fracture_count", "frontal", "lateral", "oblique",
)  # fmt: skip
SHOWN = {
    0: "hand frontal fractured",
    1: "leg lateral",
    24: "",
    25: "hand shoulder frontal lateral multiscan",
    26: "hip oblique hardware fractured",
    50: "leg frontal fractured",
    51: "hand mixed frontal",
}
"""The flags of each number. 50 is truncated, 51 has no file; the file of 99 is not named."""
BOXES = {0: [(10, 20, 30, 45), (50.5, 60, 70, 80.25)], 26: [(-2, 150, 40, 203)], 50: [(1, 2, 3, 4)]}
"""Of pictures of 160 x 200 pixels; the third is partly beside its picture."""


def name_of(number: int) -> str:
    return f"IMG{number:07}.jpg"


def write_archive(folder: Path) -> Path:
    """Write the archive into `folder`, with both kinds of annotations; returns it."""
    lines = []
    for number, flags in SHOWN.items():
        fractured = "fractured" in flags
        path = folder / "images" / ("Fractured" if fractured else "Non_fractured") / name_of(number)
        if number != 51:
            _draw(path, number)
        lines.append(
            {column: int(column in flags.split()) for column in COLUMNS}
            | {"image_id": name_of(number), "fracture_count": len(BOXES.get(number, ()))}
        )
    cut = folder / "images" / "Fractured" / name_of(50)
    cut.write_bytes(cut.read_bytes()[:700])
    _draw(folder / "images" / "Non_fractured" / name_of(99), 99)
    with (folder / "dataset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    voc = folder / "Annotations" / "PASCAL VOC"
    voc.mkdir(parents=True)
    for number in SHOWN:
        (voc / name_of(number)).with_suffix(".xml").write_text(voc_text(BOXES.get(number, ())))
    coco = folder / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    coco.parent.mkdir()
    coco.write_text(json.dumps(coco_file()))
    return folder


def _draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((drawn_bones(seed) * 255).astype(np.uint8)).save(path)


def voc_text(boxes: Sequence[Sequence[float | str]]) -> str:
    sides = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        "<object><name>fractured</name><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>\n"
        for box in boxes
    )
    return f"<annotation>\n<size><width>160</width><height>200</height></size>\n{objects}</annotation>\n"


def coco_file() -> dict[str, object]:
    return {
        "info": {"year": 2022},
        "images": [{"id": number, "file_name": name_of(number), "width": 160} for number in BOXES],
        "annotations": [
            {"id": 0, "image_id": number, "bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
            for number, boxes in BOXES.items()
            for left, top, right, bottom in boxes
        ],
        "categories": [{"id": 0, "name": "fractured"}],
    }
