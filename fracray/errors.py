"""Every error that fracray raises on purpose.

Each message is one line that says what is wrong, where, and what to do next. The command line prints it
without a traceback and exits with the class's `exit_code`; the HTTP service answers with its `http_status`.
"""

from typing import ClassVar


class FracrayError(Exception):
    """Base of all errors meant for a user's eyes."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class UsageError(FracrayError):
    """A command or function was asked for something that makes no sense."""

    exit_code = 2
    http_status = 400


class SettingsError(UsageError):
    """A configuration file or a `--set` names an unknown key or an impossible value."""


class RadiographError(FracrayError):
    """The bytes of one file cannot be used as a radiograph; becomes the row's reason, never ends a run."""

    http_status = 422


class RadiographTooLargeError(RadiographError):
    """The file or the picture it declares is larger than the limits allow."""

    http_status = 413


class LocationError(FracrayError):
    """A file or folder, local or remote, cannot be reached, read or written."""


class TableError(FracrayError):
    """A Parquet table does not fit its schema; the message names the file and the column."""


class ManifestError(FracrayError):
    """A folder, a CSV or annotations cannot become a manifest or boxes."""


class CaptionerError(FracrayError):
    """A captioner cannot be loaded or failed its self-test."""


class BackboneError(FracrayError):
    """Backbone weights are missing or do not fit the architecture."""


class StoreError(FracrayError):
    """The feature store lacks what is asked for, or holds a file that does not belong there."""


class ClusterError(FracrayError):
    """The Ray cluster at hand cannot run the plan."""


class SearchError(FracrayError):
    """A hyperparameter search cannot start, be restored, or has no usable trial."""


class EvaluationError(FracrayError):
    """Figures cannot be computed honestly on these rows."""


class BundleError(FracrayError):
    """A bundle is incomplete, altered, or of an unknown format."""
