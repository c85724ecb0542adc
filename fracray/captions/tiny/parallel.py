"""Training on several cores: one process of one thread for each, gradients averaged after every step.

On a busy machine this is several times faster than one process of several threads, whose every operation
waits for the thread that was interrupted.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from fracray.memory import keep_freed_memory

WARM_UP = 0.04
"""Share of the steps in which the learning rate rises."""


def run_parallel(function: Callable[..., None], meeting: Path, processes: int, *arguments: Any) -> None:
    """Call `function(rank, *arguments)` in processes that `steps` keeps together; `meeting` is a file they
    meet at."""
    meeting.unlink(missing_ok=True)
    spawn(_joined, (function, meeting, processes, arguments), nprocs=processes)  # type: ignore[no-untyped-call]


def _joined(
    rank: int, function: Callable[..., None], meeting: Path, processes: int, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=processes)
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()


def steps(
    parameters: list[nn.Parameter],
    count: int,
    rate: float,
    log: Callable[[str], None],
    embeddings: Collection[nn.Parameter] = (),
) -> Iterator[tuple[float, Callable[[Tensor], None]]]:
    """Yield `count` times the share of steps taken and a function that takes one step on a loss.

    The learning rate warms up to `rate`, then falls along a cosine. Inside `run_parallel` the processes share
    their gradients, so every process must ask for the same count.
    """
    keep_freed_memory()
    optimisers = _optimisers(parameters, {id(parameter) for parameter in embeddings})
    reported = time.monotonic()
    losses: deque[float] = deque([0.0], maxlen=100)

    def step(loss: Tensor) -> None:
        for parameter in parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        _average(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))

    for taken in range(count):
        progress = taken / count
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            warm, cosine = min(1.0, 0.02 + progress / WARM_UP), 0.5 * (1 + math.cos(math.pi * progress))
            group["lr"] = rate * warm * (0.01 + cosine)
        yield progress, step
        if time.monotonic() - reported > 30:
            log(f"step {taken + 1} of {count}, loss {np.mean(losses):.3f}")
            reported = time.monotonic()
    log(f"{count} steps, loss {np.mean(losses):.3f}")


def _optimisers(parameters: list[nn.Parameter], embeddings: set[int]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of linear layers, which learn in far fewer steps with it, AdamW for all else."""
    matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) > 1 and id(p) not in embeddings]
    taken = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in taken]
    return [
        torch.optim.Muon(matrices, lr=0.0, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, weight_decay=0.05, fused=True),
    ]


def _average(parameters: list[nn.Parameter]) -> None:
    """Average all gradients over the processes."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    everything = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(everything)
    everything /= dist.get_world_size()
    first = 0
    for gradient in gradients:
        gradient.copy_(everything[first : first + gradient.numel()].view_as(gradient))
        first += gradient.numel()
