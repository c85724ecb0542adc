"""Names of folders become labels."""

import pytest

from fracray.radiographs.labels import label_of_folder


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Fractured", 1),
        ("FRACTURE", 1),
        ("positive", 1),
        ("Broken", 1),
        ("1", 1),
        ("Non-Fractured", 0),
        ("non_fractured", 0),
        ("not fractured", 0),
        ("No Fracture", 0),
        ("Not-Broken", 0),
        ("normal", 0),
        ("Healthy", 0),
        ("sound", 0),
        ("Negative", 0),
        ("0", 0),
    ],
)
def test_known_names(name: str, label: int) -> None:
    assert label_of_folder(name) == label


@pytest.mark.parametrize("name", ["abnormal", "masks", "hand", "fractured hand", "", "10"])
def test_other_names_say_nothing(name: str) -> None:
    assert label_of_folder(name) is None
