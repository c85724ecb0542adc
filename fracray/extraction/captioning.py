"""The step from pixels to captions. Needs no Ray."""

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from fracray.captions.captioner import Caption, open_captioner
from fracray.captions.verdict import verdict
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.extraction.rows import Row, infer, result_type, timed


class CaptionRows:
    """Turns caption_pixels into captions; loads the captioner once, when it is made."""

    def __init__(self, settings: CaptionSettings, fingerprint: str, image_size: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.image_size = image_size
        self.captioner = open_captioner(settings)
        if self.captioner.fingerprint != fingerprint:
            raise CaptionerError(
                f"captioner '{settings.model}' differs between the machines of the cluster; "
                "put the same model on all of them"
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replace caption_pixels by the struct column `captions` (null: not wished for)."""
        started = time.perf_counter()

        def failed(reason: str) -> Caption:
            return Caption(text=None, status="failed", reason=reason, tokens=None, seconds=None)

        def result(caption: Caption) -> dict[str, Any]:
            return {
                "caption": caption.text,
                "verdict": "none" if caption.text is None else verdict(caption.text),
                "tokens": caption.tokens,
                "seconds": caption.seconds,
                "status": caption.status,
                "reason": caption.reason,
            }

        def run(rows: Sequence[Row]) -> list[Caption]:
            return self.captioner.caption([row.pixels for row in rows], [row.image_id for row in rows])

        captions = infer(table, "captions", "caption_pixels", self.image_size, run, failed)
        results = [None if caption is None else result(caption) for caption in captions]
        table = table.append_column("captions", pa.array(results, result_type("captions")))
        return timed(table.drop_columns(["caption_pixels"]), "captioning", started)
