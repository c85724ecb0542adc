"""Embeddings of many preprocessed radiographs."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fracray.memory import keep_freed_memory
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

    def embeddings(x: Tensor) -> Tensor:
        return pool(backbone.feature_map(x).float())

    return _in_batches(embeddings, backbone, pixels, batch_size, device, precision)


def embed_with_statistics(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    batch_size: int,
    device: str = "auto",
    precision: Precision = "float32",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what `embed` returns, and float32 `[n, 2 c]` the channel statistics before the last stage."""

    def both(x: Tensor) -> Tensor:
        return torch.cat(backbone.embedding_and_statistics(x), dim=1)

    numbers = _in_batches(both, backbone, pixels, batch_size, device, precision)
    return numbers[:, : backbone.embedding_dim], numbers[:, backbone.embedding_dim :]


def _in_batches(
    numbers: Callable[[Tensor], Tensor],
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    batch_size: int,
    device: str,
    precision: Precision,
) -> NDArray[np.float32]:
    place = choose_device(device)
    backbone.eval().to(place)
    keep_freed_memory()
    parts = []
    with torch.inference_mode(), embedding_arithmetic(place, precision):
        # One batch even where there are no pixels, so that their absence has a width.
        for start in range(0, max(1, len(pixels)), batch_size):
            batch = normalise(torch.tensor(pixels[start : start + batch_size], device=place))
            # Nothing is fetched before the end, so that a GPU does not wait for the copy of each batch.
            parts.append(numbers(batch))
        result: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return result
