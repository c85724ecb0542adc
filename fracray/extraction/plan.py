"""What an extraction is going to do, known before a model or a cluster is touched."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fracray import schema
from fracray.captions.captioner import captioner_fingerprint
from fracray.config import Config, ExtractionSettings
from fracray.extraction.cluster import ActorPool
from fracray.extraction.rows import WORK
from fracray.extraction.store import FEATURES, Feature, FeatureStore
from fracray.vision.backbone import backbone_fingerprint

_BLOCKS_PER_ACTOR = 4


@dataclass(frozen=True)
class Plan:
    """Work that is missing, and what it takes.

    `rows`: usable rows of the manifest; `work` (schema WORK): those that lack a feature; `present` and
    `failed_before`: rows that the store holds, by feature, and those of them that failed and stay so;
    `pools`: the actors that the work needs; `rows_per_block`: rows read, written and repeated after a crash
    together.
    """

    rows: int
    work: pa.Table
    fingerprints: Mapping[Feature, str]
    present: Mapping[Feature, int]
    failed_before: Mapping[Feature, int]
    pools: Mapping[Feature, ActorPool]
    rows_per_block: int

    @property
    def blocks(self) -> int:
        """Blocks that the work is cut into."""
        return math.ceil(int(self.work.num_rows) / self.rows_per_block)

    def wanted(self, feature: Feature) -> int:
        """Rows that lack `feature`."""
        wishes: list[bool] = self.work[f"want_{feature}"].to_pylist()
        return sum(wishes)


def feature_fingerprints(config: Config) -> dict[Feature, str]:
    """Return under which fingerprint each feature of `config` stands in a store."""
    return {
        "captions": captioner_fingerprint(config.captions),
        "embeddings": backbone_fingerprint(config.vision),
    }


def plan_extraction(
    manifest: pa.Table, store: FeatureStore, config: Config, *, retry_failed: bool = False
) -> Plan:
    """Compare the rows of `manifest` with status ok to what `store` holds for these settings.

    `retry_failed` counts rows that failed in earlier runs as missing. Raises `TableError` (manifest),
    `CaptionerError`, `BackboneError` (a model that is not there) and `StoreError`.
    """
    usable = _usable(manifest)
    fingerprints = feature_fingerprints(config)
    held = {feature: store.present(feature, fingerprints[feature]) for feature in FEATURES}
    sound = {feature: store.present(feature, fingerprints[feature], failed=False) for feature in FEATURES}
    settled = sound if retry_failed else held
    work = _missing(usable, settled)
    ids = set(usable["image_id"].to_pylist())
    pools = _pools(work, config.extraction)
    return Plan(
        rows=usable.num_rows,
        work=work,
        fingerprints=fingerprints,
        present={feature: len(ids & held[feature]) for feature in FEATURES},
        failed_before={feature: len(ids & (settled[feature] - sound[feature])) for feature in FEATURES},
        pools=pools,
        rows_per_block=_rows_per_block(work.num_rows, pools.values(), config.extraction),
    )


def _usable(manifest: pa.Table) -> pa.Table:
    checked = schema.check(manifest, schema.MANIFEST, "manifest")
    rows = checked.filter(pc.equal(checked["status"], "ok")).select(["image_id", "uri"])
    # One row per image, whatever the manifest says.
    return (
        rows.group_by("image_id", use_threads=False)
        .aggregate([("uri", "first")])
        .rename_columns(["image_id", "uri"])
    )


def _missing(usable: pa.Table, settled: Mapping[Feature, set[str]]) -> pa.Table:
    """Return the rows (schema WORK) that lack a feature, with what they lack."""
    ids = usable["image_id"].to_pylist()
    work = usable
    for feature in FEATURES:
        wishes = pa.array([image_id not in settled[feature] for image_id in ids], pa.bool_())
        work = work.append_column(f"want_{feature}", wishes)
    return work.filter(pc.or_(work["want_captions"], work["want_embeddings"])).cast(WORK)


def _pools(work: pa.Table, settings: ExtractionSettings) -> dict[Feature, ActorPool]:
    """Return the actor pools that `work` needs; a feature that no row wishes for loads no model."""
    pools: dict[Feature, ActorPool] = {
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
    return {feature: pool for feature, pool in pools.items() if pc.any(work[f"want_{feature}"]).as_py()}


def _rows_per_block(rows: int, pools: Iterable[ActorPool], settings: ExtractionSettings) -> int:
    """Return at most `settings.rows_per_block`, and less where every actor would not get a few blocks."""
    actors = max((pool.actors for pool in pools), default=1)
    return max(1, min(settings.rows_per_block, math.ceil(rows / (_BLOCKS_PER_ACTOR * actors))))
