"""One request from the bytes of a file to its answer, whoever asks: the HTTP API or the page."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError

from fracray.captions.captioner import Caption, prepare
from fracray.captions.none import NO_CAPTION
from fracray.config import RadiographSettings
from fracray.errors import FracrayError
from fracray.explain.answer import Answer
from fracray.fingerprint import image_id
from fracray.radiographs.read import Radiograph, read_radiograph

# The only logger whose lines Serve writes into the log files of a replica.
_log = logging.getLogger("ray.serve")

CaptionCall = Callable[[np.ndarray, str], Awaitable[Caption]]
DecisionCall = Callable[[Radiograph, Caption, bool], Awaitable[Answer]]
Observer = Callable[[str, str, float], None]


class OverloadedError(FracrayError):
    """More requests are waiting than the service is set to hold."""

    http_status: ClassVar[int] = 503


class Picture(BaseModel):
    """The radiograph as it was read."""

    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    format: str = Field(description="PNG, JPEG, TIFF or DICOM")
    bits: int = Field(description="bits of grey per pixel")


class ServedAnswer(Answer):
    """An answer with the request it belongs to."""

    request_id: str = Field(description="also in the log and in the header X-Request-ID")
    radiograph: Picture


@dataclass(frozen=True)
class Prediction:
    """A radiograph and the answer to it."""

    radiograph: Radiograph
    answer: ServedAnswer


class Predictor:
    """Reads, describes and decides; the two models stand behind `caption` (None: no captioner) and `decide`.

    `caption(pixels uint8 [image_size, image_size], image_id)` and `decide(radiograph, caption, with_overlay)`
    are calls of the deployments. `observe(decision, status, seconds)` hears of every request that ends.
    """

    def __init__(
        self,
        caption: CaptionCall | None,
        decide: DecisionCall,
        *,
        settings: RadiographSettings,
        image_size: int,
        observe: Observer,
    ) -> None:
        self._caption = caption
        self._decide = decide
        self._settings = settings
        self._image_size = image_size
        self._observe = observe

    async def predict(self, data: bytes, *, overlay: bool, request_id: str) -> Prediction:
        """Answer for the bytes of one file.

        Raises `RadiographError` for what is no usable radiograph and `OverloadedError` when too many wait.
        One line per request is logged: its id, outcome and time, nothing of the file.
        """
        started = time.perf_counter()
        decision, status = "none", "InternalError"
        try:
            prediction = await self._predict(data, overlay, request_id, started)
            decision = "fracture" if prediction.answer.fracture else "no fracture"
            status = "ok"
            return prediction
        except FracrayError as error:
            status = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            self._observe(decision, status, seconds)
            _log.info("request %s: %s, decision: %s, %.0f ms", request_id, status, decision, 1000 * seconds)

    async def _predict(self, data: bytes, overlay: bool, request_id: str, started: float) -> Prediction:
        radiograph, pixels, identity = await asyncio.to_thread(self._decode, data)
        decoded = time.perf_counter()
        try:
            caption = await self._described(pixels, identity)
            captioned = time.perf_counter()
            answer = await self._decide(radiograph, caption, overlay)
        except BackPressureError:
            raise OverloadedError("too many requests are waiting; try again in a few seconds") from None
        ended = time.perf_counter()
        work = sum(answer.timings_ms.values())
        timings = {
            "decode": 1000 * (decoded - started),
            **({"caption": 1000 * (captioned - decoded)} if self._caption else {}),
            **answer.timings_ms,
            "decision_queue": max(0.0, 1000 * (ended - captioned) - work),
            "total": 1000 * (ended - started),
        }
        height, width = radiograph.pixels.shape
        picture = Picture(width=width, height=height, format=radiograph.format, bits=radiograph.bits)
        values = dict(answer) | {"timings_ms": timings, "request_id": request_id, "radiograph": picture}
        return Prediction(radiograph, ServedAnswer.model_validate(values))

    def _decode(self, data: bytes) -> tuple[Radiograph, np.ndarray, str]:
        radiograph = read_radiograph(data, self._settings)
        return radiograph, prepare(radiograph.pixels, self._image_size), image_id(data)

    async def _described(self, pixels: np.ndarray, identity: str) -> Caption:
        if self._caption is None:
            return NO_CAPTION
        try:
            return await self._caption(pixels, identity)
        except RayError as error:
            # The image alone still decides; the answer says that words are missing.
            _log.warning("the captioner did not answer: %s", type(error).__name__)
            return Caption(None, "failed", "the captioner did not answer")
