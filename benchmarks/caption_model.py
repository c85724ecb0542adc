"""The models that the captions benchmark times: MedGemma-4B's shape with random weights, and the tiny one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401 - so that its import does not count as loading a model
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
)

from fracray.captions.loading import NOT_QUANTISED

SHARD_BYTES = 2**30
NOISE = 2**24 - 3
"""Random numbers drawn; longer weights repeat them, at no multiple of a row."""

TEXT_TOKENS = 100
"""Tokens of the prompt beside the image: about what the `findings` prompt and the chat template come to."""

FIRST_PLAIN_TOKEN = 16
"""Below it stand the special tokens of the tiny captioner; Gemma's other ones start at the image's."""


def medgemma_4b_config() -> Gemma3Config:
    """Return the configuration of google/medgemma-4b-it, which is that of google/gemma-3-4b-it.

    What its config.json leaves out (8 heads, 4 key-value heads of 256, 262,208 tokens, every sixth layer full
    attention) is the default of transformers.
    """
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    }
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=256,
        dtype="bfloat16",
        eos_token_id=[1, 106],
    )


def empty_model(config: Gemma3Config) -> Gemma3ForConditionalGeneration:
    """Return the model without weights: names and shapes only, no memory."""
    with torch.device("meta"):
        return Gemma3ForConditionalGeneration(config)


def write_random_model(config: Gemma3Config, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write random bfloat16 weights as sharded safetensors; at most one shard is in memory at a time."""
    model = empty_model(config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    size = sum(shape.numel() for shape in shapes.values()) * 2
    free = shutil.disk_usage(folder).free
    if free < size * 1.05:
        raise SystemExit(
            f"{folder}: {size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; set TMPDIR to a larger disk"
        )
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(torch.bfloat16)
    index = {}
    for number, names in enumerate(_shards(shapes, shard_bytes), start=1):
        file = f"model-{number:05}.safetensors"
        tensors = {name: _random(name, shapes[name], noise) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    content = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    config.architectures = ["Gemma3ForConditionalGeneration"]
    config.save_pretrained(folder)


def _shards(shapes: dict[str, torch.Size], shard_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        if names and size + shape.numel() * 2 > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += shape.numel() * 2
    yield names


def _random(name: str, shape: torch.Size, noise: torch.Tensor) -> torch.Tensor:
    """Return values as large as a fresh model's, so that numbers stay finite through all layers."""
    if len(shape) > 1:
        whole, rest = divmod(shape.numel(), len(noise))
        return torch.cat([noise] * whole + [noise[:rest]]).reshape(shape)
    scale = "vision_tower" in name and "norm" in name and name.endswith("weight")
    # Gemma's norms multiply by one plus their weight, SigLIP's by the weight itself.
    return torch.full(shape, float(scale), dtype=torch.bfloat16)


def load(folder: Path, mode: str, device: str) -> Any:
    """Load a model as the captioner does: vision tower, projector and output layer unquantised."""
    quantisation = None
    if mode == "nf4":
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=NOT_QUANTISED,
        )
    if mode == "int8":
        quantisation = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=NOT_QUANTISED)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.bfloat16, device_map={"": device}, quantization_config=quantisation
    )
    return model.eval()


def prompt_tokens(config: Any) -> int:
    """Return the length of a prompt: text, and the image tokens between their begin and end."""
    return TEXT_TOKENS + config.mm_tokens_per_image + 2


def random_inputs(config: Any, batch: int, device: str) -> dict[str, torch.Tensor]:
    """Return what a processor would: token ids, types and mask [b, n], pixels from -1 to 1 [b, 3, s, s]."""
    generator = torch.Generator().manual_seed(0)
    last = min(config.text_config.vocab_size, config.boi_token_id, config.image_token_id)
    if last <= FIRST_PLAIN_TOKEN:
        last = config.text_config.vocab_size
    ids = torch.randint(FIRST_PLAIN_TOKEN, last, (batch, prompt_tokens(config)), generator=generator)
    first = TEXT_TOKENS // 10
    end = first + 1 + config.mm_tokens_per_image
    ids[:, 0] = config.text_config.bos_token_id
    ids[:, first] = config.boi_token_id
    ids[:, first + 1 : end] = config.image_token_id
    ids[:, end] = config.eoi_token_id
    size = config.vision_config.image_size
    pixels = torch.rand((1, config.vision_config.num_channels, size, size), generator=generator) * 2 - 1
    inputs = {
        "input_ids": ids,
        "token_type_ids": (ids == config.image_token_id).long(),
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels.to(torch.bfloat16).repeat(batch, 1, 1, 1),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}
