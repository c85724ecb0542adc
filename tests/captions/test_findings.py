import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fracray.captions.findings import LABELS, parse_findings

MARKDOWN = """Here is a structured description of the radiograph.

## **Body part:** Left wrist
**View:** PA
- **Bony structures:** radius and ulna of normal shape
- **Cortex:** step at the dorsal radius
* __Lines__: transverse lucent line
1. Alignment: dorsal tilt
2) **Joint spaces** - preserved
### Soft tissues
Swollen over the dorsum
### Hardware
None

## Conclusion
Fracture of the distal radius.

This description was written by a model. A fracture must be confirmed by a radiologist.
"""

WINDOWS = "Region: wrist, PA\r\nBones: smooth\r\nCortex: intact\r\nLines: none\r\nImpression: No fracture\r\n"

PARAGRAPH = (
    "Region: ankle, lateral view. Bones: fibula widened. Cortex: step at the fibula. "
    "Lines: oblique lucent line; Soft tissue: swollen. Impression: Fracture of the fibula. Distal third."
)

TABLE = """| Label | Finding |
|---|---|
| **Region** | hand, oblique |
| Bones | smooth |
| Cortex | intact |
| Soft tissue | normal |
| Impression | no fracture |
"""

FENCED = """Sure:
```json
{"Body_Part": "knee", "PROJECTION": "AP",
 "findings": {"Bones": ["femur smooth", "tibia smooth"], "cortex": "intact", "soft_tissues": null},
 "lines": "none",
 "impression": "No fracture."}
```
Let me know if you need more."""

CUT_JSON = (
    '{"region": "elbow, lateral", "bones": "smooth", "cortex": "step at the radial neck", "lines": ["fai'
)


@pytest.mark.parametrize(
    ("text", "status", "fields"),
    [
        (MARKDOWN, "ok", {
            "region": "Left wrist PA", "bones": "radius and ulna of normal shape",
            "cortex": "step at the dorsal radius", "lines": "transverse lucent line",
            "displacement": "dorsal tilt", "joints": "preserved", "devices": "None",
            "soft_tissue": "Swollen over the dorsum",
            "impression": "Fracture of the distal radius.",
        }),
        (WINDOWS, "ok", {"region": "wrist, PA", "lines": "none", "impression": "No fracture"}),
        (PARAGRAPH, "ok", {
            "region": "ankle, lateral view.", "lines": "oblique lucent line;", "soft_tissue": "swollen.",
            "impression": "Fracture of the fibula. Distal third.",
        }),
        (TABLE, "ok", {"region": "hand, oblique", "soft_tissue": "normal", "impression": "no fracture"}),
        (FENCED, "ok", {
            "region": "knee AP", "bones": "femur smooth; tibia smooth", "cortex": "intact", "soft_tissue": "",
            "lines": "none", "impression": "No fracture.",
        }),
        (CUT_JSON, "partial", {
            "region": "elbow, lateral", "cortex": "step at the radial neck", "lines": "fai", "impression": "",
        }),
        ("Region: hand\nBones: smo", "partial", {"region": "hand", "bones": "smo"}),
        ("Region\uff1a hand\nJoints\uff1anarrow", "partial", {"region": "hand", "joints": "narrow"}),
        ("Bones:\n- Radius: transverse line\n- Ulna: smooth\n", "partial", {
            "bones": "Radius: transverse line Ulna: smooth",
        }),
        ("Impression:\n\n1. Fracture of the ulna.\n\n2. No dislocation.", "partial", {
            "impression": "Fracture of the ulna. No dislocation.",
        }),
        ("Displacement: 3. Angulation: 12. **Joints**: narrow", "partial", {
            "displacement": "3.", "angulation": "12.", "joints": "narrow",
        }),
        ("Bones: radius\nOther: none\nBones: ulna", "partial", {"bones": "radius ulna", "other": "none"}),
        ("Displacement: 4 mm\nAlignment: poor", "partial", {"displacement": "4 mm"}),
        ("Bones (shape): smooth\nImpression/Conclusion: normal", "partial", {
            "bones": "smooth", "impression": "normal",
        }),
        ("Impression: No fracture.\nRecommendation: CT if a fracture is suspected.", "partial", {
            "impression": "No fracture.",
        }),
        ('{"bones": {"radius": "step", "ulna": "smooth"}}', "partial", {
            "bones": "radius: step ulna: smooth",
        }),
        ("The hand in two views: nothing to see.", "unparsed", {}),
        ('{"answer": "no fracture"}', "unparsed", {}),
        ("", "unparsed", {}),
    ],
)  # fmt: skip
def test_findings_are_read_from_the_forms_that_models_use(
    text: str, status: str, fields: dict[str, str]
) -> None:
    findings = parse_findings(text)
    assert findings.status == status
    assert {name: getattr(findings, name) for name in fields} == fields
    assert findings.text == text


