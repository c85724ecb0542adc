import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fracray import __version__
from fracray.cli.settings import documented
from fracray.config import Config, load_config

FRACRAY = Path(sys.executable).parent / "fracray"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FRACRAY, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout.strip() == __version__


def test_config_prints_settings_that_config_reads_back(tmp_path: Path) -> None:
    printed = run("config", "--set", "seed=5", "--set", "fusion.ngrams=2").stdout
    file = tmp_path / "settings.yaml"
    file.write_text(printed)
    assert run("config", "--config", file).stdout == printed
    assert Config.model_validate(yaml.safe_load(printed)).fusion.ngrams == 2
    assert "ngrams: 2  # longest run of words that counts as one term\n" in printed


@pytest.mark.parametrize("profile", [None, "radiographs", "gpu", "paper", "demo"])
def test_documented_settings_are_the_settings(profile: str | None) -> None:
    config = load_config(profile=profile)
    assert Config.model_validate(yaml.safe_load(documented(config))) == config


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("config", "--set", "captions.batchsize=3"), 2, "captions.batchsize"),
        (("config", "--config", "absent.yaml"), 2, "absent.yaml"),
        (("manifest", "absent"), 1, "absent: no such folder or CSV"),
        (("manifest", ".", "--boxes", "boxes.parquet"), 1, "leave out --boxes"),
        (("extract", "absent.parquet"), 1, "absent.parquet: no such file"),
        (("predict", "x.png", "--bundle", "."), 1, "no bundle here"),
        (("phantoms", "/proc/phantoms", "--count", "1"), 1, "/proc/phantoms: "),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_lists_every_command_and_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from fracray.cli.app import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *listed, torch_imported = done.stdout.splitlines()
    rows = {line.split()[1] for line in listed if line.startswith("│")}
    commands = ("phantoms", "manifest", "extract", "features", "search", "train", "evaluate", "predict")
    assert {"config", *commands, "serve", "demo"} <= rows
    assert torch_imported == "False"
