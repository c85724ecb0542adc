"""Noticing a captioner that is stuck."""

from collections import Counter

RUN = 4
"""Words in a run: long enough that a list of bones does not repeat one by accident."""


def is_repetitive(text: str, most: int = 4) -> bool:
    """Whether some run of four words appears more than `most` times, or one word fills half of 20 words or
    more."""
    words = text.lower().split()
    runs = Counter(tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    if runs and max(runs.values()) > most:
        return True
    return len(words) >= 20 and max(Counter(words).values()) > len(words) / 2
