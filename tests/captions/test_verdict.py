import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracray.captions.verdict import verdict


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


@given(st.text(max_size=300))
def test_any_text_has_a_verdict(text: str) -> None:
    assert verdict(text) in ("positive", "negative", "uncertain", "none")
