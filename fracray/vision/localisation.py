"""Where the fractures are, beside whether there is one: what radiologists' boxes teach the feature map.

A label says one bit of a picture in which a break covers half a percent. The boxes say which places of the
feature map should tell fractured from not, so the network learns fractures and less of what goes with them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fracray.vision.augment import augment, without_grey_changes

POSITIVE_WEIGHT = 10.0
"""A place with a fracture counts as much as this many without: there is about one in a hundred."""
COVERED = 0.15
"""Share of a place's cell that boxes must cover for it to hold a fracture; the most covered one always
does."""


class FracturePlaces:
    """Boxes of each radiograph as targets on the feature map, moved along with its augmentation.

    `boxes` holds [k, 4] per radiograph, (xmin, ymin, xmax, ymax) in pixels of the preprocessed square of side
    `size`; `labels` [n] are 0 or 1. A fractured radiograph without a box is one of which nobody knows where.
    """

    def __init__(self, boxes: Sequence[NDArray[np.float32]], labels: NDArray[np.int8], size: int) -> None:
        self._boxes, self._size = boxes, size
        has_box = np.array([len(of_one) > 0 for of_one in boxes])
        self._known = (labels == 0) | has_box

    def targets(
        self, rows: NDArray[np.intp], changes: NDArray[np.float32] | None, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return targets float32 0 or 1 `[n, *shape]` of the `n` `rows`, and whether each is known `[n]`.

        `changes` are the rows' augmentation, as `draw_augmentations` makes them; None: none.
        """
        known = torch.from_numpy(self._known[rows])
        targets = torch.zeros(len(rows), *shape)
        broken = [position for position, row in enumerate(rows) if len(self._boxes[row])]
        if broken:
            drawn = torch.stack([self._drawn(int(rows[position])) for position in broken])
            if changes is not None:
                drawn = augment(drawn, without_grey_changes(changes[broken]))
            covered = functional.adaptive_avg_pool2d(drawn.float() / 255, shape)
            best = covered.amax(dim=(1, 2), keepdim=True)
            targets[broken] = ((covered >= COVERED) | ((covered == best) & (best > 0))).float()
        return targets, known

    def _drawn(self, row: int) -> Tensor:
        picture = torch.zeros(self._size, self._size, dtype=torch.uint8)
        for xmin, ymin, xmax, ymax in self._boxes[row]:
            top, left = (int(np.clip(edge, 0, self._size - 1)) for edge in (ymin, xmin))
            picture[top : max(top + 1, round(float(ymax))), left : max(left + 1, round(float(xmax)))] = 255
        return picture


def localisation_losses(logits: nn.Conv2d, feature_map: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Return the loss `[n]` of each row of `feature_map` `[n, d, h', w']`; 0 where its places are not known.

    `logits` turns the first channels of a place into a fracture's logit there.
    """
    found = logits(feature_map[:, : logits.in_channels].float()).squeeze(1)
    losses = functional.binary_cross_entropy_with_logits(
        found,
        targets.to(found.device),
        reduction="none",
        pos_weight=torch.tensor(POSITIVE_WEIGHT, device=found.device),
    )
    return losses.mean(dim=(1, 2)) * known.to(found.device)
