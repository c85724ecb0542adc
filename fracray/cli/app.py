"""The command `fracray`."""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import Annotated

import typer

from fracray import __version__
from fracray.cli.options import ConfigFile, Overrides, Profile, resolve
from fracray.cli.settings import documented
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
    """Show every setting with its value and what it means, as YAML that --config reads."""
    typer.echo(documented(resolve(config, profile, overrides)), nl=False)


COMMANDS = {
    "phantoms": "radiographs",
    "manifest": "radiographs",
    "extract": "features",
    "features": "store",
    "search": "fitting",
    "train": "fitting",
    "evaluate": "fitting",
    "predict": "predict",
    "serve": "serve",
    "demo": "demo",
}
"""The commands in the order in which a user meets them, and the module of `fracray.cli` that holds each."""


def add_command(name: str) -> None:
    """Import one of `COMMANDS` and make it known to `app`."""
    module = import_module(f"fracray.cli.{COMMANDS[name]}")
    if name == "features":
        app.add_typer(module.app, name=name)
    else:
        app.command(name)(getattr(module, name))


def _add_line_of_help(name: str) -> None:
    source = files("fracray.cli").joinpath(f"{COMMANDS[name]}.py").read_text()
    parsed = ast.parse(source)
    functions = [part for part in parsed.body if isinstance(part, ast.FunctionDef) and part.name == name]
    app.command(name, help=ast.get_docstring(functions[0] if functions else parsed))(lambda: None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours ends it with one line and the error's exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    asked = arguments[0] if arguments else "--help"
    # torch, Ray and Gradio take seconds to import: each command pays for its own module, the list for none.
    if asked in COMMANDS:
        add_command(asked)
    else:
        for name in COMMANDS:
            _add_line_of_help(name)
    try:
        app(arguments)
    except FracrayError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # Of the file system: what fracray expects to fail has an error of its own.
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}; check path and rights", err=True)
        sys.exit(1)
