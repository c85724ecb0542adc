"""The labelled findings of a caption, read from whatever form a model gave them.

Models asked for plain labelled lines also answer in Markdown, tables, one paragraph or JSON, and stop in the
middle. Every form is first brought to lines, each with the label it stands under; the findings, and the
caption without its verdict, are made of these lines.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

LABELS = (
    "region", "bones", "cortex", "lines", "displacement", "angulation", "joints", "soft tissue", "devices",
    "other", "impression",
)  # fmt: skip
"""What captioners are asked for, in this order; the region with its projection."""

ENOUGH = 4
"""Labels beside the impression that an answer needs to be ok."""

_ALIGNMENT = "alignment"
_ENDS = "ends"
_SYNONYMS = {
    "region": ("body part", "anatomy", "anatomical region", "body region", "site", "exam", "examination",
               "study", "view", "views", "projection"),
    "bones": ("bone", "findings", "finding", "bony structures", "osseous structures", "skeleton"),
    "cortex": ("cortices", "cortical bone", "cortical outline", "bone cortex", "cortical integrity"),
    "lines": ("line", "lucent lines", "lucencies", "fracture lines", "fracture line", "lucency"),
    "joints": ("joint", "joint spaces", "joint space", "articulations"),
    "soft tissue": ("soft tissues", "soft tissue swelling"),
    "devices": ("device", "hardware", "implants", "implant", "foreign bodies", "foreign body"),
    "other": ("others", "other findings", "additional findings", "miscellaneous"),
    "impression": ("impressions", "conclusion", "conclusions", "summary", "diagnosis", "assessment",
                   "opinion", "final impression", "overall impression"),
    _ALIGNMENT: ("bone alignment",),
    _ENDS: ("note", "notes", "disclaimer", "recommendation", "recommendations", "technique", "comparison",
            "indication", "history", "clinical history", "clinical information", "limitations"),
}  # fmt: skip
"""Other names of a label. What stands under `_ENDS` is no finding; it ends the label before it."""

_NAMES = {name: label for label, names in _SYNONYMS.items() for name in (label, *names)} | {
    label: label for label in LABELS
}
_ANY_NAME = "|".join(sorted((re.escape(name) for name in _NAMES), key=len, reverse=True))
# The middle group is not possessive: Python before 3.11.5 then skips the digit of a line such as "3 mm".
_MARKS = r"[\s>#*_`\u2022\u2013-]*+(?:\d{1,2}[.)]\s)?[\s*_`]*+"
_NAME = r"([A-Za-z][A-Za-z _&/-]{1,30}?)(?:\s?\([^()]{1,40}\))?"
_LABELLED = re.compile(rf"^{_MARKS}{_NAME}(?:[*_`\s]*:|[*_`]*\s[\u2013-](?=\s))[*_`]*(.*)$")
_HEADING = re.compile(rf"^{_MARKS}{_NAME}[\s*_`#]*()$")
_START = re.compile(_MARKS)
_INLINE = re.compile(
    rf"(?:(?<=[.;])\s|(?<=[\w.;,)])\s(?=\*\*))\s?(?=[*_]*(?:{_ANY_NAME})[*_]*\s?:)", re.IGNORECASE
)
_ITEM = re.compile(r"\s*(?:[*\u2022\u2013-]|\d{1,2}[.)])\s")
_WIDE_COLON = "\uff1a"
_PAIR = re.compile(r'"([^"\\]{1,40})"\s*:\s*\[?\s*"((?:[^"\\]|\\.)*)')


class Line(NamedTuple):
    """A caption's line: its label (None: no finding), all of it, and it without label and marks."""

    label: str | None
    whole: str
    content: str


@dataclass(frozen=True)
class Findings:
    """What a caption says under each label, empty where it says nothing, and the caption itself as `text`.

    `status` is ok with at least `ENOUGH` labels beside the impression, and the impression where it was asked
    for; partial with any label; else unparsed.
    """

    status: Literal["ok", "partial", "unparsed"]
    text: str = ""
    region: str = ""
    bones: str = ""
    cortex: str = ""
    lines: str = ""
    displacement: str = ""
    angulation: str = ""
    joints: str = ""
    soft_tissue: str = ""
    devices: str = ""
    other: str = ""
    impression: str = ""


