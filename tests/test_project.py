"""The files beside the package: what a user of the cluster, the jobs and the settings relies on."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from fracray.config import Config, load_config

ROOT = Path(__file__).parent.parent


def test_cluster_file_passes_rays_own_schema() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    validate_config(fillout_defaults({**cluster, "cluster_synced_files": []}))
    assert cluster["available_node_types"]["gpu_worker"]["max_workers"] <= cluster["max_workers"]


def test_cluster_file_with_a_misspelt_key_would_not_pass() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    cluster["head_node_typ"] = cluster.pop("head_node_type")
    with pytest.raises(Exception, match="head_node_typ"):
        validate_config({**cluster, "cluster_synced_files": []})


@pytest.mark.parametrize(
    "profile", sorted(path.stem for path in (ROOT / "fracray" / "profiles").glob("*.yaml"))
)
def test_every_shipped_profile_is_valid_and_changes_something(profile: str) -> None:
    assert load_config(profile=profile) != Config()


def test_jobs_are_short() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "jobs").glob("*.py")
    }
    assert lengths
    assert max(lengths.values()) <= 40
