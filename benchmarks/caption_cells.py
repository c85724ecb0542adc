"""Time the cells of the captions benchmark: a process for each mode, in it one cell for each batch size."""

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from caption_model import load, prompt_tokens, random_inputs
from device_limits import peak_memory, synchronise
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging

KILLED = -9


@dataclass(frozen=True)
class Plan:
    """What to time; `device` is `cpu` or `cuda`."""

    folder: Path
    device: str
    batches: tuple[int, ...]
    new_tokens: int


@dataclass(frozen=True)
class Cell:
    """A row of the table; where `problem` says why there are no figures, they are null.

    `weight_bytes` is what the loaded model occupies. `peak_bytes` is the most in use since the mode's process
    began on a CPU, loading included, and while it generated on a GPU; `load_peak_bytes` is that of loading.
    """

    mode: str
    batch: int
    problem: str | None = None
    load_seconds: float | None = None
    weight_bytes: int | None = None
    load_peak_bytes: int | None = None
    peak_bytes: int | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    captions_per_second: float | None = None


class Clock(StoppingCriteria):
    """Never stops; notes when the first new token was there."""

    def __init__(self, device: str) -> None:
        self.first: float | None = None
        self._device = device

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return `False` for each sequence."""
        if self.first is None:
            synchronise(self._device)
            self.first = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def cells(plan: Plan, mode: str) -> Iterator[Cell]:
    """Time a mode in a process of its own and yield a cell for each batch size, also if the process dies."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=time_mode, args=(theirs, plan, mode), daemon=True)
    process.start()
    theirs.close()
    problem = None
    for batch in plan.batches:
        try:
            yield ours.recv()
        except EOFError:
            process.join()
            yield Cell(mode, batch, problem or _ended(process.exitcode))
            problem = "not tried: the process had ended"
    process.join()


def time_mode(connection: Connection, plan: Plan, mode: str) -> None:
    """Load once and send a cell for each batch size; what goes wrong is a cell as well."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    began = time.perf_counter()
    try:
        model = load(plan.folder, mode, plan.device)
        synchronise(plan.device)
        loaded = {
            "load_seconds": time.perf_counter() - began,
            "weight_bytes": model.get_memory_footprint(),
            "load_peak_bytes": peak_memory(plan.device),
        }
        if plan.device == "cuda":
            # Its first pass loads kernels; a pass of medgemma-4b on a CPU takes longer than it would save.
            _generate(model, 1, 2, plan.device)
    except (RuntimeError, OSError, ValueError, ImportError, MemoryError) as error:
        problem = _reason(error)
        for batch in plan.batches:
            connection.send(Cell(mode, batch, problem))
        return
    for batch in plan.batches:
        try:
            cell = Cell(mode, batch, **loaded, **_figures(model, batch, plan))
        except (RuntimeError, MemoryError) as error:
            cell = Cell(mode, batch, _reason(error), **loaded)
        connection.send(cell)


def _figures(model: Any, batch: int, plan: Plan) -> dict[str, Any]:
    """Return peak memory and speeds of one batch of captions."""
    gc.collect()
    if plan.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    prefill, decode = _generate(model, batch, plan.new_tokens, plan.device)
    steps = plan.new_tokens - 1
    return {
        "peak_bytes": peak_memory(plan.device),
        "prefill_tokens_per_second": batch * prompt_tokens(model.config) / prefill,
        "decode_tokens_per_second": batch * steps / decode if steps else None,
        "captions_per_second": batch / (prefill + decode),
    }


@torch.inference_mode()
def _generate(model: Any, batch: int, new_tokens: int, device: str) -> tuple[float, float]:
    """Generate greedily; return seconds to the first new token, pictures included, and from there on."""
    inputs = random_inputs(model.config, batch, device)
    clock = Clock(device)
    synchronise(device)
    began = time.perf_counter()
    output = model.generate(
        **inputs,
        do_sample=False,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        stopping_criteria=StoppingCriteriaList([clock]),
    )
    synchronise(device)
    ended = time.perf_counter()
    if output.shape[1] != inputs["input_ids"].shape[1] + new_tokens or clock.first is None:
        raise RuntimeError(f"asked for {new_tokens} new tokens, got another number")
    return clock.first - began, ended - clock.first


def _reason(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return "out of memory"
    return text.splitlines()[0] if text else type(error).__name__


def _ended(exit_code: int | None) -> str:
    if exit_code == KILLED:
        return "out of memory: the system ended the process"
    return f"the process ended with exit code {exit_code}"
