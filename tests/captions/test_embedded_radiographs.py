"""The captioner of real radiographs that ships: what can be held without a real radiograph."""

from fracray.captions.captioner import prepare
from fracray.captions.choose import model_source, open_captioner
from fracray.captions.findings import parse_findings
from fracray.config import CaptionSettings
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.rows import REGIONS

SETTINGS = CaptionSettings(model="embedded-radiographs")


def test_it_answers_in_labelled_lines_of_its_own_vocabulary() -> None:
    captioner = open_captioner(SETTINGS)
    pictures = [prepare(make_phantom(700_000 + i).pixels, captioner.image_size) for i in range(16)]
    answers = captioner.caption(pictures)
    assert [answer.status for answer in answers] == ["ok"] * len(answers)
    for answer in answers:
        findings = parse_findings(answer.text or "")
        assert findings.status == "ok"
        assert findings.region.partition(",")[0] in REGIONS


def test_it_is_small_and_its_card_says_where_it_comes_from() -> None:
    folder = model_source(SETTINGS)
    assert not isinstance(folder, str)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for stated in ("CC BY 4.0", "not a medical", "2459 radiographs", "region right"):
        assert stated in card
