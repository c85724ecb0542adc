import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracray.captions.findings import parse_findings, verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Impression: Fracture of the radius, distal third.", "positive"),
        ("Impression: No fracture seen.", "negative"),
        ("No evidence of a fracture.", "negative"),
        ("No evidence of an acute fracture or dislocation.", "negative"),
        ("Without fracture.", "negative"),
        ("Fracture is not seen.", "negative"),
        ("A fracture line is not visible.", "negative"),
        ("Fracture: none.", "negative"),
        ("The bones are intact.", "negative"),
        ("Normal radiograph of the hand.", "negative"),
        ("A fracture cannot be excluded.", "uncertain"),
        ("Cannot exclude a hairline fracture.", "uncertain"),
        ("Possible fracture of the scaphoid.", "uncertain"),
        ("Suspicious for a buckle fracture.", "uncertain"),
        ("Healed fracture of the ulna.", "negative"),
        ("Old fracture of the fibula, no acute fracture.", "negative"),
        ("Old fracture of the fibula. New transverse fracture of the tibia.", "positive"),
        ("No dislocation. Transverse fracture of the distal radius.", "positive"),
        ("No dislocation, but a fracture of the tibia.", "positive"),
        ("There is a comminuted fracture without displacement.", "positive"),
        ("The cortex is broken at the distal third.", "positive"),
        ("Cortical disruption of the distal fibula.", "positive"),
        ("A radiograph of the hand.", "none"),
        ("", "none"),
    ],
)
def test_verdict_of_a_sentence(text: str, expected: str) -> None:
    assert verdict(text) == expected


def test_the_impression_decides_over_what_was_considered_before() -> None:
    text = "Bones: a fracture of the radius was looked for.\nImpression: No fracture seen."
    assert verdict(text) == "negative"


def test_labelled_lines_in_markdown_are_read() -> None:
    text = "**Region:** wrist\n- Bones: cortex smooth\n* **Soft tissues**: swollen\n## Conclusion: normal"
    findings = parse_findings(text)
    assert (findings.status, findings.region, findings.bones) == ("ok", "wrist", "cortex smooth")
    assert (findings.soft_tissue, findings.impression) == ("swollen", "normal")


def test_text_below_a_label_belongs_to_it() -> None:
    assert parse_findings("Impression:\nFracture of the\nulna").impression == "Fracture of the ulna"


@pytest.mark.parametrize(
    ("text", "status"), [("A hand.", "unparsed"), ("", "unparsed"), ("Region: hand", "partial")]
)
def test_what_is_missing_shows_in_the_status(text: str, status: str) -> None:
    assert parse_findings(text).status == status


@given(st.text(max_size=300))
def test_any_text_has_a_verdict_and_findings(text: str) -> None:
    assert verdict(text) in ("positive", "negative", "uncertain", "none")
    assert parse_findings(text).status in ("ok", "partial", "unparsed")
