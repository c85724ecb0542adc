"""From files to the pixels that the two models take. Needs neither Ray nor torch."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fracray.captions.captioner import prepare
from fracray.config import Preprocessing, RadiographSettings
from fracray.errors import FracrayError, RadiographError
from fracray.extraction.rows import reason_of, with_seconds
from fracray.fingerprint import image_id as identify
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.vision.preprocess import preprocess

log = logging.getLogger(__name__)

ENOUGH = 2
"""A JPEG much larger than the pictures made of it is decoded at this multiple of their side or more."""


def read_rows(
    table: pa.Table, radiographs: RadiographSettings, image_size: int, preprocessing: Preprocessing
) -> pa.Table:
    """Read and decode the radiographs of `table` (schema WORK) that have no `reason` to be left alone.

    Adds caption_pixels and vision_pixels (the bytes of uint8 pictures `[s, s]`, only where wished for), a
    `reason` where that went wrong, and the seconds per row of `reading` and `decoding`.
    """
    sides = [image_size, preprocessing.size]
    # A border is found on the whole picture only.
    enough = None if preprocessing.crop_borders else ENOUGH * max(sides)
    caption_pixels: list[bytes | None] = []
    vision_pixels: list[bytes | None] = []
    reasons: list[str | None] = []
    reading = decoding = 0.0
    for row in table.to_pylist():
        for_caption, for_vision, reason = None, None, row["reason"]
        started = arrived = time.perf_counter()
        try:
            if reason is None:
                data = _identified(row, radiographs)
                arrived = time.perf_counter()
                pixels = read_radiograph(data, radiographs, enough=enough).pixels
                for_caption = prepare(pixels, image_size).tobytes() if row["want_captions"] else None
                for_vision = preprocess(pixels, preprocessing).tobytes() if row["want_embeddings"] else None
        except Exception as error:
            # Whatever a decoder raises on one file is that file's fate, not the run's.
            for_caption = for_vision = None
            reason = reason_of(error)
            if not isinstance(error, FracrayError):
                log.warning("%s: reading failed", row["uri"], exc_info=True)
        reading += arrived - started
        decoding += time.perf_counter() - arrived
        caption_pixels.append(for_caption)
        vision_pixels.append(for_vision)
        reasons.append(reason)
    table = table.drop_columns(["uri", "reason"])
    table = table.append_column("caption_pixels", pa.array(caption_pixels, pa.binary()))
    table = table.append_column("vision_pixels", pa.array(vision_pixels, pa.binary()))
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    return with_seconds(with_seconds(table, "reading", reading), "decoding", decoding)


def _identified(row: Mapping[str, Any], radiographs: RadiographSettings) -> bytes:
    """Return the file's bytes if they are those that the manifest was made from."""
    data = read_bytes(row["uri"], radiographs)
    if identify(data) != row["image_id"]:
        raise RadiographError("the file is not the one in the manifest; make the manifest again")
    return data
