from pathlib import Path

import pytest

from fracray.config import Config, load_config
from fracray.errors import SettingsError


def test_later_sources_win_and_untouched_settings_keep_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 3\ncaptions: {batch_size: 5}\n")
    config = load_config(file, "paper", ["captions.batch_size=9", "vision.preprocessing.size=320"])
    assert config.seed == 3
    assert config.captions.batch_size == 9
    assert config.captions.model == "google/medgemma-4b-it"
    assert config.vision.preprocessing.size == 320
    assert config.evaluation == Config().evaluation


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("captions.batchsize=8", "captions.batchsize.*unknown setting"),
        ("captions.batch_size=0", "captions.batch_size.*greater than 0"),
        ("captions.batch_size=many", "captions.batch_size.*integer"),
        ("seed", "stage.key=value"),
        ("=3", "stage.key=value"),
        ("seed=[1", "not valid YAML"),
        ("captions=3", "captions"),
    ],
)
def test_a_wrong_setting_is_named(override: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        load_config(overrides=[override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "seed: [", "\x80"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"broken\.yaml"):
        load_config(file)


def test_an_unknown_profile_lists_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"gpu.*paper"):
        load_config(profile="cloud")


def test_settings_survive_their_own_json() -> None:
    config = load_config(profile="paper")
    assert Config.model_validate_json(config.model_dump_json()) == config
