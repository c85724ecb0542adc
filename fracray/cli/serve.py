"""Command: serve."""

from typing import Annotated

import typer

from fracray.bundle.shipped import shipped_bundle
from fracray.cli.options import BundleOrShipped, ConfigFile, Profile, resolve
from fracray.cli.screen import say
from fracray.errors import UsageError
from fracray.serving.service import serve_bundle


def serve(
    bundle: BundleOrShipped = None,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="for example --set serving.port=8080; repeatable", show_default=False),
    ] = None,
) -> None:
    """Serve a bundle over HTTP until interrupted: /v1/predict, a page at /ui, the API at /docs.

    Of the settings those of `serving` count; the rest is the bundle's.
    """
    for override in overrides or ():
        if not override.startswith("serving."):
            raise UsageError(f"--set {override}: serve takes serving.* only; the rest is the bundle's")
    settings = resolve(config, profile, overrides)
    folder = bundle or shipped_bundle()
    with serve_bundle(folder, settings.serving) as service:
        say(f"bundle: {folder}")
        say(f"page: {service.url}/ui   API: {service.url}/docs   (stop with Ctrl-C)")
        service.wait()
