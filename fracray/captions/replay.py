"""Captions made before, answered again from their Parquet table.

Which caption belongs to a radiograph is decided by the identity of its file, never by its pixels: the table
holds no pixels, and another preprocessing must not change which radiograph is meant. So `caption` needs
`image_ids` here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from fracray.captions.captioner import Caption, Status
from fracray.errors import CaptionerError, TableError
from fracray.schema import CAPTIONS, read_table

IMAGE_SIZE = 32
"""Nothing looks at the pixels, so they are kept small."""


class ReplayCaptioner:
    """Answers with stored captions, looked up by `image_id`."""

    image_size = IMAGE_SIZE
    self_test = None

    def __init__(self, captions: Mapping[str, Caption], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._captions = captions

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each radiograph of `image_ids`; an unknown one gets status failed."""
        if image_ids is None:
            return [Caption(None, "failed", "a replay needs to be told the image_ids") for _ in pixels]
        if len(image_ids) != len(pixels):
            raise ValueError(f"{len(image_ids)} image_ids for {len(pixels)} pictures")
        unknown = Caption(None, "failed", "the captions table has no row for this image_id")
        return [self._captions.get(image_id, unknown) for image_id in image_ids]


def open_replay(path: Path, fingerprint: str) -> ReplayCaptioner:
    """Read the captions table at `path`; raises `CaptionerError` if it is none or names an image twice."""
    try:
        rows = read_table(path, CAPTIONS).to_pylist()
    except TableError as error:
        raise CaptionerError(f"captions cannot be replayed: {error}") from None
    captions: dict[str, Caption] = {}
    for row in rows:
        if row["image_id"] in captions:
            raise CaptionerError(
                f"{path}: image {row['image_id']} appears twice; keep one fingerprint in the table"
            )
        status = cast(Status, row["status"])
        captions[row["image_id"]] = Caption(
            row["caption"], status, row["reason"], row["tokens"], row["seconds"]
        )
    return ReplayCaptioner(captions, fingerprint)
