"""What the stages that do not learn make of each radiograph: computed once, used in every epoch and fold."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fracray.config import FinetuneSettings
from fracray.vision.augment import augment, draw_augmentations
from fracray.vision.backbone import Backbone
from fracray.vision.device import exact_arithmetic, training_arithmetic, training_pass
from fracray.vision.normalise import normalise

_CPU_PIXELS = 300_000
"""Pixels of a forward pass on a CPU. Larger activations are handed out and taken back by the operating system
each time (from 32 MB on, with glibc), which costs more than computing them."""
_LEARNING = {"none": 0, "fc": 0, "layer4": 1, "layer3+4": 2}


def split(backbone: Backbone, unfrozen: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the frozen and the learning stages of `backbone` (its own modules, not copies)."""
    learning = _LEARNING.get(unfrozen, len(backbone.stages))
    first = len(backbone.stages) - learning
    return backbone.stages[:first], backbone.stages[first:]


class FrozenStages:
    """Activations before the first learning stage, for `pixels` uint8 `[n, s, s]` and each augmentation draw.

    Draw 0 is the radiograph itself and -1 its mirror image, both kept in float32; the others are augmented,
    kept in bfloat16, and the same whichever rows are asked for. Where the head alone learns, activations are
    pooled, `[n, d, 1, 1]`, as it sees no more. `draws` is how many there are: one without augmentation; at
    most `settings.draws` where activations are stored, fewer when `settings.cache_gb` does not hold them; one
    per epoch where nothing is frozen, so that nothing is worth storing. Where not even two are affordable
    none is stored and they are computed again each time. `shape` is that of one activation, `(c, h, w)`.
    """

    def __init__(
        self,
        backbone: Backbone,
        pixels: NDArray[np.uint8],
        settings: FinetuneSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self._stages = split(backbone, settings.unfrozen)[0].to(device).eval()
        self._pixels = torch.tensor(pixels)
        self._strength = settings.augmentation
        self._seed = seed
        self._head_only = settings.unfrozen == "fc"
        at_once = max(1, _CPU_PIXELS // pixels[0].size) if device.type == "cpu" else training_pass(device)
        self._batch = at_once
        self.device = device
        self._stores: dict[int, Tensor] = {}
        self._known: dict[int, NDArray[np.bool_]] = {}
        self.shape = tuple(self._compute(np.zeros(1, np.intp), 0).shape[1:])
        frozen = len(self._stages) > 0
        changing = min(settings.draws, settings.epochs) if frozen else settings.epochs
        wanted = 1 if self._strength == 0 else changing
        plain_bytes = 4 * len(pixels) * int(np.prod(self.shape))
        exact_bytes = plain_bytes * (1 + backbone.mirror)
        affordable = 1 + 2 * (round(settings.cache_gb * 1e9) - exact_bytes) // plain_bytes
        self._stored = frozen and affordable >= min(wanted, 2)
        self.draws = min(wanted, affordable) if self._stored else wanted

    def fill(self, rows: NDArray[np.intp]) -> None:
        """Store what `rows` lack, all draws, so that no later epoch computes it; at most `draws` passes."""
        if self._stored:
            for draw in range(self.draws):
                for start in range(0, len(rows), self._batch):
                    self.activations(rows[start : start + self._batch], draw)

    def activations(self, rows: NDArray[np.intp], draw: int) -> Tensor:
        """Return the activations float32 `[len(rows), c, h, w]` of `rows` under augmentation `draw`."""
        if not self._stored:
            return self._compute(rows, draw)
        if draw not in self._stores:
            channels, height, width = self.shape
            shape = (len(self._pixels), height, width, channels)
            dtype = torch.float32 if draw <= 0 else torch.bfloat16
            self._stores[draw] = torch.empty(shape, dtype=dtype, device=self.device)
            self._known[draw] = np.zeros(len(self._pixels), bool)
        store, known = self._stores[draw], self._known[draw]
        missing = np.unique(rows[~known[rows]])
        for start in range(0, len(missing), self._batch):
            batch = missing[start : start + self._batch]
            store[batch] = self._compute(batch, draw).permute(0, 2, 3, 1).to(store.dtype)
        known[missing] = True
        return store[rows].to(torch.float32).permute(0, 3, 1, 2)

    def changes(self, rows: NDArray[np.intp], draw: int) -> NDArray[np.float32] | None:
        """Return the augmentation `[len(rows), 6]` of `rows` in `draw`; None: the radiographs as they are."""
        if draw <= 0:
            return None
        return draw_augmentations(len(self._pixels), self._strength, [self._seed, draw])[rows]

    def _compute(self, rows: NDArray[np.intp], draw: int) -> Tensor:
        pixels = self._pixels[rows].to(self.device)
        changes = self.changes(rows, draw)
        if draw < 0:
            pixels = pixels.flip(-1)
        if changes is None:
            with torch.no_grad(), exact_arithmetic():
                return self._pooled(self._stages(normalise(pixels)))
        with torch.no_grad(), training_arithmetic(self.device):
            return self._pooled(self._stages(normalise(augment(pixels, changes))).to(torch.float32))

    def _pooled(self, activations: Tensor) -> Tensor:
        return activations.mean(dim=(2, 3), keepdim=True) if self._head_only else activations
