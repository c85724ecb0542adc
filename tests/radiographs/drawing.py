"""Pictures that are unlike enough and detailed enough to test comparing radiographs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter


def drawn_bones(seed: int, height: int = 200, width: int = 160) -> NDArray[np.float32]:
    """Return bright strokes and joints on dark soft tissue, float32 `[height, width]` in [0, 1]."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (width, height), 20)
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.05, width * 0.9, height * 0.95), fill=60)
    for _ in range(6):
        start, end = rng.uniform(0.15, 0.85, size=(2, 2)) * (width, height)
        draw.line([*start, *end], fill=int(rng.integers(130, 240)), width=int(rng.integers(6, 16)))
        draw.ellipse([*(start - 10), *(start + 10)], fill=int(rng.integers(130, 240)))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float32) / 255
    return np.clip(blurred + rng.normal(0, 0.01, blurred.shape), 0, 1).astype(np.float32)
