"""Identity by content: of files, folders of weights, and settings."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

LENGTH = 16
"""Hex digits kept of a settings fingerprint (64 bits: a collision among a million is unlikely)."""


def image_id(data: bytes) -> str:
    """Return the identity of a radiograph: the SHA-256 of its file's bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(**parts: BaseModel | Mapping[str, Any] | str | int | float | bool | None) -> str:
    """Return a short hash of named `parts` that is the same on every machine and in every order."""
    plain = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part
        for name, part in parts.items()
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
