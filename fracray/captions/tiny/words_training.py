"""Teaching the language model to write findings, on what the trained vision tower sees.

The tower stands still here, so each picture passes it once and its image tokens are kept; the words then
learn hundreds of pictures a second. The weights that NF4 will round are rounded during training as well.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from fracray.captions.prompt import Prompt, chat_message
from fracray.captions.tiny.architecture import IMAGE_SIZE, IMAGE_TOKENS, PATCH
from fracray.captions.tiny.heads import encode
from fracray.captions.tiny.parallel import steps

log = logging.getLogger(__name__)

NOISE = 0.15
"""Standard deviation of what is added to the kept image tokens (themselves about 1), against learning them
by heart."""

FRACTURED_SHARE = 0.375
"""Share of fractured pictures in a batch: near that of a collection, so that the verdict keeps to it."""

DECISIVE = ("▁broken,", "▁smooth.", "▁smooth,", "▁No", "▁Fracture")
"""Words that decide the verdict; their loss counts `DECISIVE_WEIGHT` times."""
DECISIVE_WEIGHT = 4.0

FIRST_PROMPT = 0.6
"""Share of the batches that ask the first prompt, which is the default one."""

ROUNDED_FROM = 0.4
"""Share of the steps after which the weights are rounded as NF4 will round them."""


@torch.inference_mode()
def image_features(tower: Any, pixels: np.ndarray) -> Tensor:
    """Return the tower's tokens as the projector pools them, bfloat16 [n, IMAGE_TOKENS, VISION_WIDTH]."""
    kernel = IMAGE_SIZE // PATCH // round(IMAGE_TOKENS**0.5)
    parts = []
    for first in range(0, len(pixels), 32):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, pixels[first : first + 32]).float()
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, IMAGE_SIZE // PATCH, IMAGE_SIZE // PATCH)
        pooled = functional.avg_pool2d(grid, kernel).flatten(2).transpose(1, 2)
        parts.append(pooled.to(torch.bfloat16))
    return torch.cat(parts)


class _RoundedToNF4(nn.Module):
    """Rounds a weight as bitsandbytes does; the gradient passes straight through."""

    def forward(self, weight: Tensor) -> Tensor:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        with torch.no_grad():
            packed, state = quantize_4bit(
                weight.detach().float().contiguous(), quant_type="nf4", compress_statistics=True
            )
            rounded = dequantize_4bit(packed, state).to(weight.dtype)
        straight: Tensor = weight + (rounded - weight).detach()
        return straight


@dataclass(frozen=True)
class Lesson:
    """Pictures and what to write of them.

    `features` bfloat16 [n, t, d]: their image tokens. `fractured` bool [n]. `write(row, seed, impression)`:
    the findings, with the impression or without it.
    """

    features: Tensor
    fractured: np.ndarray
    write: Callable[[int, int, bool], str]


def train_words(
    model: Any, processor: Any, lesson: Lesson, prompts: list[Prompt], count: int, seed: int,
    *, batch: int = 32, fractured_share: float = FRACTURED_SHARE,
) -> None:  # fmt: skip
    """Train projector and language model to write the findings of each picture in `count` steps.

    The first prompt is asked most; a batch holds `fractured_share` fractured pictures.
    """
    rng = np.random.default_rng(seed)
    language, projector = model.model.language_model, model.model.multi_modal_projector
    linears = [module for module in language.modules() if isinstance(module, nn.Linear)]
    weights = _token_weights(processor.tokenizer, model.config.text_config.vocab_size)
    questions = [_question(processor, prompt) for prompt in prompts]
    shares = np.array([FIRST_PROMPT, *[(1 - FIRST_PROMPT) / (len(prompts) - 1)] * (len(prompts) - 1)])
    rounded = False
    fractured = round(fractured_share * batch)
    parameters = [*language.parameters(), *projector.parameters()]
    for progress, step in steps(parameters, count, 1.5e-3, log.info, [language.embed_tokens.weight]):
        if progress >= ROUNDED_FROM and not rounded:
            for module in linears:
                parametrize.register_parametrization(module, "weight", _RoundedToNF4())
            rounded = True
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(lesson.fractured), fractured, replace=False),
                rng.choice(np.flatnonzero(~lesson.fractured), batch - fractured, replace=False),
            ]
        )
        seen = lesson.features[rows].float()
        seen = seen + NOISE * torch.randn_like(seen)
        asked = int(rng.choice(len(prompts), p=shares))
        impression = prompts[asked].asks_for_impression
        answers = [lesson.write(int(row), int(rng.integers(2**31)), impression) for row in rows]
        step(_loss(model, processor.tokenizer, questions[asked], seen, answers, weights))
    for module in linears if rounded else []:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


def _question(processor: Any, prompt: Prompt) -> Tensor:
    """Token ids of the whole user turn and the start of the answer, image tokens included."""
    blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    inputs = processor.apply_chat_template(
        [chat_message(blank, prompt)], tokenize=True, add_generation_prompt=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )  # fmt: skip
    ids: Tensor = inputs["input_ids"][0]
    return ids


def _loss(
    model: Any, tokenizer: Any, question: Tensor, seen: Tensor, answers: list[str], weights: Tensor
) -> Tensor:
    end, pad = tokenizer.convert_tokens_to_ids("<end_of_turn>"), tokenizer.pad_token_id
    rows = [torch.tensor([*tokenizer(answer, add_special_tokens=False).input_ids, end]) for answer in answers]
    written = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    ids = torch.cat([question.expand(len(answers), -1), written], dim=1)
    is_image = ids == model.config.image_token_id
    projector = model.model.multi_modal_projector
    with torch.autocast("cpu", torch.bfloat16):
        soft = projector.mm_soft_emb_norm(seen) @ projector.mm_input_projection_weight
        # The pad id stands in for the image tokens, whose embeddings come from the picture.
        embeddings = model.get_input_embeddings()(ids.masked_fill(is_image, pad))
        embeddings = embeddings.masked_scatter(is_image.unsqueeze(-1), soft.to(embeddings.dtype))
        hidden = model.model.language_model(
            inputs_embeds=embeddings, attention_mask={"full_attention": _mask(is_image)}, use_cache=False
        ).last_hidden_state[:, question.numel() - 1 : -1]
        logits = model.lm_head(hidden).float()
    losses = functional.cross_entropy(logits.transpose(1, 2), written, reduction="none")
    importance = weights[written] * (written != pad)
    loss: Tensor = (losses * importance).sum() / importance.sum()
    return loss


def _mask(is_image: Tensor) -> Tensor:
    """Additive mask [n, 1, t, t]: causal, but image tokens see each other, as in Gemma 3.

    Answers are padded on the right, where causality already hides the padding from every answer.
    """
    length = is_image.shape[1]
    allowed = torch.ones(length, length, dtype=torch.bool).tril() | (
        is_image[0][:, None] & is_image[0][None, :]
    )
    return torch.zeros(1, 1, length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)


def _token_weights(tokenizer: Any, size: int) -> Tensor:
    weights = torch.ones(size)
    for word in DECISIVE:
        weights[tokenizer.convert_tokens_to_ids(word)] = DECISIVE_WEIGHT
    return weights
