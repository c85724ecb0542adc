"""The range of grey values that backbones see."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GREY_MEAN = 0.449
GREY_STD = 0.226
"""Mean and standard deviation of a grey pixel in [0, 1]: ImageNet's three channel values averaged, so that an
RGB network whose first weights were summed over the channels sees the range it was trained on."""


def normalise(pixels: NDArray[np.uint8] | Tensor) -> Tensor:
    """Return preprocessed uint8 pictures `[n, s, s]` as the backbone's float32 input `[n, 1, s, s]`."""
    grey = (torch.tensor(pixels) if isinstance(pixels, np.ndarray) else pixels).unsqueeze(1)
    grey = grey.to(torch.float32).div(255.0)
    return ((grey - GREY_MEAN) / GREY_STD).contiguous(memory_format=torch.channels_last)
