"""Sentences in the manner of reports, written for these tests: `tune` is what the rules were made on."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fracray.captions.verdict import verdict

with (Path(__file__).parent / "verdict_sentences.csv").open(newline="", encoding="utf-8") as file:
    SENTENCES = list(csv.DictReader(file))


@pytest.mark.parametrize(("split", "least", "number"), [("tune", 0.97, 180), ("held", 0.9, 40)])
def test_verdicts_of_sentences(split: str, least: float, number: int) -> None:
    sentences = [row for row in SENTENCES if row["split"] == split]
    wrong = [
        f"{row['sentence']} {row['expected']}, read as {verdict(row['sentence'])}"
        for row in sentences
        if verdict(row["sentence"]) != row["expected"]
    ]
    assert len(sentences) >= number
    assert 1 - len(wrong) / len(sentences) >= least, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bones: a fracture of the radius was looked for.\nImpression: No fracture seen.", "negative"),
        ("Cortex: intact\nImpression: Fracture of the radius.", "positive"),
        ("Bones: broken cortex, radius, distal third.\nLines: none.", "positive"),
        ("Bones: smooth.\nCortex: no break.\nImpression: Swelling of the soft tissues.", "negative"),
        ("Impression:\n- No dislocation\n- Fracture of the ulna", "positive"),
        ("Impression: No evidence of a\nfracture", "negative"),
        ('{"cortex": "fracture", "impression": "No fracture seen."}', "negative"),
        ('{"region": "wrist", "impression": "Fracture of the rad', "positive"),
        ("**Impression:** **No** fracture.\n\nA model may overlook a fracture.", "negative"),
        ("Impression: No fracture.\nRecommendation: CT if a fracture is suspected.", "negative"),
    ],
)
def test_the_impression_decides_and_a_silent_one_leaves_the_rest(text: str, expected: str) -> None:
    assert verdict(text) == expected


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_verdict(text: str) -> None:
    assert verdict(text) in ("positive", "negative", "uncertain", "none")


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["no", "not", ",", "or", "fracture", "cannot", "~", "$", "be", "is"]), max_size=40
    )
)
def test_any_order_of_cues_has_a_verdict(words: list[str]) -> None:
    assert verdict(" ".join(words)) in ("positive", "negative", "uncertain", "none")
