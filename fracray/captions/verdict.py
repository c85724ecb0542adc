"""Whether a caption reports a fracture: what the caption alone would have scored.

Nothing here reaches the classifier, which reads the caption's words.
"""

import re
from typing import Literal

from fracray.captions.findings import parse_findings

Verdict = Literal["positive", "negative", "uncertain", "none"]

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
