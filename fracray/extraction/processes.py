"""What Ray's processes run: the steps, with an account of what killed a process before.

Every process of a run imports this module, and most of them only read or write: nothing here may bring
torch, whose import takes longer than the reading of a block.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import ray

from fracray.errors import ClusterError, FracrayError
from fracray.extraction.attempts import DEATHS, survive
from fracray.extraction.cluster import RayLedger
from fracray.extraction.store import Feature
from fracray.memory import keep_freed_memory

_MODEL_STEPS: Mapping[Feature, tuple[str, str]] = {
    "captions": ("captioning", "caption_pixels"),
    "embeddings": ("embedding", "vision_pixels"),
}
"""What each model's step is called, and the column of the pixels it takes."""


def read_block(
    table: pa.Table, read: Callable[..., pa.Table], arguments: tuple[Any, ...], ledger: RayLedger
) -> pa.Table:
    """Read the radiographs of `table` with `read`; rows that kill their process are marked."""
    return survive(table, lambda rows: read(rows, *arguments), "reading", None, ledger)


class ModelActor:
    """Holds one model in a process of its own.

    An error of ours on loading waits for the first rows: one that is raised while an actor starts reaches the
    driver as a page of text only, after attempts to start it again.
    """

    def __init__(
        self,
        feature: Feature,
        model: Callable[..., Callable[[pa.Table], pa.Table]],
        arguments: tuple[Any, ...],
        ledger: RayLedger,
    ) -> None:
        self._name, self._pixels = _MODEL_STEPS[feature]
        self._ledger = ledger
        self._error: FracrayError | None = None
        keep_freed_memory()
        # The same after each restart.
        loading = f"loading in {ray.get_runtime_context().get_actor_id()}"
        if ledger.begin(loading) > DEATHS:
            self._error = ClusterError(
                f"loading the model for {self._name} killed its process each time, most likely for lack of "
                "memory; use a smaller model, fewer actors or a larger machine"
            )
            return
        try:
            self._step = model(*arguments)
        except FracrayError as error:
            self._error = error
        ledger.end(loading)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the model's step on `table`; raises what its loading raised."""
        if self._error is not None:
            raise self._error
        return survive(table, self._step, self._name, self._pixels, self._ledger)
