import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracray.errors import LocationError
from fracray.location import Location
from tests.s3 import s3_server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://radiographs"


@pytest.fixture(params=["path", "file", "s3", "fsspec"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Location:
    places = {
        "path": str(tmp_path),
        "file": tmp_path.as_uri(),
        "s3": f"{bucket}/{tmp_path.name}",
        "fsspec": f"memory://{tmp_path}",
    }
    return Location.of(places[request.param])


def test_files_are_written_found_read_and_deleted_alike_everywhere(folder: Location) -> None:
    first, second = folder / "a" / "one.bin", folder / "a" / "deep" / "two.bin"
    assert (folder / "a").names() == []
    first.write_whole(lambda file: file.write(b"one"))
    second.write_whole(lambda file: file.write(b"two"))
    assert folder.files() == ["a/deep/two.bin", "a/one.bin"]
    assert (folder / "a").names() == ["deep", "one.bin"]
    assert (first.is_file, (folder / "a").is_folder, (folder / "b").is_file) == (True, True, False)
    assert (second.info().size, second.read_bytes()) == (3, b"two")
    assert second.parent / "two.bin" == second
    first.write_whole(lambda file: file.write(b"other"), replace=False)
    assert first.read_bytes() == b"one"
    first.write_whole(lambda file: file.write(b"other"))
    assert first.read_bytes() == b"other"
    first.delete()
    assert folder.files() == ["a/deep/two.bin"]
    with pytest.raises(LocationError, match=r"one\.bin: cannot be read"):
        first.read_bytes()


def test_names_with_blanks_and_accents_work_everywhere(folder: Location) -> None:
    place = folder / "left wrist" / "Bébé 1.bin"
    place.write_whole(lambda file: file.write(b"one"))
    assert folder.files() == ["left wrist/Bébé 1.bin"]
    assert (folder / "left wrist").names() == ["Bébé 1.bin"]
    assert (place.is_file, place.read_bytes()) == (True, b"one")


def test_a_writer_that_fails_leaves_the_old_file(folder: Location) -> None:
    place = folder / "figures.bin"
    place.write_whole(lambda file: file.write(b"old"))

    def fails(file: object) -> None:
        file.write(b"half of the new")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(LocationError, match="No space left"):
        place.write_whole(fails)
    assert place.read_bytes() == b"old"


def test_an_unknown_scheme_and_a_missing_bucket_say_so(bucket: str) -> None:
    with pytest.raises(LocationError, match="use a path, file:// or s3://"):
        Location.of("carrier-pigeon://coop/radiograph.png").info()
    with pytest.raises(LocationError, match=r"elsewhere/file\.bin: cannot be read"):
        Location.of("s3://elsewhere/file.bin").read_bytes()


@given(st.text("abc.é ", min_size=1, max_size=8).filter(lambda name: name.strip(" .")))
def test_names_join_before_the_options_of_a_uri(name: str) -> None:
    place = Location.of("s3://bucket/folder?region=eu-west-1") / name
    assert place.uri == f"s3://bucket/folder/{name}?region=eu-west-1"
    assert place.parent.uri == "s3://bucket/folder?region=eu-west-1"


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.of("features").uri == os.path.join(tmp_path, "features")
