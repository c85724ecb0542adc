"""Fractures' boxes: from Pascal VOC and COCO annotations to the boxes table."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import pyarrow as pa
from pydantic import BaseModel, FiniteFloat, ValidationError

from fracray.errors import ManifestError
from fracray.schema import BOXES

_log = logging.getLogger(__name__)


class Box(NamedTuple):
    """A rectangle in pixels, from the picture's upper left corner."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class _CocoImage(BaseModel):
    id: int
    file_name: str


class _CocoAnnotation(BaseModel):
    image_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class _Coco(BaseModel):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]


def read_voc(data: bytes, where: str) -> list[Box]:
    """Return the boxes of all objects in a Pascal VOC file; raises `ManifestError` naming `where`."""
    try:
        text = data.decode("utf-8-sig")
        # Only a document type can declare entities, which may grow without bound; VOC files have none.
        if "<!DOCTYPE" in text:
            raise ManifestError(
                f"{where}: declares a document type, which annotations don't; unpack it again"
            )
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError):
        raise ManifestError(f"{where}: not readable XML; unpack it again") from None
    if root.tag != "annotation":
        raise ManifestError(f"{where}: holds '{root.tag}', not a Pascal VOC annotation; unpack it again")
    return [
        _checked([found.findtext(f"bndbox/{side}") for side in Box._fields], where)
        for found in root.findall("object")
    ]


def read_coco(data: bytes, where: str) -> dict[str, list[Box]]:
    """Return the boxes of a COCO file by the images' names; raises `ManifestError` naming `where`."""
    try:
        coco = _Coco.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{where}: not a COCO file, {place}: {first['msg']}; unpack it again") from None
    names = {image.id: PurePosixPath(image.file_name).name for image in coco.images}
    boxes: dict[str, list[Box]] = {name: [] for name in names.values()}
    for annotation in coco.annotations:
        if annotation.image_id not in names:
            raise ManifestError(f"{where}: no image has the id {annotation.image_id}; unpack it again")
        left, top, width, height = annotation.bbox
        boxes[names[annotation.image_id]].append(_checked((left, top, left + width, top + height), where))
    return boxes


def boxes_table(boxes: Mapping[str, Sequence[Box]], manifest: pa.Table) -> pa.Table:
    """Return a table of schema BOXES: the boxes, by file name, of the rows of `manifest` that are ok.

    Boxes end where their picture does. Logged are boxes beside it, which are left out, and how many of the
    fractured radiographs have none.
    """
    table: dict[str, list[str | float]] = defaultdict(list)
    beside, without = [], 0
    for row in manifest.select(["image_id", "uri", "label", "status", "width", "height"]).to_pylist():
        if row["status"] != "ok":
            continue
        # What follows a question mark sets up a connection, see Location.
        name = PurePosixPath(row["uri"].partition("?")[0]).name
        within = [_clipped(box, row["width"], row["height"]) for box in boxes.get(name, ())]
        kept = [box for box in within if box.xmin < box.xmax and box.ymin < box.ymax]
        for box in kept:
            for column, value in zip(BOXES.names, (row["image_id"], *box), strict=True):
                table[column].append(value)
        if len(kept) < len(within):
            beside.append(name)
        without += row["label"] == 1 and not kept
    if beside:
        _log.warning("left out boxes beside the picture, of %d radiographs: %s", len(beside), beside[:10])
    if without:
        _log.warning("%d fractured radiographs have no box", without)
    return pa.table({name: table[name] for name in BOXES.names}, schema=BOXES)


def _checked(sides: Sequence[str | float | None], where: str) -> Box:
    try:
        box = Box(*(float("nan" if side is None else side) for side in sides))
    except ValueError:
        box = Box(0, 0, 0, 0)
    # Also false for what is not a number.
    if not (all(map(math.isfinite, box)) and box.xmin < box.xmax and box.ymin < box.ymax):
        raise ManifestError(f"{where}: {list(sides)} is no box of xmin, ymin, xmax, ymax; correct it")
    return box


def _clipped(box: Box, width: int, height: int) -> Box:
    return Box(max(box.xmin, 0), max(box.ymin, 0), min(box.xmax, width), min(box.ymax, height))
