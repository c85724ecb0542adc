"""The command `fracray`."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import yaml

from fracray import __version__
from fracray.cli.options import ConfigFile, Overrides, Profile, resolve
from fracray.errors import FracrayError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Find fractured bones on radiographs, and show why. A research tool, not a medical device.",
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="show the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("config")
def config_command(config: ConfigFile = None, profile: Profile = None, overrides: Overrides = None) -> None:
    """Show every setting with its value, as YAML that --config reads."""
    typer.echo(yaml.safe_dump(resolve(config, profile, overrides).model_dump(), sort_keys=False), nl=False)


def _add_commands() -> None:
    # Imported here: torch, transformers and ray take seconds, which `--version` and `config` need not pay.
    from fracray.cli import answers, demo, features, fitting, radiographs, store

    for command in (
        radiographs.phantoms,
        radiographs.manifest,
        features.extract,
        fitting.search,
        fitting.train,
        fitting.evaluate,
        answers.predict,
        answers.serve,
        demo.demo,
    ):
        app.command()(command)
    app.add_typer(store.app, name="features")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours ends it with one line and the error's exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] not in (["--version"], ["config"]):
        _add_commands()
    try:
        app(arguments)
    except FracrayError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
