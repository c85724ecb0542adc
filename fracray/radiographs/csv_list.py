"""A CSV that lists radiographs, as a source of the manifest."""

import csv
from collections.abc import Iterator, Mapping
from io import StringIO

from fracray.errors import LocationError, ManifestError
from fracray.location import Location
from fracray.radiographs.labels import label_of_folder
from fracray.radiographs.rows import Row


def rows_of_csv(source: Location, given: Mapping[str, int]) -> Iterator[Row]:
    """Yield a row for every line: `path` (relative to the CSV, or a URI), `label`, and `group` if given.

    `given` are labels of further names, by `plain_name`. Raises `ManifestError` naming the line.
    """
    try:
        text = source.read_bytes().decode("utf-8-sig")
        lines = csv.DictReader(StringIO(text, newline=""))
        missing = {"path", "label"} - set(lines.fieldnames or ())
        if missing:
            raise ManifestError(
                f"{source}: column '{min(missing)}' is missing; the first line reads path,label or "
                f"path,label,group"
            )
        for line in lines:
            yield _row_of_line(source, lines.line_num, line, given)
    except (LocationError, UnicodeDecodeError, csv.Error):
        raise ManifestError(f"{source}: not a readable CSV in UTF-8; save it again as such") from None


def _row_of_line(
    source: Location, number: int, line: Mapping[str, str | None], given: Mapping[str, int]
) -> Row:
    path, label_name, group = ((line.get(name) or "").strip() for name in ("path", "label", "group"))
    if not path:
        raise ManifestError(f"{source}, line {number}: the path is empty; fill it or remove the line")
    label = label_of_folder(label_name, given)
    if label_name and label is None:
        raise ManifestError(f"{source}, line {number}: label '{label_name}' is not known; write 1 or 0")
    uri = path if "://" in path or path.startswith("/") else str(source.parent / path)
    return Row(uri, label, given_group=group or None)
