"""The real captioner: any image-text model of the Gemma 3 family, from the embedded one to MedGemma."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from fracray.captions.captioner import Caption, prepare
from fracray.captions.prompt import Prompt, chat_message, load_prompt
from fracray.captions.repetition import is_repetitive
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.radiographs.phantoms import make_phantom

log = logging.getLogger(__name__)

NOT_QUANTISED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
"""Full names: transformers 5 matches them from the root, and says nothing about a name that matches no
layer."""

SELF_TEST_SEED = 999_983
SELF_TEST_LONG_SIDE = 448


class GemmaCaptioner:
    """Answers with a loaded model; `quantised_layers` counts its 4-bit layers (0: none asked for)."""

    def __init__(
        self, model: Any, processor: Any, settings: CaptionSettings, fingerprint: str, quantised_layers: int
    ) -> None:
        self.fingerprint = fingerprint
        self.image_size = int(model.config.vision_config.image_size)
        self.quantised_layers = quantised_layers
        self._model = model
        self._processor = processor
        self._prompt: Prompt = load_prompt(settings.prompt)
        self._batch_size = settings.batch_size
        self._max_new_tokens = settings.max_new_tokens
        self._ends = _end_tokens(model, processor.tokenizer)

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each picture (uint8 [s, s] from `prepare`) in batches of `batch_size`; a bad one fails
        alone."""
        answers: list[Caption] = []
        for first in range(0, len(pixels), self._batch_size):
            answers += self._caption_batch(pixels[first : first + self._batch_size])
        return answers

    def _caption_batch(self, pixels: Sequence[np.ndarray]) -> list[Caption]:
        problems = [_problem(picture, self.image_size) for picture in pixels]
        sound = [picture for picture, problem in zip(pixels, problems, strict=True) if problem is None]
        answers = iter(self._answer(sound) if sound else [])
        return [
            next(answers) if problem is None else Caption(None, "failed", problem) for problem in problems
        ]

    def _answer(self, pixels: Sequence[np.ndarray]) -> list[Caption]:
        """Answer a batch; when the model breaks on it, one picture at a time to find out which."""
        started = time.perf_counter()
        try:
            rows = self._generate(pixels)
        except RuntimeError as error:  # includes torch.OutOfMemoryError
            if len(pixels) == 1:
                return [Caption(None, "failed", f"generation failed: {str(error).splitlines()[0]}")]
            log.warning("a batch of %d failed, trying its pictures one by one: %s", len(pixels), error)
            return [answer for picture in pixels for answer in self._answer([picture])]
        seconds = (time.perf_counter() - started) / len(pixels)
        return [self._judge(row, seconds) for row in rows]

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
    def _generate(self, pixels: Sequence[np.ndarray]) -> list[list[int]]:
        inputs = self.inputs(pixels)
        output = self._model.generate(
            **inputs, do_sample=False, max_new_tokens=self._max_new_tokens, eos_token_id=sorted(self._ends)
        )
        rows: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
        return rows

    def _judge(self, row: list[int], seconds: float) -> Caption:
        end = next((i for i, token in enumerate(row) if token in self._ends), None)
        written = row[:end]
        text = self._processor.tokenizer.decode(written, skip_special_tokens=True).strip()
        tokens = len(written)
        if not text:
            return Caption(None, "empty", "the model wrote nothing", tokens, seconds)
        if is_repetitive(text):
            return Caption(text, "repetitive", "the model repeats itself", tokens, seconds)
        if end is None:
            return Caption(text, "truncated", f"no end within {self._max_new_tokens} tokens", tokens, seconds)
        return Caption(text, "ok", None, tokens, seconds)

    @torch.inference_mode()
    def self_test(self) -> None:
        """Caption a known phantom; raises `CaptionerError` on numbers that are not finite or an unusable
        answer."""
        picture = prepare(make_phantom(SELF_TEST_SEED, long_side=SELF_TEST_LONG_SIDE).pixels, self.image_size)
        logits = self._model(**self.inputs([picture]), logits_to_keep=1).logits
        advice = "try captions.compute_dtype=bfloat16 or captions.quantisation=none"
        if not bool(torch.isfinite(logits).all()):
            raise CaptionerError(f"self-test: the captioner's numbers are not finite; {advice}")
        answer = self._answer([picture])[0]
        if answer.status in ("empty", "repetitive", "failed"):
            raise CaptionerError(
                f"self-test: the captioner's answer to a known picture is {answer.status}; {advice}"
            )
        log.info("self-test: %s answer of %s tokens", answer.status, answer.tokens)


def open_gemma(settings: CaptionSettings, source: Path | str, fingerprint: str) -> GemmaCaptioner:
    """Load model and processor from a folder or a model id, quantise, and run the self-test."""
    config = load_model_config(source, settings.revision)
    device = _device(settings.device)
    dtype = _compute_dtype(settings.compute_dtype, device)
    quantisation = None
    if settings.quantisation == "nf4":
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=NOT_QUANTISED,
        )
    try:
        processor = AutoProcessor.from_pretrained(source, revision=settings.revision)
        model = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=settings.revision,
            config=config,
            dtype=dtype,
            device_map={"": device},
            quantization_config=quantisation,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _load_error(source, error) from error
    converted = _quantised_layers(model)
    if quantisation is not None:
        log.info("%d linear layers in 4 bits, vision tower as it was", converted)
        if converted == 0:
            raise CaptionerError(
                f"{source}: no layer was converted to 4 bits; set captions.quantisation=none"
            )
    model.eval()
    captioner = GemmaCaptioner(model, processor, settings, fingerprint, converted)
    captioner.self_test()
    return captioner


def load_model_config(source: Path | str, revision: str | None) -> Any:
    """Return the model's configuration; raises `CaptionerError` unless it is an image-text model."""
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise _load_error(source, error) from error
    if getattr(config, "vision_config", None) is None or getattr(config, "text_config", None) is None:
        raise CaptionerError(
            f"{source}: a {config.model_type} model takes no pictures; "
            "name an image-text model of the Gemma 3 family"
        )
    return config


def _load_error(source: Path | str, error: Exception) -> CaptionerError:
    """Say why a model did not load and what to do next."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(source, Path):
        return CaptionerError(
            f"{source}: holds no image-text model that loads ({first}); name another folder"
        )
    if "gated" in text.lower() or "401" in text or "403" in text:
        return CaptionerError(f"{source} is gated: accept its licence on its page, then run `hf auth login`")
    if "not a valid model identifier" in text or "404" in text:
        return CaptionerError(
            f"{source}: no such model or folder; check captions.model, or run `hf auth login`"
        )
    if isinstance(error, OSError):
        return CaptionerError(
            f"{source}: not on this machine and the model hub is out of reach; copy the model's folder here "
            "and set captions.model to it, or use captions.model=embedded"
        )
    return CaptionerError(f"{source}: does not load as an image-text model ({first}); choose another model")


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


def _quantised_layers(model: Any) -> int:
    return sum(type(module).__name__ == "Linear4bit" for module in model.modules())


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _compute_dtype(name: str, device: str) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return torch.bfloat16 if name == "bfloat16" else torch.float32
