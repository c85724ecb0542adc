import re

from hypothesis import given, settings
from hypothesis import strategies as st

from fracray.captions import verdict_terms as terms
from fracray.captions.mask import mask_verdict
from fracray.captions.verdict import verdict
from tests.captions.test_verdict import SENTENCES

KEPT = ["distal", "radius", "wrist", "swollen", "soft", "tissue", "angulated", "transverse", "lucent", "line"]
CUES = [
    phrase.replace("*", "").replace("~ ", "").replace(" $", "")
    for table in (
        terms.FRACTURES, terms.DENIED_BEFORE, terms.DENIED_AFTER, terms.DOUBTED_BEFORE, terms.DOUBTED_AFTER,
        terms.SUPPOSED, terms.OLD_BEFORE, terms.OLD_AFTER, terms.NORMAL,
    )
    for phrase in table
]  # fmt: skip

TEXT = """Region: wrist, PA view.
Bones: broken cortex, radius, distal third.
Cortex: no break at the volar side.
Soft tissue: swollen, not normal.
Impression: Fracture of the
distal radius."""


def test_the_impression_and_the_words_of_a_verdict_go_and_the_others_stay() -> None:
    assert mask_verdict(TEXT) == (
        "Region: wrist, PA view.\nBones: cortex, radius, distal third.\nCortex: at the volar side.\n"
        "Soft tissue: swollen, ."
    )


def test_sound_and_broken_bones_look_alike_once_masked() -> None:
    assert mask_verdict("Cortex: smooth.\nImpression: No fracture seen.") == "Cortex: ."
    assert mask_verdict("Cortex: broken.\nImpression: Fracture.") == "Cortex: ."


def test_the_impression_of_json_goes() -> None:
    assert mask_verdict('{"Bones": "radius", "Impression": "Colles of the wrist"}') == "Bones: radius"


def test_sentences_have_no_verdict_once_masked() -> None:
    left = {row["sentence"]: mask_verdict(row["sentence"]) for row in SENTENCES}
    assert {sentence: masked for sentence, masked in left.items() if verdict(masked) != "none"} == {}
    assert {masked for masked in left.values() if mask_verdict(masked) != masked} == set()


def test_other_words_of_sentences_stay_in_order() -> None:
    for row in SENTENCES:
        words = iter(re.findall(r"\w+", row["sentence"]))
        left = re.findall(r"\w+", mask_verdict(row["sentence"]))
        assert all(word in words for word in left), row["sentence"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CUES) | st.sampled_from(KEPT), st.sampled_from([" ", ", ", ". ", "\n"]))
    )
)
def test_terms_in_any_order_leave_no_verdict_and_the_other_words(parts: list[tuple[str, str]]) -> None:
    masked = mask_verdict("".join(word + gap for word, gap in parts))
    assert verdict(masked) == "none"
    assert mask_verdict(masked) == masked
    left = [word for word in masked.replace(",", " ").replace(".", " ").split() if word in KEPT]
    assert left == [word for word, _ in parts if word in KEPT]


def test_every_term_loses_a_word() -> None:
    assert [cue for cue in CUES if mask_verdict(cue) == cue] == []


@settings(deadline=None)
@given(st.text(max_size=200) | st.text(alphabet='no impresin:{}"\n,_*', max_size=40))
def test_masking_any_text_again_changes_nothing(text: str) -> None:
    masked = mask_verdict(text)
    assert mask_verdict(masked) == masked
    assert verdict(masked) == "none"
