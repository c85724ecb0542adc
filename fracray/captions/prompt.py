"""What the captioner is asked: prompts that ship as text files, and the chat message around a picture."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fracray.errors import CaptionerError


@dataclass(frozen=True)
class Prompt:
    """A question to the captioner; `text` is part of the caption's fingerprint, `name` is not."""

    name: str
    text: str


def load_prompt(name: str) -> Prompt:
    """Return a prompt that ships (`findings`, `paper`) or the text of a `.txt` file.

    Raises `CaptionerError` when there is no such prompt or it is empty.
    """
    folder = Path(str(files("fracray.captions") / "prompts"))
    path = Path(name) if name.endswith(".txt") else folder / f"{name}.txt"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        names = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
        raise CaptionerError(
            f"prompt '{name}' cannot be read; choose one of {names}, or a .txt file"
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
