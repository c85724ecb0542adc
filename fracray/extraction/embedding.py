"""The step from pixels to embeddings. Needs no Ray."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fracray.config import VisionSettings
from fracray.errors import BackboneError
from fracray.extraction.rows import Row, infer, result_type, timed
from fracray.vision.backbone import backbone_fingerprint, load_backbone
from fracray.vision.embed import embed


class EmbedRows:
    """Turns vision_pixels into embeddings; loads the backbone once, when it is made."""

    def __init__(self, settings: VisionSettings, fingerprint: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.settings = settings
        self.backbone = load_backbone(settings.backbone)
        if backbone_fingerprint(settings) != fingerprint:
            raise BackboneError(
                f"backbone '{settings.backbone.weights}' differs between the machines of the cluster; "
                "put the same weights on all of them"
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replace vision_pixels by the struct column `embeddings` (null: not wished for)."""
        started = time.perf_counter()

        def failed(reason: str) -> dict[str, Any]:
            return {"embedding": None, "status": "failed", "reason": reason}

        def run(rows: Sequence[Row]) -> list[dict[str, Any]]:
            pixels = np.stack([row.pixels for row in rows])
            settings = self.settings
            numbers = embed(self.backbone, pixels, settings.batch_size, settings.device, settings.precision)
            return [
                {"embedding": row, "status": "ok", "reason": None}
                if np.isfinite(row).all()
                else failed("the embedding is not finite")
                for row in numbers
            ]

        size = self.settings.preprocessing.size
        results = infer(table, "embeddings", "vision_pixels", size, run, failed)
        table = table.append_column("embeddings", pa.array(results, result_type("embeddings")))
        return timed(table.drop_columns(["vision_pixels"]), "embedding", started)
