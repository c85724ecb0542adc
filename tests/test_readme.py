"""What the README and the documents tell a newcomer is true of this version."""

import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer

from fracray.bundle.card import figures_table
from fracray.cli import app as command_line
from fracray.serving.predictor import ServedAnswer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))


@cache
def _commands() -> dict[str, set[str]]:
    """Every command of the command line with the options it takes."""
    for name in command_line.COMMANDS:
        command_line.add_command(name)
    group = typer.main.get_command(command_line.app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    "line",
    sorted(
        set(
            re.findall(
                r"(?:^ {4}(?:\S+/)?|`)fracray ([^`\n]+?)(?:\s+#.*)?(?:$|`)",
                (README + DOCUMENTS).replace("\\\n", ""),
                re.M,
            )
        )
    ),
)
def test_every_command_of_the_documents_exists_with_its_options(line: str) -> None:
    name, *arguments = shlex.split(line)
    options = {argument for argument in arguments if argument.startswith("--")}
    assert options <= _commands()[name]


def test_the_readme_shows_more_than_one_command() -> None:
    assert len(re.findall(r"^ {4}fracray ", README, re.M)) >= 7


def test_the_figures_are_those_of_the_demo() -> None:
    figures = json.loads((ROOT / "docs" / "demo" / "figures.json").read_text(encoding="utf-8"))
    assert figures_table(figures) in README
    assert "phantom" in figures["data_note"].lower()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", README))))
def test_every_link_leads_somewhere(target: str) -> None:
    path, _, heading = target.partition("#")
    assert (ROOT / path).exists()
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.M) if heading else []
    assert not heading or heading in [
        re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings
    ]


def test_every_field_of_an_answer_is_explained() -> None:
    page = (ROOT / "docs" / "answer.md").read_text(encoding="utf-8")
    assert [name for name in ServedAnswer.model_fields if f"`{name}`" not in page] == []
