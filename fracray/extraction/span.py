"""Spans of image ids: how work of any size is cut into parts that fit into memory.

Ids are hashes, so spans of equal width hold about equally many of them, whatever the radiographs are.
"""

from dataclasses import dataclass

import pyarrow.compute as pc

DIGITS = 8
"""Hex digits of an id that tell spans apart."""


@dataclass(frozen=True)
class Span:
    """The ids from `lower` on and before `upper` (None: to the last), in the order of their hex digits."""

    lower: str = ""
    upper: str | None = None

    @classmethod
    def of(cls, number: int, count: int) -> "Span":
        """Return the span `number` (0 to count - 1) of `count` spans of equal width."""
        bounds = [f"{i * 16**DIGITS // count:0{DIGITS}x}" for i in (number, number + 1)]
        return cls(bounds[0] if number else "", bounds[1] if number + 1 < count else None)

    def condition(self, column: str) -> pc.Expression:
        """Return the filter of a dataset's rows whose id in `column` lies in the span."""
        begun = pc.field(column) >= self.lower
        return begun if self.upper is None else begun & (pc.field(column) < self.upper)

    def meets(self, first: str | None, last: str | None) -> bool:
        """Whether ids between two whose digits begin with `first` and `last` may lie in the span.

        None: nothing is known of them.
        """
        if first is None or last is None:
            return True
        return last >= self.lower[:DIGITS] and (self.upper is None or first < self.upper)


EVERYTHING = Span()
