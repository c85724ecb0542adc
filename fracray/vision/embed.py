"""Embeddings of many preprocessed radiographs."""

import numpy as np
import torch
from numpy.typing import NDArray

from fracray.vision.backbone import Backbone, normalise
from fracray.vision.device import choose_device, exact_arithmetic


def embed(
    backbone: Backbone, pixels: NDArray[np.uint8], batch_size: int, device: str = "auto"
) -> NDArray[np.float32]:
    """Return the embeddings float32 `[n, d]` of preprocessed radiographs `pixels` uint8 `[n, s, s]`.

    Always in float32 arithmetic, so that extraction, training and serving agree to 1e-4 whatever their batch
    size. Moves `backbone` to `device` and puts it in evaluation mode. Raises `BackboneError` when there is no
    such device.
    """
    place = choose_device(device)
    backbone.eval().to(place)
    embeddings = np.empty((len(pixels), backbone.embedding_dim), np.float32)
    with torch.inference_mode(), exact_arithmetic():
        for start in range(0, len(pixels), batch_size):
            batch = normalise(torch.tensor(pixels[start : start + batch_size], device=place))
            embeddings[start : start + batch_size] = backbone(batch).cpu().numpy()
    return embeddings
