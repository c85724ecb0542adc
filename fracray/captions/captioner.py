"""The one protocol behind which every captioner stands, its input, and its answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from PIL import Image

Status = Literal["ok", "truncated", "repetitive", "empty", "failed"]


@dataclass(frozen=True)
class Caption:
    """One answer: `text` as written (None: none), `status`, why it is not ok, tokens written, seconds taken.

    `seconds` is the time of the whole batch divided by its radiographs. `image_vector` float32 [d] is the
    mean of the image tokens that the language model was shown, a by-product of the same pass; None where
    there is no image tower.
    """

    text: str | None
    status: Status
    reason: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    image_vector: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class SelfTest:
    """How a captioner did on a known picture before its first radiograph.

    `memory_bytes`: allocated on the GPU, or resident in the process on a CPU.
    """

    text: str
    status: Status
    tokens: int
    seconds: float
    quantised_layers: int
    memory_bytes: int
    device: str

    def sentence(self) -> str:
        """Return the figures in one line."""
        rate = self.tokens / self.seconds if self.seconds else 0.0
        return (
            f"{self.status}, {self.tokens} tokens in {self.seconds:.2f} s ({rate:.0f} per second), "
            f"{self.quantised_layers} quantised layers, {self.memory_bytes / 1e9:.1f} GB on {self.device}"
        )


class Captioner(Protocol):
    """Describes radiographs in words."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that can change an answer."""

    @property
    def image_size(self) -> int:
        """Side of the square picture that `caption` takes, pixels."""

    @property
    def self_test(self) -> SelfTest | None:
        """What the captioner answered to a known picture; None where there is no model to test."""

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each picture (uint8 [s, s] from `prepare`), in order; one bad picture fails alone.

        `image_ids` (SHA-256 of each file) tell the replay which stored caption is meant; a model never reads
        them.
        """


def prepare(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Squeeze a radiograph (float32 [h, w] in [0, 1], bright is dense) to uint8 [image_size, image_size].

    The only resize on the way to a captioner: bilinear with anti-aliasing and without keeping proportions, as
    Gemma 3's own processor does it, which then finds the size right and leaves the picture as it is.
    """
    picture = Image.fromarray(np.asarray(pixels, dtype=np.float32))
    resized = np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))
    return np.clip(np.rint(resized * 255.0), 0, 255).astype(np.uint8)
