"""The bundle that ships with the package, for whoever names none."""

from importlib.resources import files
from pathlib import Path

from fracray.bundle.bundle import is_bundle
from fracray.errors import BundleError

SHIPPED = Path(str(files("fracray"))) / "assets" / "bundle"


def shipped_bundle() -> Path:
    """Return the folder of the shipped bundle; raises `BundleError` when it is not there."""
    if not is_bundle(SHIPPED):
        raise BundleError(
            f"{SHIPPED}: the bundle that ships with fracray is missing; install fracray again or name "
            "another (--bundle FOLDER, in serve_config.yaml 'bundle: FOLDER')"
        )
    return SHIPPED
