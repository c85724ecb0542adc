"""The commands that answer, in this process and with a small bundle; the service itself is a stand-in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fracray.bundle import shipped
from fracray.bundle.bundle import load_bundle, save_bundle
from fracray.bundle.reliability import reliability
from fracray.cli import predict, serve
from fracray.config import ServingSettings
from fracray.errors import BundleError, UsageError
from fracray.serving.service import Service
from tests.bundle.conftest import NOTE, small_config, small_pipeline
from tests.serving.conftest import png

APP = typer.Typer()
APP.command()(predict.predict)
APP.command()(serve.serve)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two bundles that differ in their ids: one that ships, and one of the user's own."""
    config = small_config()
    pipeline = small_pipeline(config)
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("shipped", "own"):
        save_bundle(
            folder / name, pipeline, config, training_ids=[name], data_kind="phantoms", data_note=NOTE
        )
    return {name: folder / name for name in ("shipped", "own")}


@pytest.fixture(autouse=True)
def shipped_folder(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", bundles["shipped"])


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    path = tmp_path / "knee.png"
    path.write_bytes(png())
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that the stand-in for the service was asked to serve."""
    folders: list[Path] = []

    @contextmanager
    def stand_in(bundle: Path, _: ServingSettings) -> Iterator[Service]:
        folders.append(bundle)
        yield Service("http://127.0.0.1:1")

    monkeypatch.setattr(serve, "serve_bundle", stand_in)
    monkeypatch.setattr(Service, "wait", lambda _: None)
    return folders


def test_predict_takes_the_shipped_bundle_unless_one_is_named(
    bundles: dict[str, Path], radiograph: Path
) -> None:
    assert load_bundle(bundles["shipped"]).id in run("predict", radiograph)
    named = run("predict", radiograph, "--bundle", bundles["own"])
    assert load_bundle(bundles["own"]).id in named
    assert f"{radiograph}: " in named


def test_predict_says_what_data_the_bundle_is_from_and_whether_it_was_evaluated(radiograph: Path) -> None:
    said = run("predict", radiograph)
    assert f"{reliability('phantoms', None)} {NOTE}" in said
    reply = json.loads(run("predict", radiograph, "--json"))
    assert (reply["data_kind"], reply["reliability"]) == ("phantoms", reliability("phantoms", None))


def test_serve_takes_the_shipped_bundle_unless_one_is_named(
    bundles: dict[str, Path], served: list[Path]
) -> None:
    assert str(bundles["shipped"]) in run("serve")
    assert str(bundles["own"]) in run("serve", "--bundle", bundles["own"])
    assert served == [bundles["shipped"], bundles["own"]]


@pytest.mark.parametrize("command", [("predict", "knee.png"), ("serve",)])
def test_a_missing_shipped_bundle_is_told(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "absent")
    with pytest.raises(BundleError, match="ships with fracray is missing"):
        run(*command)


@pytest.mark.parametrize(
    ("images", "written"),
    [(["knee.png"], "knee.png"), (["a.png", "b.dcm"], "a.png b.dcm"), ([], "RADIOGRAPH")],
)
def test_a_bundle_in_a_radiographs_place_is_told_what_to_write_now(
    images: list[str], written: str, bundles: dict[str, Path]
) -> None:
    own = bundles["own"]
    with pytest.raises(UsageError) as caught:
        run("predict", own, *images)
    message = str(caught.value)
    assert message.endswith(f"write: fracray predict {written} --bundle {own}")
    assert "\n" not in message


def test_each_line_of_json_names_its_file_and_heat_maps_of_one_name_are_both_kept(
    radiograph: Path, tmp_path: Path
) -> None:
    other, broken = tmp_path / "second" / "knee.png", tmp_path / "broken.png"
    other.parent.mkdir()
    other.write_bytes(png(3))
    broken.write_bytes(b"no picture")
    result = CliRunner().invoke(
        APP,
        ["predict", str(radiograph), str(broken), str(other), "--json", "--overlays", str(tmp_path / "maps")],
    )
    assert isinstance(result.exception, predict.SomeRadiographsFailedError)
    first, failed, last = (json.loads(line) for line in result.stdout.splitlines())
    assert [first["file"], failed["file"], last["file"]] == [str(radiograph), str(broken), str(other)]
    assert set(failed) == {"file", "error"}
    assert first["overlay"] != last["overlay"]
    assert {Path(first["overlay"]), Path(last["overlay"])} == set((tmp_path / "maps").iterdir())


def test_serve_refuses_settings_that_the_bundle_has_fixed(served: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"serve takes serving\.\* only"):
        run("serve", "--set", "explain.method=layercam")
    assert served == []
    run("serve", "--set", "serving.port=8123", "--profile", "gpu")
    assert len(served) == 1
