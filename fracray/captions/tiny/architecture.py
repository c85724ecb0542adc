"""The embedded captioner before training: Gemma 3's classes at a few million parameters, tokenizer
included."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaTokenizer,
    GenerationConfig,
    SiglipVisionConfig,
)

IMAGE_SIZE = 240
PATCH = 12
VISION_WIDTH = 160
VISION_HEADS = 5
VISION_LAYERS = 6
TEXT_WIDTH = 192
TEXT_LAYERS = 3
IMAGE_TOKENS = 100
VOCABULARY = 640

SPECIAL_TOKENS = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
    "<end_of_image>", "<image_soft_token>",
)  # fmt: skip

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}{{ '<start_of_image>' }}{% else %}{{ item['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Turns as Gemma 3 writes them."""


def build_processor(texts: Sequence[str]) -> Gemma3Processor:
    """Return image processor and tokenizer, the vocabulary learnt from `texts` (findings and prompts)."""
    tokenizer = _train_tokenizer(texts)
    images = Gemma3ImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        image_seq_length=IMAGE_TOKENS,
        do_pan_and_scan=False,
    )
    return Gemma3Processor(images, tokenizer, chat_template=CHAT_TEMPLATE, image_seq_length=IMAGE_TOKENS)


def build_tower(seed: int) -> Any:
    """Return a fresh vision tower alone, with the attention that trains fastest on few tokens."""
    torch.manual_seed(seed)
    return AutoModel.from_config(_vision_config(), attn_implementation="eager")


def build_model(processor: Gemma3Processor, seed: int) -> Gemma3ForConditionalGeneration:
    """Return a fresh model; every linear layer of its language part has a multiple of 64 outputs, as NF4 on
    a CPU wants."""
    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    text = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=64,
        query_pre_attn_scalar=64,
        sliding_window=512,
        max_position_embeddings=2048,
        layer_types=["full_attention"] * TEXT_LAYERS,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=_vision_config(),
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        tie_word_embeddings=True,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
    )
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(config)
    # transformers leaves this matrix at zero, from where the pictures would never be seen.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=TEXT_WIDTH**-0.5)
    model.generation_config = GenerationConfig(
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
        do_sample=False,
    )
    return model


def _vision_config() -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=4 * VISION_WIDTH,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=VISION_HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        vision_use_head=False,
    )


def _train_tokenizer(texts: Sequence[str]) -> Any:
    """A Gemma tokenizer whose tokens are the words of `texts`, their pieces, and every printable ASCII
    character."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split("▁", "merged_with_next"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        initial_alphabet=["▁", "\n", *(chr(code) for code in range(33, 127))],
        min_frequency=1,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    tokens = [*SPECIAL_TOKENS, *sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)]
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = GemmaTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        padding_side="left",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    return tokenizer
