"""What a caption by a Gemma 3 model costs at least: arithmetic in FLOPs, memory traffic in bytes.

A multiplication with its addition is two FLOPs, and only matrix products count: 2 x weights for each position
that passes through them, and in attention 4 x heads x head dimension for each pair of query and key (scores,
then values), as in Kaplan et al., "Scaling Laws for Neural Language Models", section 2.1, and in PyTorch's
`FlopCounterMode`. The prompt's attention is counted as the whole square: with an image in it, its mask is no
triangle, so the kernels compute all of it.

Traffic is what no program can avoid: each forward pass reads the weights that it uses once, and each decoding
step the batch's keys and values. Activations are left out.
"""

from typing import Any

BYTES_PER_WEIGHT = {"bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Of the language model's linear layers; all else stays in bfloat16.

NF4 with double quantisation (Dettmers et al., "QLoRA", section 3): 4 bits for a weight, 8 for the scale of 64
weights, 32 for the scale of 256 scales. The one scale a row of int8 is left out.
"""

BFLOAT16 = 2
"""Bytes."""


def vision_weights(config: Any) -> int:
    """Return the weights of patch embedding, SigLIP's layers and the projector, without biases and norms."""
    vision = config.vision_config
    width = vision.hidden_size
    patch = vision.num_channels * vision.patch_size**2 * width
    layer = 4 * width**2 + 2 * width * vision.intermediate_size
    return patch + vision.num_hidden_layers * layer + width * config.text_config.hidden_size


def vision_flops(config: Any) -> int:
    """Return the FLOPs from one picture to its image tokens."""
    vision = config.vision_config
    width, layers = vision.hidden_size, vision.num_hidden_layers
    patches = (vision.image_size // vision.patch_size) ** 2
    projector = width * config.text_config.hidden_size
    tower = 2 * patches * (vision_weights(config) - projector)
    return tower + 4 * layers * width * patches**2 + 2 * projector * config.mm_tokens_per_image


def language_weights(config: Any) -> int:
    """Return the weights of the linear layers of all of Gemma's decoder layers: those that are quantised."""
    text = config.text_config
    attention = 2 * text.hidden_size * text.head_dim * (text.num_attention_heads + text.num_key_value_heads)
    return text.num_hidden_layers * (attention + 3 * text.hidden_size * text.intermediate_size)


def head_weights(config: Any) -> int:
    """Return the weights of the output layer, which it shares with the token embedding."""
    return config.text_config.hidden_size * config.text_config.vocab_size


def keys_seen(config: Any, context: int) -> int:
    """Return how many keys a new token looks at, summed over the layers; a sliding window ends the look."""
    text = config.text_config
    window = min(context, text.sliding_window or context)
    return sum(window if kind == "sliding_attention" else context for kind in text.layer_types)


def text_flops(config: Any, prompt_tokens: int, new_tokens: int) -> int:
    """Return the language model's FLOPs for one caption; the prompt's image tokens are among its tokens.

    The pass over the prompt gives the first new token, each further one takes a pass of its own, and the
    output layer sees one position a pass.
    """
    text = config.text_config
    pair = 4 * text.num_attention_heads * text.head_dim
    positions = prompt_tokens + new_tokens - 1
    pairs = text.num_hidden_layers * prompt_tokens**2
    pairs += sum(keys_seen(config, context) for context in range(prompt_tokens + 1, positions + 1))
    return 2 * language_weights(config) * positions + 2 * head_weights(config) * new_tokens + pair * pairs


def caption_flops(config: Any, prompt_tokens: int, new_tokens: int) -> int:
    """Return the FLOPs of one caption, picture and words."""
    return vision_flops(config) + text_flops(config, prompt_tokens, new_tokens)


def pass_bytes(config: Any, mode: str) -> float:
    """Return the bytes of weights that one pass of the language model reads."""
    return language_weights(config) * BYTES_PER_WEIGHT[mode] + head_weights(config) * BFLOAT16


def cache_bytes(config: Any, context: int) -> int:
    """Return the bytes of one sequence's keys and values that a decoding step reads."""
    text = config.text_config
    return 2 * text.num_key_value_heads * text.head_dim * BFLOAT16 * keys_seen(config, context)


def batch_bytes(config: Any, mode: str, batch: int, prompt_tokens: int, new_tokens: int) -> float:
    """Return the bytes that a batch of captions reads: weights once a pass, keys and values once a step."""
    weights = vision_weights(config) * BFLOAT16 + new_tokens * pass_bytes(config, mode)
    steps = range(prompt_tokens + 1, prompt_tokens + new_tokens)
    return weights + batch * sum(cache_bytes(config, context) for context in steps)
