import hashlib
from pathlib import Path

from fracray.config import CaptionSettings
from fracray.fingerprint import file_hash, fingerprint, image_id


def test_image_id_is_the_sha256_that_other_tools_print(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"radiograph")
    assert image_id(b"radiograph") == file_hash(tmp_path / "f") == hashlib.sha256(b"radiograph").hexdigest()


def test_fingerprint_depends_on_values_not_on_order() -> None:
    assert fingerprint(a=1, b="x") == fingerprint(b="x", a=1)
    assert fingerprint(a=1) != fingerprint(a=2) != fingerprint(b=2)
    assert fingerprint(s=CaptionSettings()) != fingerprint(s=CaptionSettings(prompt="paper"))


def test_fingerprint_stays_the_same_between_versions() -> None:
    # Stored features are found by it: a change here makes every store recompute.
    assert fingerprint(prompt="Describe.", version=1) == "132cb23d5dcce923"
