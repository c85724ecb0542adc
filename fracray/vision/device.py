"""Which device computes, and how exactly."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch

from fracray.errors import BackboneError

Precision = Literal["float32", "bfloat16"]

_CPU_PASS, _GPU_PASS = 8, 64


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is a CUDA device where there is one, else the CPU.

    Raises `BackboneError` when a CUDA device is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackboneError(f"no device is called '{name}'; set vision.device to auto, cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackboneError(f"device '{name}' is not there; set vision.device to auto or cpu")
    return device


def exact_arithmetic() -> AbstractContextManager[None]:
    """Return a context in which convolutions on a GPU keep full float32 precision and repeatable kernels."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return context


def training_pass(device: torch.device) -> int:
    """Return how many radiographs go through the network at once while it learns.

    On a CPU the activations of more of them outgrow its caches, and each takes longer.
    """
    return _CPU_PASS if device.type == "cpu" else _GPU_PASS


@contextmanager
def embedding_arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute embeddings inside the block: `exact_arithmetic`, or bfloat16 autocast whatever the hardware.

    The precision is part of a feature's fingerprint, so it follows the settings and not the machine.
    """
    reduced = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with exact_arithmetic(), reduced:
        yield


def training_arithmetic(device: torch.device) -> torch.autocast:
    """Return a context for training: bfloat16 where the hardware multiplies it natively, else float32.

    On a CPU with AVX-512 BF16 training takes about half the time; without it bfloat16 would take longer.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
