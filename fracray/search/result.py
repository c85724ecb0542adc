"""The outcome of a search and its file."""

from pathlib import Path

from pydantic import Field, ValidationError

from fracray.config import Config, Settings
from fracray.errors import SearchError

FILE = "best.json"


class Trials(Settings):
    """How the trials of one stage ended."""

    finished: int = Field(0, ge=0, description="complete, pruned and failed ones")
    pruned: int = Field(0, ge=0, description="stopped early as unpromising")
    failed: int = Field(0, ge=0, description="ended by an error")


class SearchResult(Settings):
    """The settings chosen, and how.

    The scores are the best of many trials on the same inner folds, and so too good: what the settings are
    worth shows on the test fold, which the search never saw.
    """

    config: Config = Field(description="all settings of the search, with those it chose in their places")
    vision_score: float | None = Field(
        description="mean AUROC of the image over inner folds; null: no trials"
    )
    fusion_score: float | None = Field(description="calibrated out-of-fold log loss, nats; null: no trials")
    vision_trials: Trials
    fusion_trials: Trials
    seconds: float = Field(ge=0, description="wall time of the call that finished the search")


def save_result(result: SearchResult, folder: Path) -> None:
    """Write `folder`/best.json so that it appears whole or not at all."""
    write_whole(folder / FILE, result.model_dump_json(indent=2))


def load_search(folder: Path) -> SearchResult:
    """Read the result of the finished search in `folder`; raises `SearchError` if there is none."""
    path = folder / FILE
    try:
        return SearchResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SearchError(f"{path}: no such file; finish the search with resume (`--resume`)") from None
    except (OSError, ValidationError) as error:
        raise SearchError(
            f"{path}: not a search result of this version ({str(error).splitlines()[0]}); search again"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` through a neighbouring file, so that no half of it is ever seen."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)
