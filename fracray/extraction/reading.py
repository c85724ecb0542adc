"""From files to the pixels that the two models take. Needs neither Ray nor torch."""

import logging
import time

import pyarrow as pa

from fracray.captions.captioner import prepare
from fracray.config import Preprocessing, RadiographSettings
from fracray.errors import FracrayError, RadiographError
from fracray.extraction.rows import reason_of, timed
from fracray.fingerprint import image_id as identify
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.vision.preprocess import preprocess

log = logging.getLogger(__name__)


def read_rows(
    table: pa.Table, radiographs: RadiographSettings, image_size: int, preprocessing: Preprocessing
) -> pa.Table:
    """Read and decode the radiographs of `table` (schema WORK).

    Adds caption_pixels and vision_pixels (the bytes of uint8 pictures `[s, s]`, only where wished for),
    `reason` (null: read) and `reading`, seconds per row.
    """
    started = time.perf_counter()
    caption_pixels: list[bytes | None] = []
    vision_pixels: list[bytes | None] = []
    reasons: list[str | None] = []
    for row in table.to_pylist():
        for_caption = for_vision = reason = None
        try:
            data = read_bytes(row["uri"], radiographs)
            if identify(data) != row["image_id"]:
                raise RadiographError("the file is not the one in the manifest; make the manifest again")
            pixels = read_radiograph(data, radiographs).pixels
            if row["want_captions"]:
                for_caption = prepare(pixels, image_size).tobytes()
            if row["want_embeddings"]:
                for_vision = preprocess(pixels, preprocessing).tobytes()
        except Exception as error:
            # Whatever a decoder raises on one file is that file's fate, not the run's.
            for_caption = for_vision = None
            reason = reason_of(error)
            if not isinstance(error, FracrayError):
                log.warning("%s: reading failed", row["uri"], exc_info=True)
        caption_pixels.append(for_caption)
        vision_pixels.append(for_vision)
        reasons.append(reason)
    table = table.append_column("caption_pixels", pa.array(caption_pixels, pa.binary()))
    table = table.append_column("vision_pixels", pa.array(vision_pixels, pa.binary()))
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    return timed(table.drop_columns(["uri"]), "reading", started)
