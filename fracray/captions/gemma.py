"""The real captioner: any image-text model of the Gemma 3 family, from the embedded one to MedGemma."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from fracray.captions.captioner import Caption, SelfTest, prepare
from fracray.captions.loading import load_model
from fracray.captions.prompt import Prompt, chat_message, load_prompt
from fracray.captions.repetition import is_repetitive
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.radiographs.phantoms import make_phantom

log = logging.getLogger(__name__)

SELF_TEST_SEED = 999_983
SELF_TEST_LONG_SIDE = 448
OUT_OF_MEMORY = "out of memory"


class GemmaCaptioner:
    """Answers with a loaded model; `quantised_layers` counts its 4-bit or 8-bit layers (0: none asked for).

    `batch_size` starts as set and is halved whenever memory runs out.
    """

    def __init__(
        self, model: Any, processor: Any, settings: CaptionSettings, fingerprint: str, quantised_layers: int
    ) -> None:
        self.fingerprint = fingerprint
        self.image_size = int(model.config.vision_config.image_size)
        self.quantised_layers = quantised_layers
        self.batch_size = settings.batch_size
        self._model = model
        self._processor = processor
        self._prompt: Prompt = load_prompt(settings.prompt)
        self._max_new_tokens = settings.max_new_tokens
        self._ends = _end_tokens(model, processor.tokenizer)
        self.self_test = self._test_itself()

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each picture (uint8 [s, s] from `prepare`) in batches of `batch_size`; a bad one fails
        alone."""
        problems = [_problem(picture, self.image_size) for picture in pixels]
        sound = [picture for picture, problem in zip(pixels, problems, strict=True) if problem is None]
        answers = iter(self._in_batches(sound))
        return [
            next(answers) if problem is None else Caption(None, "failed", problem) for problem in problems
        ]

    def _in_batches(self, pixels: Sequence[np.ndarray]) -> list[Caption]:
        answers: list[Caption] = []
        while len(answers) < len(pixels):
            batch = pixels[len(answers) : len(answers) + self.batch_size]
            try:
                answers += self._answer(batch)
                continue
            except RuntimeError as error:
                reason = OUT_OF_MEMORY if _out_of_memory(error) else str(error).splitlines()[0]
            # Only here, past the error's traceback, is the batch's memory free again.
            answers += self._after_failure(batch, reason)
        return answers

    def _after_failure(self, batch: Sequence[np.ndarray], reason: str) -> list[Caption]:
        """Go on after a batch that failed: with smaller batches from now on when memory ran out, with one
        picture at a time otherwise, to find out which of them is at fault."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return [Caption(None, "failed", f"generation failed: {reason}")]
        if reason == OUT_OF_MEMORY:
            self.batch_size = len(batch) // 2
            log.warning("out of memory: batches of %d from now on", self.batch_size)
            return []
        log.warning("a batch of %d failed, trying its pictures one by one: %s", len(batch), reason)
        return [answer for picture in batch for answer in self._alone(picture)]

    def _alone(self, picture: np.ndarray) -> list[Caption]:
        try:
            return self._answer([picture])
        except RuntimeError as error:
            return [Caption(None, "failed", f"generation failed: {str(error).splitlines()[0]}")]

    def _answer(self, pixels: Sequence[np.ndarray]) -> list[Caption]:
        started = time.perf_counter()
        rows, vectors = self._generate(pixels)
        seconds = (time.perf_counter() - started) / len(pixels)
        return [self._judge(row, vector, seconds) for row, vector in zip(rows, vectors, strict=True)]

    def inputs(self, pixels: Sequence[np.ndarray]) -> Any:
        """Return the model's input for pictures: chat template, image tokens, left padding, on the model's
        device."""
        inputs = self._processor.apply_chat_template(
            [chat_message(picture, self._prompt) for picture in pixels],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            processor_kwargs={
                "return_tensors": "pt",
                "text_kwargs": {"padding": True, "padding_side": "left"},
            },
        )
        inputs = inputs.to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        return inputs

    @torch.inference_mode()
    def _generate(self, pixels: Sequence[np.ndarray]) -> tuple[list[list[int]], np.ndarray]:
        """Return the tokens written about each picture, and the mean of its image tokens [n, d]."""
        inputs = self.inputs(pixels)
        means: list[torch.Tensor] = []
        hook = self._model.model.multi_modal_projector.register_forward_hook(
            lambda _module, _inputs, tokens: means.append(tokens.float().mean(dim=1).cpu())
        )
        try:
            output = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self._max_new_tokens,
                eos_token_id=sorted(self._ends),
            )
        finally:
            hook.remove()
        rows: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
        return rows, torch.cat(means).numpy()

    def _judge(self, row: list[int], vector: np.ndarray, seconds: float) -> Caption:
        if not np.isfinite(vector).all():
            return Caption(None, "failed", "the model's numbers are not finite", None, seconds)
        end = next((i for i, token in enumerate(row) if token in self._ends), None)
        written = row[:end]
        text = self._processor.tokenizer.decode(written, skip_special_tokens=True).strip()
        tokens = len(written)
        if not text:
            return Caption(None, "empty", "the model wrote nothing", tokens, seconds, vector)
        if is_repetitive(text):
            return Caption(text, "repetitive", "the model repeats itself", tokens, seconds, vector)
        if end is None:
            reason = f"no end within {self._max_new_tokens} tokens"
            return Caption(text, "truncated", reason, tokens, seconds, vector)
        return Caption(text, "ok", None, tokens, seconds, vector)

    @torch.inference_mode()
    def _test_itself(self) -> SelfTest:
        """Caption a known phantom; raises `CaptionerError` on numbers that are not finite or an unusable
        answer."""
        picture = prepare(make_phantom(SELF_TEST_SEED, long_side=SELF_TEST_LONG_SIDE).pixels, self.image_size)
        logits = self._model(**self.inputs([picture]), logits_to_keep=1).logits
        advice = "try captions.compute_dtype=bfloat16 or captions.quantisation=none"
        if not bool(torch.isfinite(logits).all()):
            raise CaptionerError(f"self-test: the captioner's numbers are not finite; {advice}")
        answer = self.caption([picture])[0]
        if answer.text is None or answer.status in ("empty", "repetitive", "failed"):
            raise CaptionerError(
                f"self-test: the captioner's answer to a known picture is {answer.status}; {advice}"
            )
        test = SelfTest(
            text=answer.text,
            status=answer.status,
            tokens=answer.tokens or 0,
            seconds=answer.seconds or 0.0,
            quantised_layers=self.quantised_layers,
            memory_bytes=_memory_bytes(self._model.device),
            device=str(self._model.device),
        )
        log.info("self-test: %s", test.sentence())
        return test


def open_gemma(settings: CaptionSettings, source: Path | str, fingerprint: str) -> GemmaCaptioner:
    """Load model and processor from a folder or a model id, quantise, and run the self-test."""
    model, processor, quantised_layers = load_model(settings, source)
    return GemmaCaptioner(model, processor, settings, fingerprint, quantised_layers)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _memory_bytes(device: torch.device) -> int:
    """Memory that the model takes: allocated on its GPU, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def _problem(picture: np.ndarray, size: int) -> str | None:
    if picture.dtype == np.uint8 and picture.shape == (size, size):
        return None
    return f"not a grey 8-bit picture of {size} x {size} pixels: {picture.dtype} {list(picture.shape)}"


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """End-of-sequence tokens, end of turn among them."""
    ends = model.generation_config.eos_token_id
    found = {ends} if isinstance(ends, int) else set(ends or ())
    if "<end_of_turn>" in tokenizer.get_vocab():
        found.add(tokenizer.convert_tokens_to_ids("<end_of_turn>"))
    return found
