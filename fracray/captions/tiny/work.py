"""The work folder of a training: what was finished in it is used again by the same training only."""

from pathlib import Path

from fracray.errors import UsageError

_MADE_FROM = "made-from.txt"


def claim(work: Path, made_from: str) -> None:
    """Make `work` the folder of the training that the fingerprint `made_from` names.

    Raises `UsageError` when it holds what another one left: a captioner of other folds, taken for one of
    these, would have seen the radiographs that it is measured on.
    """
    work.mkdir(parents=True, exist_ok=True)
    mark = work / _MADE_FROM
    if not mark.is_file():
        mark.write_text(made_from, encoding="utf-8")
    elif mark.read_text(encoding="utf-8") != made_from:
        raise UsageError(
            f"{work}: holds the training of another plan or other data; name another folder with --work or "
            "remove this one"
        )
