"""Embeddings of many preprocessed radiographs."""

import numpy as np
import torch
from numpy.typing import NDArray

from fracray.vision.backbone import Backbone, pool
from fracray.vision.device import Precision, choose_device, embedding_arithmetic
from fracray.vision.normalise import normalise


def embed(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    batch_size: int,
    device: str = "auto",
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """Return the embeddings float32 `[n, d]` of preprocessed radiographs `pixels` uint8 `[n, s, s]`.

    In float32 arithmetic extraction, training and serving agree to 1e-4 whatever their batch size; bfloat16
    stays within 1e-2 of it, relative to its length, and is faster where the hardware has it. Moves `backbone`
    to `device` and puts it in evaluation mode. Raises `BackboneError` when there is no such device.
    """
    place = choose_device(device)
    backbone.eval().to(place)
    parts = [torch.empty((0, backbone.embedding_dim), device=place)]
    with torch.inference_mode(), embedding_arithmetic(place, precision):
        for start in range(0, len(pixels), batch_size):
            batch = normalise(torch.tensor(pixels[start : start + batch_size], device=place))
            # Nothing is fetched before the end, so that a GPU does not wait for the copy of each batch.
            parts.append(pool(backbone.feature_map(batch).float()))
        embeddings: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return embeddings
