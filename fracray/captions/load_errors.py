"""What to tell a user whose model did not load: one line for each cause, with the next step."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fracray.errors import CaptionerError


def load_error(source: Path | str, error: Exception) -> CaptionerError:
    """Return the error for a model folder or id that transformers could not load."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(source, Path):
        return CaptionerError(
            f"{source}: holds no image-text model that loads ({first}); name another folder"
        )
    for cause in _chain(error):
        if isinstance(cause, GatedRepoError):
            return CaptionerError(_gated(source, cause))
        if isinstance(cause, RevisionNotFoundError):
            return CaptionerError(f"{source}: has no such revision; check captions.revision")
        if isinstance(cause, RepositoryNotFoundError):
            return CaptionerError(
                f"{source}: no such model or folder; check captions.model, or run `hf auth login` "
                "if it is private"
            )
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code >= 500:
            return CaptionerError(f"{source}: the model hub is out of order ({first}); try again later")
    if "not a valid model identifier" in text:
        return CaptionerError(f"{source}: no such model or folder; check captions.model")
    if isinstance(error, OSError):
        return CaptionerError(
            f"{source}: not in the cache of this machine, and the model hub is out of reach; fetch it where "
            f"there is a network (`hf download {source}`), copy its folder here and set captions.model to "
            "it, or use captions.model=embedded"
        )
    return CaptionerError(f"{source}: does not load as an image-text model ({first}); choose another model")


def _gated(source: str, error: GatedRepoError) -> str:
    if error.response.status_code == 401:
        return f"{source} is gated and there is no valid token; run `hf auth login`, or set HF_TOKEN"
    return (
        f"{source} is gated and this account has not been let in; accept its licence on "
        f"https://huggingface.co/{source}, then run again"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
