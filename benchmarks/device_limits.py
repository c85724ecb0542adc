"""What a device can do at most: arithmetic, memory bandwidth, and how much memory was in use."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def synchronise(device: str) -> None:
    """Wait for the device's work; a CPU's is done when the call returns."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def fastest(work: Callable[[], object], device: str, calls: int = 4, repeats: int = 5) -> float:
    """Return the seconds of one call, the best of some repeats: a limit is the speed when undisturbed."""
    work()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(calls):
            work()
        synchronise(device)
        seconds.append((time.perf_counter() - began) / calls)
    return min(seconds)


def matmul_peak(device: str) -> tuple[float, str]:
    """Return the FLOPs per second of a large square product, and its type: the faster one on a CPU."""
    on_cpu = device == "cpu"
    side = 2048 if on_cpu else 8192
    rates = {}
    for dtype in (torch.bfloat16, torch.float32) if on_cpu else (torch.bfloat16,):
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = fastest(lambda: torch.mm(left, right, out=out), device)  # noqa: B023 - called at once
        rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / seconds
    name = max(rates, key=lambda key: rates[key])
    return rates[name], name


def copy_bandwidth(device: str) -> float:
    """Return the bytes per second of a large copy, read and written ones both counted, as STREAM does."""
    size = 2**28 if device == "cpu" else 2**30
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / fastest(lambda: target.copy_(source), device)


def peak_memory(device: str) -> int:
    """Return the most bytes in use: of the GPU's memory by tensors, or of the CPU's by this process.

    A process's resident memory holds the pages of files that it has mapped, weights among them.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # Linux's `ru_maxrss` would also hold the parent process's peak
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
