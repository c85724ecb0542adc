"""What the captioner is asked: prompts that ship as text files, and the chat message around a picture."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fracray.errors import CaptionerError

PROMPTS = ("findings", "findings_without_impression", "paper", "paper_without_impression")
"""Prompts that ship."""


@dataclass(frozen=True)
class Prompt:
    """A question to the captioner; `text` is part of the caption's fingerprint, `name` is not."""

    name: str
    text: str

    @property
    def asks_for_impression(self) -> bool:
        """Whether an answer without an impression is incomplete."""
        return "impression" in self.text.lower()


def load_prompt(name: str) -> Prompt:
    """Return a prompt that ships (one of `PROMPTS`) or the text of a `.txt` file.

    Raises `CaptionerError` when there is no such prompt or it is empty.
    """
    folder = Path(str(files("fracray.captions") / "prompts"))
    path = Path(name) if name.endswith(".txt") else folder / f"{name}.txt"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise CaptionerError(
            f"prompt '{name}' cannot be read; choose one of {', '.join(PROMPTS)}, or a .txt file"
        ) from None
    if not text:
        raise CaptionerError(f"prompt '{name}' is empty; write the question into it")
    return Prompt(path.stem, text)


def chat_message(pixels: np.ndarray, prompt: Prompt) -> list[dict[str, Any]]:
    """Return the chat of one user turn: the picture (uint8 [s, s]), then the prompt.

    These two are all that a captioner ever learns about a radiograph: no label, no file name, no folder.
    """
    picture = Image.fromarray(pixels).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt.text}]
    return [{"role": "user", "content": content}]
