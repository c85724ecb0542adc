import pytest

from fracray.captions.findings import parse_findings
from fracray.captions.tiny.findings_text import write_findings
from fracray.captions.verdict import verdict
from fracray.radiographs.phantoms import make_phantom


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("fractured", [True, False])
def test_written_findings_are_read_back(seed: int, fractured: bool) -> None:
    truth = make_phantom(seed, fractured=fractured, long_side=64).truth
    for wording in range(4):
        text = write_findings(truth, wording)
        assert parse_findings(text).status == "ok"
        assert parse_findings(text).region.startswith(truth.region)
        assert verdict(text) == ("positive" if fractured else "negative")


def test_wordings_differ_but_are_the_same_for_a_seed() -> None:
    truth = make_phantom(3, fractured=True, long_side=64).truth
    assert len({write_findings(truth, seed) for seed in range(12)}) > 1
    assert write_findings(truth, 5) == write_findings(truth, 5)
