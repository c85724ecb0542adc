"""A last module that adds a second look at the feature map: weighted by where a fracture seems to lie."""

import torch
from torch import Tensor, nn

SHARPNESS = 0.5
"""Factor on the places' logits before the softmax: the weight goes with the square root of a fracture's odds,
so that one sure place does not silence all others."""
PRIOR_LOGIT = -3.0
"""Before anything is learned a place holds a fracture with a probability of 5 %: rarely, as they do."""


class PlaceAttention(nn.Module):
    """From a feature map `[n, d, h, w]` to `[n, 2 d, h, w]`: itself, and itself times each place's weight.

    The weights have a mean of 1, so the mean over places is, in its second half, an attention-weighted mean
    (Ilse 2018, attention-based pooling). `logits`, a 1 x 1 convolution, say how much speaks for a fracture at
    a place; while it has learned nothing all places weigh the same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = place_logits(dim)
        nn.init.zeros_(self.logits.weight)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the feature map and, as further channels, the weighted one."""
        logits = self.logits(feature_map).flatten(1).float()
        weights = torch.softmax(SHARPNESS * logits, dim=1) * logits.shape[1]
        weighted = feature_map * weights.view(-1, 1, *feature_map.shape[2:]).to(feature_map.dtype)
        return torch.cat([feature_map, weighted], dim=1)


def place_logits(dim: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution from `dim` channels to a fracture's logit at each place."""
    convolution = nn.Conv2d(dim, 1, kernel_size=1)
    nn.init.constant_(convolution.bias, PRIOR_LOGIT)  # type: ignore[arg-type]
    return convolution
