"""What a fit has finished so far, in a folder, so that a fit that was stopped goes on from there."""

import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fracray.config import Config
from fracray.errors import BackboneError
from fracray.fingerprint import fingerprint
from fracray.fusion.rows import Rows
from fracray.vision.backbone import Backbone, backbone_fingerprint, load_backbone, save_backbone


class UnfinishedFit:
    """Fold embeddings and the network on all rows, as they are finished.

    They are those of the same rows, labels, folds, boxes, vision settings and seed: whatever else `folder`
    holds from before is removed.
    """

    def __init__(self, folder: Path, rows: Rows, config: Config) -> None:
        self.folder = folder
        self._settings = config.vision.backbone
        identity = fingerprint(
            rows={"ids": rows.image_ids, "labels": rows.labels.tolist(), "folds": rows.folds.tolist()},
            boxes={"of": rows.boxes and [of_one.tolist() for of_one in rows.boxes]},
            backbone=backbone_fingerprint(config.vision),
            finetune=config.vision.finetune.model_dump(mode="json", exclude={"cache_gb"}),
            seed=config.seed,
        )
        key = folder / "fit.json"
        written = json.dumps(identity)
        if not key.is_file() or key.read_text(encoding="utf-8") != written:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            key.write_text(written, encoding="utf-8")

    def embeddings(self) -> dict[int, NDArray[np.float32]]:
        """Return the embeddings [n, d] of each finished fold."""
        return {int(path.stem): np.load(path) for path in sorted(self.folder.glob("[0-9]*.npy"))}

    def keep_embeddings(self, fold: int, embeddings: NDArray[np.float32]) -> None:
        """Write the embeddings [n, d] of `fold`."""
        unfinished = self.folder / f".{fold}.npy"
        np.save(unfinished, embeddings)
        unfinished.replace(self.folder / f"{fold}.npy")

    def backbone(self) -> Backbone | None:
        """Return the network fine-tuned on all rows; None: not finished."""
        try:
            return load_backbone(self._settings.model_copy(update={"weights": str(self._weights)}))
        except BackboneError:
            return None

    def keep_backbone(self, backbone: Backbone) -> None:
        """Write the network fine-tuned on all rows; raises `BackboneError` when it is not finite."""
        save_backbone(backbone, self._weights)

    def remove(self) -> None:
        """Remove the folder; what it held stands in the bundle now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _weights(self) -> Path:
        return self.folder / "backbone.safetensors"
