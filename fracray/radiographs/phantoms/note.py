"""What every page that shows a figure from phantoms says."""

from collections.abc import Iterable

from fracray.location import Location

PHANTOM_NOTE = (
    "Phantoms, synthetic radiographs: figures from them show that the machinery works and say nothing about "
    "patients."
)


def are_phantoms(uris: Iterable[str]) -> bool:
    """Return whether all files lie in class folders beside a phantom set's `truth.parquet`."""
    folders = {Location.of(uri).parent.parent for uri in uris}
    return bool(folders) and all((folder / "truth.parquet").is_file for folder in folders)
