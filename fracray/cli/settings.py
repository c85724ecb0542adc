"""Settings as YAML that says what each of them means."""

from collections.abc import Iterator

import yaml
from pydantic import BaseModel


def documented(settings: BaseModel) -> str:
    """Return `settings` as YAML that `--config` reads, each value with its description beside it."""
    return "\n".join(_lines(settings, "")) + "\n"


def _lines(settings: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from ("", f"{indent}# {type(value).__doc__}") if not indent else ()
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            # In brackets every value stands on one line, and a scalar without an end-of-document mark.
            written = yaml.safe_dump([plain], default_flow_style=True, width=1000).strip()[1:-1]
            meaning = f"  # {field.description}" if field.description else ""
            yield f"{indent}{name}: {written}{meaning}"
