"""What a run of the extraction did, added up while it runs."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fracray.captions.captioner import SelfTest
from fracray.extraction.rows import STEPS
from fracray.extraction.store import FEATURES, Feature

OnProgress = Callable[[int, int, int], None]
"""Called with rows done (failed ones included), rows failed, rows to do."""


@dataclass(frozen=True)
class FeatureSummary:
    """What a run did for one feature.

    `present`: rows of the manifest that the store held before; `failed_before`: those of them that stand
    there as failed and were not tried again; `by_status`: rows written, by status; `failures`: rows written
    as failed, by reason.
    """

    fingerprint: str
    present: int
    failed_before: int
    by_status: Mapping[str, int]
    failures: Mapping[str, int]

    @property
    def failed(self) -> int:
        """Rows written as failed."""
        return self.by_status.get("failed", 0)

    @property
    def done(self) -> int:
        """Rows written that did not fail."""
        return self.written - self.failed

    @property
    def written(self) -> int:
        """Rows written, whatever their status."""
        return sum(self.by_status.values())


COUNTED_CAPTIONS = 10_000
"""Different captions are counted up to here; a captioner that says as many is not stuck."""
REPEATING = 0.05
"""Fewer different captions than this share of the radiographs, among `ENOUGH` or more, are called out."""
ENOUGH = 20


@dataclass(frozen=True)
class CaptionVariety:
    """How varied and how readable the captions of a run are.

    `distinct` counts different texts among `written`, at most `COUNTED_CAPTIONS`; `findings` counts captions
    by whether their labelled lines could be read: ok, partial, unparsed.
    """

    written: int
    distinct: int
    findings: Mapping[str, int]

    @property
    def repeating(self) -> bool:
        """Whether the captioner says much the same of every radiograph."""
        return self.written >= ENOUGH and self.distinct < min(COUNTED_CAPTIONS, REPEATING * self.written)


@dataclass(frozen=True)
class ExtractionSummary:
    """What a run did: usable `rows` of the manifest, `worked` rows among them that lacked a feature.

    `captions` is None where there is no captioner. `variety` and `self_tests` (one for each captioner that
    was loaded) are of this run's captions. `seconds` is the time from start to end, `busy_seconds` the time
    that each step took, summed over all tasks and actors (more than `seconds` where they ran side by side).
    """

    rows: int
    worked: int
    captions: FeatureSummary | None
    embeddings: FeatureSummary
    variety: CaptionVariety
    self_tests: tuple[SelfTest, ...]
    seconds: float
    busy_seconds: Mapping[str, float]

    @property
    def features(self) -> dict[Feature, FeatureSummary]:
        """What the run did, by feature; without captions where there is no captioner."""
        captions: dict[Feature, FeatureSummary] = {"captions": self.captions} if self.captions else {}
        return captions | {"embeddings": self.embeddings}

    @property
    def rate(self) -> float:
        """Rows per second, start of Ray and loading of the models included."""
        return self.worked / self.seconds if self.seconds else 0.0

    @property
    def step_rates(self) -> dict[str, float]:
        """Rows per second of one worker's time, by step; the slowest step needs the most workers."""
        rows = dict.fromkeys(STEPS, self.worked) | {
            "captioning": self.captions.written if self.captions else 0,
            "embedding": self.embeddings.written,
        }
        return {step: rows[step] / seconds for step, seconds in self.busy_seconds.items() if seconds > 0}


class Counts:
    """Adds up what the writing tasks report."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.by_status: dict[Feature, Counter[str]] = {feature: Counter() for feature in FEATURES}
        self.failures: dict[Feature, Counter[str]] = {feature: Counter() for feature in FEATURES}
        self.busy_seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self.self_tests: list[SelfTest] = []
        self._hashes: set[int] = set()
        self._written = 0
        self._findings: Counter[str] = Counter()
        self._total, self._done, self._failed = total, 0, 0
        self._on_progress = on_progress
        self._report()

    def add(self, block: pa.Table) -> None:
        """Count one written block."""
        rows = block.to_pylist()
        for row in rows:
            for feature in FEATURES:
                if (status := row.get(f"{feature}_status")) is not None:
                    self.by_status[feature][status] += 1
                if status == "failed":
                    self.failures[feature][row[f"{feature}_reason"]] += 1
            self._failed += any(row.get(f"{feature}_status") == "failed" for feature in FEATURES)
            self._add_caption(row)
            for step in STEPS:
                self.busy_seconds[step] += row.get(step, 0.0)
        self._done += len(rows)
        self._report()

    @property
    def variety(self) -> CaptionVariety:
        """What the captions counted so far look like."""
        return CaptionVariety(self._written, len(self._hashes), dict(self._findings))

    def _add_caption(self, row: Mapping[str, Any]) -> None:
        if (test := row.get("self_test")) is not None:
            self.self_tests.append(SelfTest(**json.loads(test)))
        if (text := row.get("caption_hash")) is None:
            return
        self._written += 1
        self._findings[row["captions_findings"]] += 1
        if len(self._hashes) < COUNTED_CAPTIONS:
            self._hashes.add(text)

    def _report(self) -> None:
        if self._on_progress is not None and self._total:
            self._on_progress(self._done, self._failed, self._total)
