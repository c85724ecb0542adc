import inspect
from pathlib import Path

import numpy as np
import pytest

from fracray.captions.captioner import prepare
from fracray.captions.choose import captioner_fingerprint, captioner_image_size, open_captioner
from fracray.captions.prompt import chat_message, load_prompt
from fracray.captions.repetition import is_repetitive
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.fingerprint import image_id
from tests.captions.test_every_captioner import write_captions

FAKE = CaptionSettings(captioner="fake")


def pictures(count: int, size: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8))


def test_prepare_squeezes_and_keeps_the_mean() -> None:
    pixels = np.linspace(0, 1, 300 * 100, dtype=np.float32).reshape(300, 100)
    small = prepare(pixels, 48)
    assert small.shape == (48, 48)
    assert small.dtype == np.uint8
    assert abs(float(small.mean()) / 255 - 0.5) < 0.01
    assert np.all(np.diff(small.mean(axis=1)) > 0)


def test_fake_answers_depend_on_the_pixels_alone() -> None:
    captioner = open_captioner(FAKE)
    shown = pictures(4, captioner.image_size)
    first = captioner.caption(shown)
    assert [caption.status for caption in first] == ["ok"] * 4
    assert len({caption.text for caption in first}) == 4
    assert open_captioner(FAKE).caption(shown[::-1]) == first[::-1]


def test_no_captioner_loads_nothing_and_says_nothing() -> None:
    settings = CaptionSettings(captioner="none", model="nobody/nothing-of-this-name")
    captioner = open_captioner(settings)
    assert captioner.self_test is None
    assert captioner.fingerprint == captioner_fingerprint(settings) != captioner_fingerprint(FAKE)
    answers = captioner.caption(pictures(2, captioner_image_size(settings)))
    assert [(answer.text, answer.status) for answer in answers] == [(None, "empty")] * 2


def test_fake_refuses_a_bad_picture_alone() -> None:
    captioner = open_captioner(FAKE)
    good = pictures(1, captioner.image_size)[0]
    answers = captioner.caption([good, good.astype(np.float32)])
    assert [answer.status for answer in answers] == ["ok", "failed"]
    assert answers[1].reason


def test_replay_answers_by_image_id(tmp_path: Path) -> None:
    table = tmp_path / "captions.parquet"
    write_captions(table, ["a", "b"])
    captioner = open_captioner(CaptionSettings(captioner="replay", model=str(table)))
    shown = pictures(3, captioner.image_size)
    answers = captioner.caption(shown, ["b", "c", "a"])
    assert [answer.text for answer in answers] == ["text b", None, "text a"]
    assert [answer.status for answer in answers] == ["ok", "failed", "ok"]
    assert {answer.status for answer in captioner.caption(shown)} == {"failed"}


def test_replay_refuses_a_table_with_an_image_twice(tmp_path: Path) -> None:
    table = tmp_path / "captions.parquet"
    write_captions(table, ["a", "a"])
    with pytest.raises(CaptionerError, match="twice"):
        open_captioner(CaptionSettings(captioner="replay", model=str(table)))


def test_replay_reads_a_csv_of_paths_and_texts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"two")
    table = tmp_path / "captions.csv"
    table.write_text('path,text\na.png,"Region: hand.\nLines: none."\nb.png,\n', encoding="utf-8")
    captioner = open_captioner(CaptionSettings(captioner="replay", model=str(table)))
    answers = captioner.caption(pictures(2, captioner.image_size), [image_id(b"two"), image_id(b"one")])
    assert [answer.status for answer in answers] == ["empty", "ok"]
    assert answers[1].text == "Region: hand.\nLines: none."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,text\ngone.png,words\n", "not there"),
        ("name,text\na,b\n", "no column image_id or path or uri"),
        ("path,words\na,b\n", "no column caption or text"),
    ],
)
def test_replay_says_what_its_table_lacks(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(content)
    with pytest.raises(CaptionerError, match=message):
        open_captioner(CaptionSettings(captioner="replay", model=str(table)))


@pytest.mark.parametrize(
    "change",
    [{"prompt": "paper"}, {"quantisation": "none"}, {"compute_dtype": "bfloat16"}, {"max_new_tokens": 80},
     {"model": "google/medgemma-4b-it"}],
)  # fmt: skip
def test_what_changes_the_words_changes_the_fingerprint(change: dict[str, object]) -> None:
    assert captioner_fingerprint(CaptionSettings(**change)) != captioner_fingerprint(CaptionSettings())


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"device": "cpu"}])
def test_where_and_how_fast_does_not_change_the_fingerprint(change: dict[str, object]) -> None:
    assert captioner_fingerprint(CaptionSettings(**change)) == captioner_fingerprint(CaptionSettings())


def test_a_revision_changes_the_fingerprint_of_a_model_id() -> None:
    newest = CaptionSettings(model="google/medgemma-4b-it")
    pinned = newest.model_copy(update={"revision": "abc"})
    assert captioner_fingerprint(newest) != captioner_fingerprint(pinned)


def test_changed_weights_change_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    settings = CaptionSettings(model=str(tmp_path))
    before = captioner_fingerprint(settings)
    (tmp_path / "README.md").write_text("about")
    assert captioner_fingerprint(settings) == before
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert captioner_fingerprint(settings) != before


def test_the_chat_holds_the_picture_and_the_prompt_and_nothing_else() -> None:
    assert list(inspect.signature(chat_message).parameters) == ["pixels", "prompt"]
    picture, prompt = pictures(1, 16)[0], load_prompt("findings")
    (turn,) = chat_message(picture, prompt)
    image, text = turn["content"]
    assert set(turn) == {"role", "content"}
    assert np.array_equal(np.asarray(image["image"])[..., 0], picture)
    assert text == {"type": "text", "text": prompt.text}


def test_a_prompt_may_be_a_file_and_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("What is it?\n")
    assert load_prompt(str(file)).text == "What is it?"
    with pytest.raises(CaptionerError, match="findings, findings_without_impression, paper"):
        load_prompt("unknown")
    file.write_text("\n")
    with pytest.raises(CaptionerError, match="empty"):
        load_prompt(str(file))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="holds no"):
        captioner_fingerprint(CaptionSettings(model=str(tmp_path)))
    with pytest.raises(CaptionerError, match="holds no image-text model"):
        captioner_image_size(CaptionSettings(model=str(tmp_path)))


@pytest.mark.parametrize("model", ["embeded", "./captioner", "/no/such/folder", "~/models/mine", "a/b/c"])
def test_what_is_neither_folder_nor_model_id_is_refused_at_once(model: str) -> None:
    with pytest.raises(CaptionerError, match="ship are embedded and embedded-radiographs"):
        captioner_fingerprint(CaptionSettings(model=model))


def test_a_model_without_eyes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CaptionerError, match="takes no pictures"):
        captioner_image_size(CaptionSettings(model=str(tmp_path)))


def test_a_model_id_that_is_not_here_names_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CaptionerError, match="embedded"):
        captioner_image_size(CaptionSettings(model="nobody/nothing-of-this-name"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fracture " * 30, True),
        ("the bone is intact " * 6, True),
        (
            "Region: hand.\nBones: smooth cortex.\nLines: none.\nAlignment: normal.\nSoft tissue: normal.",
            False,
        ),
        ("", False),
    ],
)
def test_a_stuck_captioner_is_noticed(text: str, expected: bool) -> None:
    assert is_repetitive(text) is expected
