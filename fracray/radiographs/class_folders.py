"""A folder whose folders are named for a label, as a source of the manifest."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from fracray.errors import ManifestError
from fracray.location import Location
from fracray.radiographs.labels import label_of_folder, plain_name
from fracray.radiographs.rows import Row

_log = logging.getLogger(__name__)

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def visible_files(folder: Location) -> Iterator[PurePosixPath]:
    """Yield the paths below `folder` without hidden files and those that systems leave behind, sorted."""
    for path in map(PurePosixPath, folder.files()):
        if not any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in path.parts):
            yield path


def rows_of_folders(source: Location, given: Mapping[str, int]) -> Iterator[Row]:
    """Yield a row for every file below a folder whose name stands for a label; the nearest one counts.

    `given` are labels of further names, by `plain_name`. Files elsewhere are logged and left out. Raises
    `ManifestError` when there is no such folder, or none of a given name.
    """
    outside: dict[str, int] = defaultdict(int)
    labels_seen = set()
    used = set()
    for path in visible_files(source):
        named = [(plain_name(part), label_of_folder(part, given)) for part in reversed(path.parts[:-1])]
        folder, label = next((pair for pair in named if pair[1] is not None), ("", None))
        if label is None:
            outside[str(path.parent)] += 1
            continue
        used.add(folder)
        labels_seen.add(label)
        yield Row(str(source / str(path)), label)
    names = ", ".join(f"'{name}' ({count})" for name, count in sorted(outside.items())[:10])
    for folder in set(given) - used:
        raise ManifestError(
            f"{source}: no file in a folder '{folder}', which was given a label; check its name"
        )
    if not labels_seen:
        raise ManifestError(
            f"{source}: no files in folders such as Fractured and Non-Fractured; name the folders so or say "
            f"which folder has which label (files found in: {names or 'none'})"
        )
    if outside:
        _log.warning("%s: left out files in folders that stand for no label: %s", source, names)
