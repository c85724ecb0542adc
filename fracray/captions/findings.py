"""What a caption says: its labelled lines, and whether it reports a fracture.

Nothing here reaches the classifier, which reads the caption's words. The verdict serves to show what the
caption alone would have scored.
"""

import re
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["positive", "negative", "uncertain", "none"]

LABELS = ("region", "bones", "lines", "alignment", "soft tissue", "other", "impression")
_SYNONYMS = {"bone": "bones", "findings": "bones", "soft tissues": "soft tissue", "conclusion": "impression",
             "body part": "region", "line": "lines", "devices": "other"}  # fmt: skip

_LABELLED = re.compile(r"^[\s\-*#•\d.)]*([A-Za-z][A-Za-z ]{2,20}?)[\s*]*:[\s*]*(.*)$")
_CLAUSE = re.compile(
    r"[.;\n!?]+|\b(?:but|however|although|though|except|otherwise)\b|,\s*(?=(?:a|an|there is)\b)", re.I
)
_FRACTURE = re.compile(
    r"\b(?:fractur\w*|broken|greenstick|cortical (?:break|breach|disruption|discontinuity))", re.I
)
_UNCERTAIN = re.compile(
    r"\b(?:cannot|can't|can not|could not|not)\s+(?:be\s+)?(?:\w+\s+)?(?:exclude|rule)\w*"
    r"|\b(?:possibl|probabl|suspicio|suspect|question)\w+|\bmay\b|\bmight\b|\bequivocal\b|\blikely\b"
    r"|\bconcern\w* for\b",
    re.IGNORECASE,
)
_NEGATION_BEFORE = re.compile(
    r"\b(?:no|not|without|neither|nor|absent|absence of|negative for|free of|never|rules? out|ruled out"
    r"|excludes?)\b",
    re.IGNORECASE,
)
_NEGATION_AFTER = re.compile(
    r"^[\w\s,]{0,30}?\b(?:not (?:seen|visible|present|identified|evident|found)|is excluded|are excluded"
    r"|ruled out|absent|unlikely|none)\b|^\s*(?:line|lines)?\s*:\s*(?:no|none|absent)\b",
    re.IGNORECASE,
)
_OLD = re.compile(
    r"\b(?:old|healed|healing|previous|prior|remote|chronic|former|united|consolidated|history of)\b", re.I
)
_NORMAL = re.compile(
    r"\b(?:normal|unremarkable|intact|no (?:acute )?(?:\w+ )?(?:abnormalit\w+|injur\w+))\b", re.I
)


@dataclass(frozen=True)
class Findings:
    """The labelled lines of a caption, empty where a label is missing.

    `status` is ok with an impression and at least three other labels, partial with any label, else unparsed.
    """

    status: Literal["ok", "partial", "unparsed"]
    region: str = ""
    bones: str = ""
    lines: str = ""
    alignment: str = ""
    soft_tissue: str = ""
    other: str = ""
    impression: str = ""


def parse_findings(text: str) -> Findings:
    """Read the labelled lines of a caption; text below a label belongs to it until the next one."""
    found: dict[str, str] = {}
    current: str | None = None
    for line in text.splitlines():
        match = _LABELLED.match(line)
        label = _label(match.group(1)) if match else None
        if match and label:
            current = label
            line = match.group(2)
        if current and line.strip():
            found[current] = f"{found.get(current, '')} {line.strip(' *')}".strip()
    found = {label: content for label, content in found.items() if content}
    if not found:
        return Findings("unparsed")
    complete = "impression" in found and len(found) >= 4
    fields = {label.replace(" ", "_"): content for label, content in found.items()}
    return Findings("ok" if complete else "partial", **fields)


def verdict(text: str) -> Verdict:
    """Return whether a caption reports a fracture: its impression decides, without one the whole text.

    One certain, present fracture makes it positive, however many others are denied; else a doubtful one
    makes it uncertain. Old and healed fractures count as none. `none`: the text says nothing about
    fractures.
    """
    considered = parse_findings(text).impression or text
    mentions = [
        _mention(clause, match)
        for clause in _CLAUSE.split(considered)
        for match in _FRACTURE.finditer(clause)
    ]
    for answer in ("positive", "uncertain", "negative"):
        if answer in mentions:
            return answer
    return "negative" if _NORMAL.search(considered) else "none"


def _label(name: str) -> str | None:
    name = " ".join(name.lower().split())
    name = _SYNONYMS.get(name, name)
    return name if name in LABELS else None


def _mention(clause: str, match: re.Match[str]) -> Verdict:
    """How a clause speaks of one fracture."""
    before, after = clause[: match.start()], clause[match.end() :]
    if _OLD.search(before[-40:]) or re.match(
        r"\s*(?:,\s*)?(?:is |has |now )*(?:healed|old|united)\b", after, re.I
    ):
        return "negative"
    if _UNCERTAIN.search(clause):
        return "uncertain"
    if _NEGATION_BEFORE.search(before) or _NEGATION_AFTER.match(after):
        return "negative"
    return "positive"
