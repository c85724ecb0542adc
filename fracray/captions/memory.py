"""Whether a model fits, told before minutes are spent on loading it."""

from collections.abc import Mapping

import psutil
import torch

from fracray.errors import CaptionerError

BYTES_PER_WEIGHT = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
"""NF4: half a byte, a byte of scale for every 64 weights, and four bytes for every 256 scales (double
quantisation, Dettmers et al. 2023, section 3)."""

WORKING_BYTES = 0.6e9
"""What one radiograph of 896 x 896 pixels needs beside the weights: the widest layer of the vision tower
(4,096 patches x 4,304 values) in three copies, cache and CUDA context, rounded up. Batches that need more are
halved while running."""


def needed_bytes(
    model: torch.nn.Module, quantised: Mapping[str, torch.nn.Linear], quantisation: str, dtype: torch.dtype
) -> float:
    """Return the bytes that the weights of `model` take; its layers may be on the meta device."""
    in_few_bits = sum(layer.weight.numel() for layer in quantised.values()) if quantisation != "none" else 0
    others = sum(parameter.numel() for parameter in model.parameters()) - in_few_bits
    return others * dtype.itemsize + in_few_bits * BYTES_PER_WEIGHT.get(quantisation, 0.0)


def free_bytes(device: str) -> int:
    """Return the memory that is free on a GPU, or available on the machine."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def refuse_too_large(
    model: torch.nn.Module,
    quantised: Mapping[str, torch.nn.Linear],
    quantisation: str,
    dtype: torch.dtype,
    device: str,
) -> None:
    """Raise `CaptionerError`, with both figures, when `device` has no room for the weights and one
    radiograph."""
    weights = needed_bytes(model, quantised, quantisation, dtype)
    needed = weights + min(WORKING_BYTES, 2 * weights)
    free = free_bytes(device)
    if needed > free:
        advice = "close what else runs there" if quantisation == "nf4" else "set captions.quantisation=nf4"
        raise CaptionerError(
            f"the captioner needs {needed / 1e9:.1f} GB with quantisation={quantisation} and {device} has "
            f"{free / 1e9:.1f} GB free; {advice}, or take a smaller model"
        )
