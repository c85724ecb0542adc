"""The two deployments that hold a model, each with a health check that asks the model itself."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from ray import serve

from fracray.bundle.bundle import load_bundle
from fracray.captions.captioner import Caption
from fracray.captions.choose import open_captioner
from fracray.config import CaptionSettings, ServingSettings
from fracray.explain.answer import Answer, answer
from fracray.radiographs.read import Radiograph

Result = TypeVar("Result")

STALLED_SECONDS = 900.0
"""One batch may take this long: 8 radiographs with 4 billion parameters on 2 cores take 360 s."""
CHECK_SHARE = 0.05
"""Largest share of its time that an idle model spends on being checked."""


class ModelThread:
    """Runs a model's calls one after the other in one thread, so that the replica keeps answering Serve.

    `probe` is a tiny forward pass.
    """

    def __init__(self, probe: Callable[[], object]) -> None:
        self._probe = probe
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._busy_since: float | None = None
        self._checked_until = 0.0

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns, run in the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, call)

    def _timed(self, call: Callable[[], Result]) -> Result:
        self._busy_since = time.monotonic()
        try:
            return call()
        finally:
            self._busy_since = None

    async def check(self) -> None:
        """Run the probe unless the model is at work; raises `RuntimeError` when that work has stalled.

        A slow model is probed less often, so that checking it takes at most `CHECK_SHARE` of its time.
        """
        busy_since, now = self._busy_since, time.monotonic()
        if busy_since is not None:
            if now - busy_since > STALLED_SECONDS:
                raise RuntimeError(f"one batch has taken more than {STALLED_SECONDS:.0f} s")
            return
        if now < self._checked_until:
            return
        await self.run(self._probe)
        ended = time.monotonic()
        self._checked_until = ended + (ended - now) / CHECK_SHARE


class Captioning:
    """Describes prepared radiographs in words, several in one generation."""

    def __init__(self, captions: CaptionSettings, settings: ServingSettings) -> None:
        _share_cores(settings.caption_replicas)
        self._captioner = open_captioner(captions)
        self._model = ModelThread(self._probe)
        self.caption.set_max_batch_size(settings.max_batch)
        self.caption.set_batch_wait_timeout_s(settings.batch_wait_seconds)

    @serve.batch  # type: ignore[untyped-decorator]
    async def caption(self, pixels: list[np.ndarray], image_ids: list[str]) -> list[Caption]:
        """Answer one picture (uint8 [s, s]) of the file `image_id`; Serve joins calls into lists."""
        return await self._model.run(lambda: self._captioner.caption(pixels, image_ids))

    async def check_health(self) -> None:
        """Describe a blank picture; called by Serve, which replaces the replica when this raises."""
        await self._model.check()

    def _probe(self) -> None:
        size = self._captioner.image_size
        self._captioner.caption([np.zeros((size, size), np.uint8)], ["0" * 64])


class Decision:
    """Holds the bundle: embedding, fused classifier and heat map of several radiographs at once."""

    def __init__(self, bundle: Path, settings: ServingSettings) -> None:
        _share_cores(settings.decision_replicas)
        self._bundle = load_bundle(bundle)
        self._model = ModelThread(self._probe)
        self.decide.set_max_batch_size(settings.max_batch)
        self.decide.set_batch_wait_timeout_s(settings.batch_wait_seconds)

    @serve.batch  # type: ignore[untyped-decorator]
    async def decide(
        self, radiographs: list[Radiograph], captions: list[Caption], overlays: list[bool]
    ) -> list[Answer]:
        """Answer for one radiograph, its caption and whether a heat map is wanted; Serve joins calls."""
        return await self._model.run(lambda: self._answers(radiographs, captions, overlays))

    async def check_health(self) -> None:
        """Decide on a blank picture; called by Serve, which replaces the replica when this raises."""
        await self._model.check()

    def _answers(
        self, radiographs: list[Radiograph], captions: list[Caption], overlays: list[bool]
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for wanted in (True, False):
            places = [place for place, overlay in enumerate(overlays) if overlay is wanted]
            if places:
                chosen = [radiographs[place] for place in places], [captions[place] for place in places]
                answers |= zip(places, answer(self._bundle, *chosen, with_overlay=wanted), strict=True)
        return [answers[place] for place in range(len(overlays))]

    def _probe(self) -> None:
        blank = Radiograph(np.zeros((32, 32), np.float32), 8, "PNG")
        answer(self._bundle, [blank], [Caption("", "empty")], with_overlay=False)


def _share_cores(replicas: int) -> None:
    # Ray allows one thread to a replica that books less than a CPU; requests come one stage at a time, so
    # each model may use the machine's cores while it works.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // replicas))