def parse_findings(text: str, *, impression_asked: bool = True) -> Findings:
    """Read the findings of a caption in any of the forms that models use; no text raises.

    A label that comes twice keeps both contents. `alignment` stands for displacement where that is missing.
    """
    found: dict[str, str] = {}
    for line in labelled_lines(text):
        if line.label and line.content:
            found[line.label] = f"{found.get(line.label, '')} {line.content}".strip()
    found.pop(_ENDS, None)
    alignment = found.pop(_ALIGNMENT, "")
    if alignment:
        found.setdefault("displacement", alignment)
    if not found:
        return Findings("unparsed", text)
    enough = len(found.keys() - {"impression"}) >= ENOUGH
    ok = enough and ("impression" in found or not impression_asked)
    fields = {label.replace(" ", "_"): content for label, content in found.items()}
    return Findings("ok" if ok else "partial", text, **fields)


def labelled_lines(text: str) -> list[Line]:
    """Return the lines of a caption with their labels; JSON becomes one line for each value."""
    before, pairs, after = _json_pairs(text.replace(_WIDE_COLON, ":"))
    lines = list(_read_lines(before))
    lines += [Line(_label(key), f"{key}: {value}", value) for key, value in pairs]
    lines += _read_lines(after)
    return lines


def _read_lines(text: str) -> Iterator[Line]:
    """Text under a label belongs to it until the next label, or a paragraph of its own after the first."""
    label, content_seen, blank_before = None, False, False
    for whole in _one_label_a_line(text):
        name, content = _split(whole)
        if name:
            label, content_seen = name, False
        elif content and content_seen and blank_before and not _ITEM.match(whole):
            label = None
        content_seen = content_seen or bool(content)
        blank_before = not content
        yield Line(label, whole, content)


def _one_label_a_line(text: str) -> Iterator[str]:
    for line in text.splitlines():
        marks = _START.match(line)
        start = marks.end() if marks else 0  # a list's number is no end of a sentence
        yield from (line[:start] + _INLINE.sub("\n", line[start:])).splitlines() or [""]


def _split(line: str) -> tuple[str | None, str]:
    """Return the label that a line opens, if any, and its content without marks."""
    if line.lstrip().startswith("|"):
        cells = [cell.strip(" *_") for cell in line.strip().strip("|").split("|")]
        name = _label(cells[0])
        return name, " ".join(cells[1:] if name else cells).strip("-: ")
    for match in (_LABELLED.match(line), _HEADING.match(line)):
        name = _label(match.group(1)) if match else None
        if match and name:
            return name, match.group(2).strip(" \t*_`")
    return None, re.sub(rf"^{_MARKS}", "", line).strip(" \t*_`")


def _label(name: str) -> str | None:
    """Return the label of a name; of two names in one ("bones and joints") the first."""
    plain = " ".join(re.sub(r"[_*`-]", " ", name.lower()).split())
    return _NAMES.get(plain) or _NAMES.get(re.split(r" and |\s?[/&]\s?", plain)[0])


def _json_pairs(text: str) -> tuple[str, list[tuple[str, str]], str]:
    """Return the text before a JSON object, the object's keys and values, and the text after it.

    A JSON object that is cut off or broken gives the pairs that can still be read.
    """
    start = text.find("{")
    if start < 0:
        return text, [], ""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
        pairs = [*_flatten(value)]
    except (ValueError, RecursionError):
        pairs = [(match[1], _words(match[2].replace("\\n", " "))) for match in _PAIR.finditer(text, start)]
        end = len(text)
    if not any(_label(key) for key, _ in pairs):
        return text, [], ""
    return re.sub(r"```\w*\s*$", "", text[:start]), pairs, re.sub(r"^\s*```", "", text[end:])


def _flatten(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and value; in an object inside, a label stands for itself, another key for the outer one."""
    for key, value in fields.items():
        if not isinstance(value, dict):
            yield key, _words(value)
            continue
        for inner, deeper in value.items():
            yield (inner, _words(deeper)) if _label(inner) else (key, f"{inner}: {_words(deeper)}")


def _words(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_words(item)}" for key, item in value.items())
    return "" if value is None else " ".join(str(value).split())
