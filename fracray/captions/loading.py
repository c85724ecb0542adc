"""From a folder or a model id to a loaded image-text model of the Gemma 3 family."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from fracray.captions.load_errors import load_error
from fracray.captions.memory import refuse_too_large
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError

log = logging.getLogger(__name__)

NOT_QUANTISED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
"""Full names: transformers 5 matches them from the root, and says nothing about a name that matches no
layer. The 4-bit kernels refuse the vision tower's widths."""

LAYER_TYPES = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}


def load_model(settings: CaptionSettings, source: Path | str) -> tuple[Any, Any, int]:
    """Return model (quantised as set, on its device), processor, and the number of quantised layers.

    Hub token, cache and HF_HUB_OFFLINE are those of huggingface_hub. Raises `CaptionerError` when the model
    cannot be found or used, memory is too small, or not every layer of the language part was quantised.
    """
    config = load_model_config(source, settings.revision)
    device = _device(settings.device)
    dtype = _compute_dtype(settings.compute_dtype, device)
    skeleton = _skeleton(config)
    refuse_too_large(skeleton, _language_linears(skeleton), settings.quantisation, dtype, device)
    arguments: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}}
    if settings.attention != "auto":
        arguments["attn_implementation"] = settings.attention
    if not _quantised_already(config, source, settings.quantisation, dtype):
        arguments["quantization_config"] = _quantisation(settings.quantisation, dtype)
    try:
        processor = AutoProcessor.from_pretrained(source, revision=settings.revision)
        model = AutoModelForImageTextToText.from_pretrained(
            source, revision=settings.revision, config=config, **arguments
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise load_error(source, error) from error
    converted = _check_quantised(model, len(_language_linears(skeleton)), settings.quantisation, source)
    model.eval()
    return model, processor, converted


def load_model_config(source: Path | str, revision: str | None) -> Any:
    """Return the model's configuration; raises `CaptionerError` unless it is an image-text model."""
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise load_error(source, error) from error
    if getattr(config, "vision_config", None) is None or getattr(config, "text_config", None) is None:
        raise CaptionerError(
            f"{source}: a {config.model_type} model takes no pictures; "
            "name an image-text model of the Gemma 3 family"
        )
    return config


def save_quantised(settings: CaptionSettings, source: Path | str, target: Path) -> int:
    """Load the model of `settings` and write it, quantised, to the folder `target`; return its quantised
    layers.

    The folder is a third of the size, loads faster, and needs neither hub nor licence token on the machines
    that share it.
    """
    if settings.quantisation == "none":
        raise CaptionerError("captions.quantisation=none leaves nothing to quantise; choose nf4 or int8")
    model, processor, converted = load_model(settings, source)
    write_model(model, processor, target)
    return converted


def write_model(model: Any, processor: Any, folder: Path) -> None:
    """Write weights, configuration, tokenizer and chat template into `folder`, for all who may read there."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        # safetensors leaves files that only their owner can read.
        shutil.copymode(folder / "config.json", weights)


def _skeleton(config: Any) -> Any:
    """The model's layers without weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _language_linears(model: Any) -> dict[str, torch.nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(tuple(NOT_QUANTISED))
    }


def _quantisation(name: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if name == "none":
        return None
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=NOT_QUANTISED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=NOT_QUANTISED,
    )


def _quantised_already(config: Any, source: Path | str, asked: str, dtype: torch.dtype) -> bool:
    """Whether the weights lie there quantised; they then compute in `dtype` too."""
    saved: Mapping[str, Any] | None = getattr(config, "quantization_config", None)
    if saved is None:
        return False
    four_bits = saved.get("load_in_4bit") and saved.get("bnb_4bit_quant_type")
    found = four_bits or ("int8" if saved.get("load_in_8bit") else saved.get("quant_method", "unknown"))
    if found != asked:
        raise CaptionerError(f"{source}: holds {found} weights; set captions.quantisation={found}")
    config.quantization_config = {**saved, "bnb_4bit_compute_dtype": str(dtype).removeprefix("torch.")}
    return True


def _check_quantised(model: Any, expected: int, quantisation: str, source: Path | str) -> int:
    if quantisation == "none":
        return 0
    wanted = LAYER_TYPES[quantisation]
    converted = sum(type(module).__name__ == wanted for module in model.modules())
    if converted != expected:
        raise CaptionerError(
            f"{source}: {converted} of {expected} language layers were converted to {quantisation}; "
            "set captions.quantisation=none"
        )
    log.info("%d of %d language layers in %s, vision tower as it was", converted, expected, quantisation)
    return converted


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _compute_dtype(name: str, device: str) -> torch.dtype:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CaptionerError(f"captions.device={device}: this machine has no usable GPU; set it to auto")
    if name == "bfloat16" and device.startswith("cuda") and not torch.cuda.is_bf16_supported(False):
        raise CaptionerError(
            f"{device} computes no bfloat16 (GPUs before 2020 do not); set captions.compute_dtype=float32"
        )
    if name == "auto":
        name = "float32" if device == "cpu" or not torch.cuda.is_bf16_supported(False) else "bfloat16"
    return torch.bfloat16 if name == "bfloat16" else torch.float32
