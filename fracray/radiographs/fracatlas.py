"""FracAtlas (Abedeen et al., Scientific Data 2023) as its public archive comes out of the zip."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from fracray.errors import ManifestError
from fracray.location import Location
from fracray.radiographs.boxes import Box, read_coco, read_voc
from fracray.radiographs.class_folders import visible_files
from fracray.radiographs.csv_list import Line, read_lines
from fracray.radiographs.rows import PROJECTIONS, REGIONS, Row, joined_projections

_log = logging.getLogger(__name__)

_TABLE = "dataset.csv"
_FLAGS = (*REGIONS, *PROJECTIONS, "hardware", "multiscan", "fractured")
_NAME = re.compile(r"IMG([0-9]+)\.jpg")
_BLOCK = 25
"""Neighbouring numbers are often one patient; so many are taken to belong together."""
_FOLDERS = {True: "Fractured", False: "Non_fractured"}
_READERS = 16
"""Annotations read at once: they are many and small, and from S3 each waits for its own answer."""


def is_fracatlas(folder: Location) -> bool:
    """Whether the folder holds a dataset.csv with FracAtlas' columns."""
    table = folder / _TABLE
    if not table.is_file:
        return False
    header = table.read_bytes().partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    return {"image_id", *_FLAGS} <= {name.strip('" \r') for name in header.split(",")}


def rows_of_fracatlas(source: Location) -> Iterator[Row]:
    """Yield a row for every radiograph that dataset.csv names, whether its file is there or not.

    There are no patient ids: `_BLOCK` numbers in a row are given one group. Files that dataset.csv does not
    name are logged and left out. Raises `ManifestError` naming the line.
    """
    images = source / "images"
    if not images.is_folder:
        raise ManifestError(
            f"{source}: holds FracAtlas' {_TABLE} and no folder images; unpack all of the zip"
        )
    found: dict[str, list[str]] = defaultdict(list)
    for path in visible_files(images):
        found[path.name].append(str(path))
    named = set()
    for line in read_lines(source / _TABLE)[1]:
        name = line["image_id"]
        number = _NAME.fullmatch(name)
        if number is None:
            raise line.refused("image_id", "names look like IMG0000025.jpg; unpack the zip again")
        if name in named:
            raise ManifestError(f"{line.where}: {name} stands here a second time; unpack the zip again")
        named.add(name)
        shown = {flag for flag in _FLAGS if _flag(line, flag)}
        fractured = "fractured" in shown
        for place in found.get(name) or [f"{_FOLDERS[fractured]}/{name}"]:
            yield Row(
                str(images / place),
                int(fractured),
                region=_region(shown),
                projection=joined_projections(shown),
                several_views="multiscan" in shown,
                hardware="hardware" in shown,
                given_group=f"numbers from {int(number[1]) // _BLOCK * _BLOCK}",
            )
    if not named:
        raise ManifestError(f"{source / _TABLE}: names no radiograph; unpack the zip again")
    unnamed = [path for name, paths in sorted(found.items()) if name not in named for path in paths]
    if unnamed:
        _log.warning(
            "%s: left out %d files that %s does not name: %s",
            images, len(unnamed), _TABLE, ", ".join(unnamed[:10]),
        )  # fmt: skip


def boxes_of_fracatlas(source: Location) -> dict[str, list[Box]]:
    """Return the fractures' boxes by file name, from the Pascal VOC files or else from the COCO file.

    Raises `ManifestError` when the source is not FracAtlas or its annotations are missing or damaged.
    """
    if not is_fracatlas(source):
        raise ManifestError(
            f"{source}: not a folder with FracAtlas' {_TABLE}, the only source with boxes; leave out --boxes"
        )
    annotations = source / "Annotations"
    voc, coco = annotations / "PASCAL VOC", annotations / "COCO JSON" / "COCO_fracture_masks.json"
    names = [PurePosixPath(name) for name in voc.names() if re.fullmatch(r"IMG[0-9]+\.xml", name)]
    if names:
        places = [voc / str(name) for name in names]
        with ThreadPoolExecutor(_READERS) as readers:
            read = readers.map(lambda place: read_voc(place.read_bytes(), str(place)), places)
            return {f"{name.stem}.jpg": boxes for name, boxes in zip(names, read, strict=True)}
    if coco.is_file:
        return read_coco(coco.read_bytes(), str(coco))
    raise ManifestError(
        f"{annotations}: neither 'PASCAL VOC' nor 'COCO JSON' is there; unpack all of the zip"
    )


def _flag(line: Line, column: str) -> bool:
    if line[column] not in ("0", "1"):
        raise line.refused(column, "flags are 0 or 1; unpack the zip again")
    return line[column] == "1"


def _region(shown: set[str]) -> str | None:
    regions = [region for region in REGIONS if region in shown]
    return "mixed" if len(regions) > 1 else next(iter(regions), None)