def test_four_labels_beside_the_impression_make_an_answer_ok() -> None:
    four = "Region: hand\nBones: smooth\nCortex: intact\nLines: none\n"
    assert parse_findings(four + "Impression: normal").status == "ok"
    assert parse_findings(four).status == "partial"
    assert parse_findings(four, impression_asked=False).status == "ok"
    three = four.replace("Lines: none\n", "Impression: normal\n")
    assert parse_findings(three, impression_asked=False).status == "partial"


def test_a_label_without_text_does_not_count() -> None:
    text = "Region: hand\nBones:\nCortex: intact\nLines: none\nImpression: normal"
    assert parse_findings(text).status == "partial"


def _json(fields: dict[str, str]) -> str:
    return "```json\n" + json.dumps({name.title().replace(" ", "_"): text for name, text in fields.items()})


MARKUPS = {
    "plain": lambda fields: "\n".join(f"{name.capitalize()}: {text}" for name, text in fields.items()),
    "windows": lambda fields: "\r\n".join(f"{name.upper()} : {text}" for name, text in fields.items()),
    "bold": lambda fields: "\n\n".join(f"- **{name.title()}:** {text}" for name, text in fields.items()),
    "headings": lambda fields: "\n".join(f"### {name.title()}\n{text}\n" for name, text in fields.items()),
    "numbers": lambda fields: "\n".join(
        f"{number}. **{name}**: {text}" for number, (name, text) in enumerate(fields.items(), 1)
    ),
    "paragraph": lambda fields: ". ".join(f"{name}: {text}" for name, text in fields.items()),
    "table": lambda fields: "\n".join(f"| {name} | {text} |" for name, text in fields.items()),
    "json": _json,
    "wrapped": lambda fields: "Of course.\n" + json.dumps({"report": fields}, indent=2) + "\nThat is all.",
}
WORDS = st.lists(
    st.sampled_from(["radius", "smooth", "3", "mm", "step-off,", "swollen", "(dorsal)", "fracture", "of"]),
    min_size=1, max_size=8,
).map(" ".join)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(LABELS), min_size=1, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(dict.fromkeys(names, WORDS))
    ),
    st.sampled_from(sorted(MARKUPS)),
)
@example({"region": "radius", "bones": "3 mm"}, "headings")
def test_findings_in_any_order_and_markup_come_back(fields: dict[str, str], markup: str) -> None:
    findings = parse_findings(MARKUPS[markup](fields))
    for name in LABELS:
        content = getattr(findings, name.replace(" ", "_"))
        assert content.rstrip(".") == fields.get(name, "")


@settings(deadline=None)
@given(st.text(max_size=300) | st.text(alphabet='{}[]":,\\\n *#|-ab', max_size=60))
def test_no_text_raises(text: str) -> None:
    findings = parse_findings(text)
    assert findings.status in ("ok", "partial", "unparsed")
    assert findings.text == text


def test_deeply_nested_json_is_no_error() -> None:
    assert parse_findings('{"bones":' * 20_000).status == "unparsed"


@pytest.mark.timeout(30)
def test_long_runs_of_marks_are_read_in_time() -> None:
    for character in ' *#|_-\n"{':
        assert parse_findings(re.sub("x", character * 50_000, "xBonesx")).status in ("unparsed", "partial")
