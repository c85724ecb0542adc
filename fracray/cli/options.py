"""Options that every command shares."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fracray.config import Config, load_config

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings", show_default=False)
]
Profile = Annotated[
    str | None,
    typer.Option(help="settings that ship: radiographs, paper, gpu or demo", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="one setting, for example --set captions.batch_size=8; repeatable", show_default=False
    ),
]
Manifest = Annotated[
    str, typer.Argument(help="manifest.parquet made by `fracray manifest`; path or s3:// URI")
]
Store = Annotated[str, typer.Option(help="folder of the feature store; path or s3:// URI")]
BundleFolder = Annotated[Path, typer.Argument(help="bundle made by `fracray train`")]
BundleOrShipped = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="bundle made by `fracray train`; without it the one that ships with fracray",
        show_default=False,
    ),
]


def resolve(config: Path | None, profile: str | None, overrides: list[str] | None) -> Config:
    """Return the configuration that the shared options describe."""
    return load_config(config, profile, overrides or ())


def as_given(config: Path | None, profile: str | None, overrides: list[str] | None) -> str:
    """Return the shared options as they were written, with a space before each, for the next command."""
    named = [("--config", config), ("--profile", profile), *(("--set", one) for one in overrides or ())]
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in named if value is not None)
