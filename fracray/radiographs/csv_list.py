"""A CSV that lists radiographs, as a source of the manifest."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO

from fracray.errors import LocationError, ManifestError
from fracray.location import Location
from fracray.radiographs.labels import label_of_folder
from fracray.radiographs.rows import PROJECTIONS, REGIONS, Row, joined_projections

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": None}


@dataclass(frozen=True)
class Line:
    """One line of a CSV: `where` it stands, for messages, and its values without blanks around them."""

    where: str
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def refused(self, column: str, remedy: str) -> ManifestError:
        """Return the error for a value that `column` can't hold."""
        return ManifestError(f"{self.where}: {column} '{self[column]}' is not known; {remedy}")


def read_lines(place: Location) -> tuple[frozenset[str], list[Line]]:
    """Return the names of the columns, and the lines, of a CSV in UTF-8; raises `ManifestError`."""
    try:
        lines = csv.DictReader(StringIO(place.read_bytes().decode("utf-8-sig"), newline=""))
        # Values beyond the last column have no name; those that a short line lacks are None.
        read = [
            Line(
                f"{place}, line {lines.line_num}",
                {name: (value or "").strip() for name, value in line.items() if isinstance(name, str)},
            )
            for line in lines
        ]
    except (LocationError, UnicodeDecodeError, csv.Error):
        raise ManifestError(f"{place}: not a readable CSV in UTF-8; save it again as such") from None
    return frozenset(lines.fieldnames or ()), read


def rows_of_csv(source: Location, given: Mapping[str, int]) -> Iterator[Row]:
    """Yield a row for every line: `path` (relative to the CSV, or a URI), `label`, and what else it says.

    Other columns may be `group`, and `region`, `projection`, `several_views` and `hardware` as in schema
    MANIFEST; an empty value is not known. `given` are labels of further names, by `plain_name`. Raises
    `ManifestError` naming the line.
    """
    columns, lines = read_lines(source)
    missing = {"path", "label"} - columns
    if missing:
        raise ManifestError(
            f"{source}: column '{min(missing)}' is missing; the first line reads path,label or "
            f"path,label,group"
        )
    for line in lines:
        path = line["path"]
        if not path:
            raise ManifestError(f"{line.where}: the path is empty; fill it or remove the line")
        label = label_of_folder(line["label"], given)
        if line["label"] and label is None:
            raise line.refused("label", "write 1 or 0")
        uri = path if "://" in path or path.startswith("/") else str(source.parent / path)
        yield Row(
            uri,
            label,
            region=_region(line),
            projection=_projection(line),
            several_views=_truth(line, "several_views"),
            hardware=_truth(line, "hardware"),
            given_group=line["group"] or None,
        )


def _region(line: Line) -> str | None:
    region = line["region"].casefold()
    if region and region not in REGIONS:
        raise line.refused("region", f"write {', '.join(REGIONS)} or nothing")
    return region or None


def _projection(line: Line) -> str | None:
    shown = {part.strip() for part in line["projection"].casefold().split("+")} - {""}
    if not shown <= set(PROJECTIONS):
        raise line.refused("projection", f"write {', '.join(PROJECTIONS)}, several joined by +, or nothing")
    return joined_projections(shown)


def _truth(line: Line, column: str) -> bool | None:
    try:
        return _TRUTH[line[column].casefold()]
    except KeyError:
        raise line.refused(column, "write 1, 0 or nothing") from None
