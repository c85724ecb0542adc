"""Whether a caption reports a fracture: what the caption alone would have scored.

Nothing here reaches the classifier, which reads the caption's words. In the manner of NegEx (Chapman et
al., J Biomed Inform 2001) and ConText (Harkema et al., J Biomed Inform 2009): find the mentions of a
fracture, find the cues around each, and let a cue reach as far as its clause. Terms and order are this
package's own.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from fracray.captions import verdict_terms as terms
from fracray.captions.findings import labelled_lines

Verdict = Literal["positive", "negative", "uncertain", "none"]
_Said = Literal["positive", "uncertain", "negative", "supposed"]


def _phrases(phrases: Iterable[str]) -> re.Pattern[str]:
    """Compile phrases, longest first, to a pattern that matches whole words."""
    ordered = sorted(phrases, key=lambda phrase: (len(phrase.split()), len(phrase)), reverse=True)
    patterns = [
        r"\s".join(re.escape(word).replace(r"\*", r"\w*") for word in phrase.split())
        .replace(r"\~\s", r"(?:[\w-]+\s){0,3}?")
        .replace(r"\s\$", r"(?=\s,|\s?$)")
        for phrase in ordered
    ]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(patterns)})(?![\w-])")


_FRACTURE = {"fracture": _phrases(terms.FRACTURES)}
_BEFORE = _FRACTURE | {
    "denied": _phrases(terms.DENIED_BEFORE),
    "doubted": _phrases(terms.DOUBTED_BEFORE),
    "supposed": _phrases(terms.SUPPOSED),
    "old": _phrases(terms.OLD_BEFORE),
}
_AFTER = _FRACTURE | {
    "denied": _phrases(terms.DENIED_AFTER),
    "doubted": _phrases(terms.DOUBTED_AFTER),
    "old": _phrases(terms.OLD_AFTER),
}
_ENDS = _phrases(terms.ENDS)
_PSEUDO, _NOT_FRACTURES = _phrases(terms.PSEUDO), _phrases(terms.NOT_FRACTURES)
_NORMAL, _BONES, _NOT_BONES = _phrases(terms.NORMAL), _phrases(terms.BONES), _phrases(terms.NOT_BONES)
_BREAKS_OLD = re.compile(r",|\b(?:and|with|new|acute)\b")
_LIST_ENDS = re.compile(r", (?!.*\b(?:and|or|nor)\b)[^,]*$")
_LOCATED = re.compile(r"\s(?:of|in|at|through|involving|across)\b(?!.*\b(?:or|nor)\b)")
_BREAKS_BACK = re.compile(
    r"\b(?:with|and)\s*$|\bwith\b|\b(?:is|are|was|were|has|have)\b(?!(?:\s+(?:considered|been|now))*\s*$)"
    r"|,(?!\s*(?:\w+ly|now)?\s*$)(?!.*\b(?:and|or)\b)"
)


REACH_TO_A_DOUBT = 3
"""Words between a negation and the doubt that it denies."""


class _Cue(NamedTuple):
    kind: str
    start: int
    end: int


def verdict(text: str) -> Verdict:
    """Return whether a caption reports a fracture: the impression decides, if silent the whole text.

    One certain, present fracture makes it positive, however many others are denied; else a doubtful one
    makes it uncertain. Healed and old fractures count as none, healing ones as fractures. A fracture
    that is only thought of ("if a fracture is suspected, CT") makes a text uncertain that says nothing else.
    `none`: not a word about fractures or about normal bones.
    """
    lines = labelled_lines(text)
    impression = [line.whole for line in lines if line.label == "impression"]
    of_impression = _verdict_of(impression)
    return of_impression if of_impression != "none" else _verdict_of([line.whole for line in lines])


def _verdict_of(lines: Iterable[str]) -> Verdict:
    clauses = list(_clauses("\n".join(lines)))
    said = {said for clause in clauses for said in _mentions(clause)}
    for answer in ("positive", "uncertain", "negative"):
        if answer in said:
            return answer
    if any(_says_normal(clause) for clause in clauses):
        return "negative"
    return "uncertain" if "supposed" in said else "none"


def _clauses(text: str) -> Iterator[str]:
    """Yield the clauses of a text, without the phrases that only look like a mention or a negation."""
    text = re.sub(r"\bcan(?:'t| not)\b", "cannot", text.lower().replace("\u2019", "'"))
    text = re.sub(r"n't\b", " not", text)
    text = re.sub(r"\?(?=\s|$)", " query.", text).replace("?", " query ").replace(":", " : ")
    text = re.sub(r'[*_#>`|"{}\[\]()]+', " ", text)
    for sentence in re.split(r"[.;!](?=\s|$)|\n(?=\s*[^a-z\s])", text):
        for clause in _ENDS.split(" ".join(sentence.replace(",", " , ").split())):
            yield _PSEUDO.sub(_without_fracture, _NOT_FRACTURES.sub("_", clause))


def _without_fracture(pseudo: re.Match[str]) -> str:
    """What a phrase leaves behind: "no displacement of" nothing, "no fracture or displacement of" itself."""
    return pseudo[0] if _FRACTURE["fracture"].search(pseudo[0]) else "_"


def _says_normal(clause: str) -> bool:
    if not _NORMAL.search(clause):
        return False
    rest = _NOT_BONES.sub("_", clause)
    return rest == clause or bool(_BONES.search(rest))


def _mentions(clause: str) -> Iterator[_Said]:
    before, after = _cues(clause, _BEFORE), _cues(clause, _AFTER)
    for mention in before:
        if mention.kind == "fracture":
            yield _said(
                clause,
                mention,
                [cue for cue in before if cue.kind != "fracture" and cue.end <= mention.start],
                [cue for cue in after if cue.kind != "fracture" and cue.start >= mention.end],
            )


def _cues(clause: str, patterns: dict[str, re.Pattern[str]]) -> list[_Cue]:
    """Return mentions and cues in order; of two that overlap, the one that starts first, or is longer."""
    found = [
        _Cue(kind, *match.span()) for kind, pattern in patterns.items() for match in pattern.finditer(clause)
    ]
    kept: list[_Cue] = []
    for cue in sorted(found, key=lambda cue: (cue.start, -cue.end)):
        if not kept or cue.start >= kept[-1].end:
            kept.append(cue)
    return kept


def _said(clause: str, mention: _Cue, before: list[_Cue], after: list[_Cue]) -> _Said:
    """How a clause speaks of one fracture: old, only thought of, denied, doubted, or there."""
    old = [cue for cue in before if cue.kind == "old"]
    if old and not _BREAKS_OLD.search(clause[old[-1].end : mention.start]):
        return "negative"
    reaching = [cue for cue in after if not _BREAKS_BACK.search(clause[mention.end : cue.start])]
    if any(cue.kind == "old" for cue in reaching):
        return "negative"
    if any(cue.kind == "supposed" for cue in before):
        return "supposed"
    near = [cue for cue in before if cue.kind in ("denied", "doubted")]
    denied = _denied(clause, near, mention)
    if denied and "," not in clause[near[-1].end : mention.start]:
        return "negative"
    kinds = {cue.kind for cue in reaching[:1]}
    if "doubted" in kinds or (near and not denied and near[-1].kind == "doubted"):
        return "uncertain"
    return "negative" if denied or "denied" in kinds else "positive"


def _denied(clause: str, near: list[_Cue], mention: _Cue) -> bool:
    """Whether the nearest cue before a mention denies it, or denies a doubt about it: "no suspicion of"."""
    if not near:
        return False
    if near[-1].kind == "denied":
        listed = clause[near[-1].end : mention.start]
        return not (_LIST_ENDS.search(listed) and _LOCATED.match(clause, mention.end))
    if len(near) == 1 or near[-2].kind != "denied":
        return False
    between = clause[near[-2].end : near[-1].start]
    return "," not in between and len(between.split()) <= REACH_TO_A_DOUBT
