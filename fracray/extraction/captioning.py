"""The step from pixels to captions. Needs no Ray."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch

from fracray.captions.captioner import Caption
from fracray.captions.choose import open_captioner
from fracray.captions.findings import parse_findings
from fracray.captions.prompt import load_prompt
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
        self._impression_asked = load_prompt(settings.prompt).asks_for_impression
        test = self.captioner.self_test
        self._untold = None if test is None else json.dumps(asdict(test))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replace caption_pixels by the struct column `captions` (null: not wished for).

        `caption_hash` tells different captions apart without their text; `self_test`, as JSON, stands in the
        first row that this captioner answers.
        """
        started = time.perf_counter()
        captions = infer(table, "captions", "caption_pixels", self.image_size, self._run, _failed)
        results = [None if caption is None else self._result(caption) for caption in captions]
        table = table.append_column("captions", pa.array(results, result_type("captions")))
        hashes = [_hash(caption.text) if caption and caption.text else None for caption in captions]
        table = table.append_column("caption_hash", pa.array(hashes, pa.int64()))
        tests = [self._untold if place == 0 else None for place in range(table.num_rows)]
        table = table.append_column("self_test", pa.array(tests, pa.string()))
        self._untold = None
        return timed(table.drop_columns(["caption_pixels"]), "captioning", started)

    def _run(self, rows: Sequence[Row]) -> list[Caption]:
        return self.captioner.caption([row.pixels for row in rows], [row.image_id for row in rows])

    def _result(self, caption: Caption) -> dict[str, Any]:
        text = caption.text or ""
        return {
            "caption": caption.text,
            "verdict": verdict(text),
            "findings": parse_findings(text, impression_asked=self._impression_asked).status,
            "tokens": caption.tokens,
            "seconds": caption.seconds,
            "image_vector": caption.image_vector,
            "status": caption.status,
            "reason": caption.reason,
        }


def _failed(reason: str) -> Caption:
    return Caption(None, "failed", reason)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
