"""The captions benchmark's formulas against PyTorch's own counts, and its cells on the embedded captioner."""

import sys
from importlib.resources import files
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import bitsandbytes.functional
import caption_cells
import captions
import pytest
import torch
from caption_cells import Cell, Plan, time_mode
from caption_costs import (
    BYTES_PER_WEIGHT,
    batch_bytes,
    cache_bytes,
    caption_flops,
    head_weights,
    language_weights,
    pass_bytes,
    text_flops,
    vision_flops,
    vision_weights,
)
from caption_model import (
    empty_model,
    load,
    medgemma_4b_config,
    prompt_tokens,
    random_inputs,
    write_random_model,
)
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, Gemma3Config

TINY = Path(str(files("fracray") / "assets" / "captioner"))


def _tiny() -> Any:
    return Gemma3Config.from_pretrained(TINY)


def _windowed() -> Any:
    """A small text model whose window is shorter than its prompt."""
    config = _tiny()
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config.text_config.update({"sliding_window": 16, "layer_types": kinds})
    return config


CONFIGS = pytest.mark.parametrize("make_config", [_tiny, _windowed, medgemma_4b_config])


def _counted(model: Any, prompt: int, new_tokens: int) -> int:
    """FLOPs that PyTorch counts while the language model writes, without memory or time."""
    width = model.config.text_config.hidden_size
    cache = DynamicCache(config=model.config.text_config)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for tokens in [prompt] + [1] * (new_tokens - 1):
            embedded = torch.empty((1, tokens, width), device="meta")
            hidden = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
            model.lm_head(hidden.last_hidden_state[:, -1:])
    return counter.get_total_flops()


def test_medgemma_has_the_published_number_of_parameters() -> None:
    model = empty_model(medgemma_4b_config())
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_300_079_472


@CONFIGS
def test_weights_are_those_of_the_built_model(make_config: Any) -> None:
    model = empty_model(make_config())
    linear = [m for m in model.model.language_model.modules() if isinstance(m, torch.nn.Linear)]
    seeing = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    positions = model.model.vision_tower.embeddings.position_embedding.weight.numel()
    assert language_weights(model.config) == sum(layer.weight.numel() for layer in linear)
    assert vision_weights(model.config) == sum(p.numel() for p in seeing if p.ndim > 1) - positions
    assert head_weights(model.config) == model.lm_head.weight.numel()


@CONFIGS
def test_flops_are_those_that_pytorch_counts(make_config: Any) -> None:
    model = empty_model(make_config())
    model.set_attn_implementation("eager")
    size = model.config.vision_config.image_size
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.get_image_features(torch.empty((1, 3, size, size), device="meta"))
    assert vision_flops(model.config) == counter.get_total_flops()
    # PyTorch also counts the angles of the rotary embedding, one product per position.
    assert text_flops(model.config, 40, 3) == pytest.approx(_counted(model, 40, 3), rel=1e-3)


def test_a_caption_by_medgemma_takes_nearly_nine_teraflops() -> None:
    config = medgemma_4b_config()
    assert caption_flops(config, prompt_tokens(config), 128) == pytest.approx(8.80e12, rel=1e-3)


def test_cache_is_as_large_as_the_one_that_transformers_keeps() -> None:
    model = empty_model(medgemma_4b_config())
    cache = DynamicCache(config=model.config.text_config)
    embedded = torch.empty((1, 300, 2560), device="meta", dtype=torch.bfloat16)
    model.to(torch.bfloat16).model.language_model(
        inputs_embeds=embedded, past_key_values=cache, use_cache=True
    )
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(model.config, 300) == kept


def test_nf4_is_as_large_as_bitsandbytes_makes_it() -> None:
    weight = torch.randn(1024, 1024)
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    size = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert size == BYTES_PER_WEIGHT["nf4"] * weight.numel()


def test_a_batch_shares_the_weights_and_not_the_cache() -> None:
    config = _tiny()
    once = batch_bytes(config, "bf16", 1, 40, 2)
    assert batch_bytes(config, "bf16", 5, 40, 2) - once == 4 * cache_bytes(config, 41)
    read = 2 * vision_weights(config) + 2 * pass_bytes(config, "bf16")
    assert once == read + cache_bytes(config, 41)


def test_random_weights_load_completely_and_give_finite_numbers(tmp_path: Path) -> None:
    config = _tiny()
    write_random_model(config, tmp_path, shard_bytes=2**20)
    shards = sorted(tmp_path.glob("*.safetensors"))
    written = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    model = load(tmp_path, "bf16", "cpu")
    loaded = dict(model.named_parameters())
    assert len(shards) > 1
    assert written.keys() == loaded.keys()
    assert all(torch.equal(written[name], loaded[name]) for name in written)
    with torch.inference_mode():
        logits = model(**random_inputs(model.config, 2, "cpu"), logits_to_keep=1).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def _run(plan: Plan, mode: str) -> list[Cell]:
    ours, theirs = Pipe(duplex=False)
    time_mode(theirs, plan, mode)
    return [ours.recv() for _ in plan.batches]


def test_a_cell_has_all_its_figures() -> None:
    (cell,) = _run(Plan(TINY, "cpu", (2,), 3), "nf4")
    assert cell.problem is None
    assert None not in [value for name, value in vars(cell).items() if name != "problem"]


def test_a_batch_without_memory_is_a_row_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(model: Any, batch: int, new_tokens: int, device: str) -> tuple[float, float]:
        if batch == 8:
            raise torch.OutOfMemoryError("tried to allocate too much")
        return 1.0, 1.0

    monkeypatch.setattr(caption_cells, "_generate", generate)
    cells = _run(Plan(TINY, "cpu", (1, 8, 32), 3), "bf16")
    assert [cell.problem for cell in cells] == [None, "out of memory", None]


def test_a_model_that_does_not_load_is_a_row(tmp_path: Path) -> None:
    cells = _run(Plan(tmp_path, "cpu", (1, 8), 3), "bf16")
    assert all(cell.problem and "\n" not in cell.problem for cell in cells)


def test_cuda_asked_for_and_absent_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["captions.py", "--device", "cuda"])
    with pytest.raises(SystemExit) as stopped:
        captions.main()
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
