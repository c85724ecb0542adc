"""What the commands that fit and score say; the work itself is a stand-in."""

from pathlib import Path

import pytest

from fracray.cli import fitting


def test_evaluate_names_the_command_that_serves_its_bundle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "read_table", lambda *_: None)
    monkeypatch.setattr(fitting, "make_evaluation", lambda *_: {})
    fitting.evaluate(Path("mine"), "manifest.parquet")
    assert "next: fracray serve --bundle mine\n" in capsys.readouterr().out
