"""Which label the name of a folder, or the label column of a CSV, stands for."""

import re
from collections.abc import Mapping

_NAMES = {
    1: "fractured fracture fractures with_fracture positive pos broken yes true 1",
    0: "non_fractured non_fracture not_fractured no_fracture no_fractures without_fracture unfractured "
    "normal healthy sound intact negative neg not_broken unbroken no false 0",
}


def label_of_folder(name: str, given: Mapping[str, int] | None = None) -> int | None:
    """Return 1 for fractured, 0 for not fractured, None for a name that says neither.

    `given` are labels of further names, by `plain_name`; they count first. Case, blanks, hyphens and
    underscores do not count: `Non-Fractured` and `non_fractured` are the same. `abnormal` is not among the
    names, since it can be arthrosis or metalwork as well.
    """
    if given and plain_name(name) in given:
        return given[plain_name(name)]
    for label, names in _NAMES.items():
        if plain_name(name) in map(plain_name, names.split()):
            return label
    return None


def plain_name(name: str) -> str:
    """Return `name` in lower case without blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())
