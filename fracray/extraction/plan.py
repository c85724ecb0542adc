"""What an extraction is going to do, known before a model or a cluster is touched."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fracray.captions.choose import captioner_fingerprint
from fracray.config import Config, ExtractionSettings
from fracray.extraction.cluster import ActorPool
from fracray.extraction.store import FEATURES, Feature, FeatureStore
from fracray.extraction.work import Work, missing_work
from fracray.location import Location
from fracray.vision.backbone import backbone_fingerprint

_BLOCKS_PER_ACTOR = 4


@dataclass(frozen=True)
class Plan:
    """Work that is missing, and what it takes.

    `rows`: usable rows of the manifest; `todo`: those that lack a feature; `wanted`, `present` and
    `failed_before`, by feature: rows that lack it, rows that the store holds, and those of them that failed
    and stay so; `pools`: the actors that the work needs; `rows_per_block`: rows read, written and repeated
    after a crash together.
    """

    work: Work
    rows: int
    todo: int
    wanted: Mapping[Feature, int]
    present: Mapping[Feature, int]
    failed_before: Mapping[Feature, int]
    pools: Mapping[Feature, ActorPool]
    rows_per_block: int

    @property
    def blocks(self) -> int:
        """Blocks that the work is cut into, about: each span of ids ends with a smaller one."""
        return math.ceil(self.todo / self.rows_per_block)


def feature_fingerprints(config: Config) -> dict[Feature, str]:
    """Return under which fingerprint each feature of `config` stands in a store.

    Without a captioner there are no captions.
    """
    embeddings: dict[Feature, str] = {"embeddings": backbone_fingerprint(config.vision)}
    if config.captions.captioner == "none":
        return embeddings
    return {"captions": captioner_fingerprint(config.captions), **embeddings}


def plan_extraction(
    manifest: str | Path | Location, store: FeatureStore, config: Config, *, retry_failed: bool = False
) -> Plan:
    """Compare the rows with status ok of the manifest at `manifest` to what `store` holds for these settings.

    `retry_failed` counts rows that failed in earlier runs as missing. Raises `TableError` (manifest),
    `CaptionerError`, `BackboneError` (a model that is not there) and `StoreError`.
    """
    fingerprints = feature_fingerprints(config)
    work = missing_work(Location.of(manifest), store.place, fingerprints, retry_failed=retry_failed)
    total: Counter[str] = Counter()
    wanted: Counter[Feature] = Counter()
    present: Counter[Feature] = Counter()
    failed: Counter[Feature] = Counter()
    for number in range(work.spans):
        counts = work.counts(number)
        total.update(rows=counts.rows, todo=counts.todo)
        wanted.update(counts.wanted)
        present.update(counts.present)
        failed.update(counts.failed)
    pools = {feature: pool for feature, pool in _pools(config.extraction).items() if wanted[feature]}
    return Plan(
        work=work,
        rows=total["rows"],
        todo=total["todo"],
        wanted={feature: wanted[feature] for feature in FEATURES},
        present={feature: present[feature] for feature in FEATURES},
        failed_before={feature: failed[feature] for feature in FEATURES},
        pools=pools,
        rows_per_block=_rows_per_block(total["todo"], pools.values(), config.extraction),
    )


def _pools(settings: ExtractionSettings) -> dict[Feature, ActorPool]:
    return {
        "captions": ActorPool(
            "caption",
            settings.caption_actors,
            settings.cpus_per_caption_actor,
            settings.gpus_per_caption_actor,
        ),
        "embeddings": ActorPool(
            "vision", settings.vision_actors, settings.cpus_per_vision_actor, settings.gpus_per_vision_actor
        ),
    }


def _rows_per_block(rows: int, pools: Iterable[ActorPool], settings: ExtractionSettings) -> int:
    """Return at most `settings.rows_per_block`, and less where every actor would not get a few blocks."""
    actors = max((pool.actors for pool in pools), default=1)
    return max(1, min(settings.rows_per_block, math.ceil(rows / (_BLOCKS_PER_ACTOR * actors))))
