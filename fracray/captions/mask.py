"""A caption without its verdict: what the other words are worth is measured on it."""

import re

from fracray.captions.findings import labelled_lines

_WORDS = (
    # a fracture, or none
    r"[\w-]*fractur[\w-]*", "fxs?", r"fra(?:tur|tcur|cur|ctre)\w*", r"br(?:ea|o)k\w*", r"buckl\w*", "torus",
    "greenstick", r"avuls\w*", "hairline", "salter-harris", r"disrupt\w*", r"breach\w*", r"discontinu\w*",
    r"continuous", r"interrupt\w*", "step[- ]off", r"(?:ab)?normal\w*", "unremarkable", "intact", "nad",
    "smooth", r"patholog\w*", r"injur\w*", r"traum\w*", "positive", "negative", "present",
    # denied
    "no", "not", r"\w+n['\u2019]t", "none", "nil", "nor", "unbroken",
    "neither", "never", "without", "cannot", r"absen\w*", r"lack\w*", "free", "nothing", "devoid",
    r"exclu\w*", r"rul\w* out", r"fail\w*", "unable", r"den(?:y|ies|ied)", "false", "true", r"mimick\w*",
    r"simulat\w*", "rather than", "instead of", "mistaken for", "yes",
    # doubted or only thought of
    r"(?:un|most )?likely", r"possib\w*", r"probab\w*", r"suspici\w*", r"suspect\w*", r"question\w*",
    "equivocal", "may", "might", "could", "should", "if", r"concern\w*", "worrisome", r"suggest\w*",
    r"(?:un)?certain\w*", "query", r"doubt\w*", r"potential\w*", "perhaps", "presumed", "indeterminate",
    "inconclusive", "unclear", "unsure", "worrying", "versus", "vs", "difficult", r"assess\w*",
    r"evaluat\w*", r"consider\w*", "or art[ei]fact", r"look\w* for", r"correlat\w*", "follow-up for",
    "in the event of", "in case of", r"confirm\w*", r"detect\w*",
    # old
    "old", r"\w*heal\w*", r"previous\w*", "prior", "remote", "chronic", "former", r"\w*united",
    r"consolidat\w*", "history", "status post", r"long-?standing", "well-healed", r"sequela\w*",
)  # fmt: skip
_VERDICT_WORD = re.compile(rf"(?<![^\W_])(?<!-)(?:{'|'.join(_WORDS)})(?![^\W_]|-)|\?", re.IGNORECASE)


def mask_verdict(text: str) -> str:
    """Remove the impression, and every word elsewhere that says or denies a fracture, doubts it or dates it.

    What is left stays in order, one line for each line. `verdict` of it is `none`; masking it again changes
    nothing. No text raises.
    """
    while (masked := _mask_once(text)) != text:  # without a word, a line may read as an impression
        text = masked
    return masked


def _mask_once(text: str) -> str:
    lines = [line.whole for line in labelled_lines(text) if line.label != "impression"]
    kept = [" ".join(_VERDICT_WORD.sub(" ", line).split()) for line in lines]
    return "\n".join(line for line in kept if line)
