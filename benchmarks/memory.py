"""What does it cost to ask the system for memory batch after batch? A network's passes, both ways.

Milliseconds of processor time per radiograph, on one thread of a CPU: through the network alone, and
forward and back through all of it as in fine-tuning, with the C library as it is and with
`keep_freed_memory`. Each in a process of its own, as the choice cannot be taken back.

    python benchmarks/memory.py [--architecture resnet50] [--size 224] [--batch 32]
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context

import torch
from torch import nn

from fracray.config import load_config
from fracray.memory import keep_freed_memory
from fracray.vision.backbone import load_backbone
from fracray.vision.device import training_arithmetic

PASSES = 3


def milliseconds(work: Callable[[], object], radiographs: int) -> float:
    """Return the processor time of `work` per radiograph, after a first time that is not counted."""
    work()
    started = time.process_time()
    for _ in range(PASSES):
        work()
    return round(1e3 * (time.process_time() - started) / PASSES / radiographs, 1)


def measure(architecture: str, size: int, batch: int, kept: bool) -> dict[str, float]:
    """Return milliseconds per radiograph, and the process's peak of memory."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    settings = load_config(
        overrides=[f"vision.backbone.architecture={architecture}", "vision.backbone.weights=random"]
    )
    backbone: nn.Module = load_backbone(settings.vision.backbone).requires_grad_(True)
    pixels = torch.randn(batch, 1, size, size)

    def forward() -> None:
        with torch.inference_mode():
            backbone(pixels)

    def forward_and_back() -> None:
        with training_arithmetic(torch.device("cpu")):
            numbers = backbone(pixels)
        torch.autograd.backward(numbers.float().sum())

    return {
        "embedding_ms": milliseconds(forward, batch),
        "finetuning_ms": milliseconds(forward_and_back, batch),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    figures = {}
    for name, kept in (("returned", False), ("kept", True)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures[name] = pool.submit(measure, asked.architecture, asked.size, asked.batch, kept).result()
    machine = {"load_average": os.getloadavg()[0], "torch": version("torch")}
    print(json.dumps(vars(asked) | figures | machine, indent=2))


if __name__ == "__main__":
    main()
