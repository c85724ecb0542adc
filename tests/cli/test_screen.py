"""What a job's log says while long work runs."""

import pytest

from fracray.cli import screen


def test_the_time_left_is_that_of_the_work_and_not_of_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    with screen.progress("extract") as report:
        report(10, 1000)
        report(110, 1000)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "extract: 10 of 1000"
    assert second == "extract: 110 of 1000 10.0 per second, 89 s left"
