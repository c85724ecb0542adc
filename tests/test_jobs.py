"""The jobs as a cluster runs them: submitted to a head, judged by their exit codes."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracray.config import RadiographSettings
from fracray.radiographs.manifest import build_manifest
from fracray.schema import MANIFEST, write_table

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
pytestmark = pytest.mark.ray


TOKEN = secrets.token_hex(32)


def _environment() -> dict[str, str]:
    """The environment of head and client, who share a token: `ray start` refuses jobs without one."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return others | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Address of the job server of a Ray head of its own."""
    # Below pytest's own folders the paths of Ray's sockets would be too long.
    session = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    address = f"http://127.0.0.1:{_free_port()}"
    command = [
        SCRIPTS / "ray", "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2",
        f"--port={_free_port()}", f"--dashboard-port={address.rpartition(':')[2]}",
        # Its default port may be another cluster's, and without it the agent takes no jobs.
        "--dashboard-agent-listen-port=0", f"--ray-client-server-port={_free_port()}",
        "--include-dashboard=true", f"--temp-dir={session.name}",
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, env=_environment())
    try:
        _wait_until_open(f"{address}/api/version", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        session.cleanup()


def _wait_until_open(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        assert process.poll() is None, "the head ended early"
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return  # It answers; that it asks for the token is the client's business.
        except OSError:
            time.sleep(0.5)
    pytest.fail("the head's job server did not open within a minute")


def _submit(address: str, *entrypoint: str) -> subprocess.CompletedProcess[str]:
    command = [
        SCRIPTS / "ray",
        "job",
        "submit",
        "--address",
        address,
        "--working-dir",
        ".",
        "--",
        sys.executable,
    ]
    # The head answers before its agent has started, which takes long on a busy machine.
    for _ in range(20):
        done = subprocess.run(
            [*command, *entrypoint],
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if "No available agent" not in done.stderr:
            break
        time.sleep(3)
    return done


def test_a_job_fills_the_store_and_a_bad_one_fails_with_its_reason(head: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for folder in ("Fractured", "Non-Fractured"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        for index in range(6):
            pixels = generator.integers(0, 255, (80, 60), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / folder / f"{index}.png")
    manifest = tmp_path / "manifest.parquet"
    write_table(build_manifest(tmp_path / "images", RadiographSettings(folds=2), 7), MANIFEST, manifest)
    settings = ("captions.captioner=fake", "vision.backbone.weights=random", "vision.preprocessing.size=64")
    options = [part for setting in settings for part in ("--set", setting)]

    good = _submit(head, "jobs/extract.py", str(manifest), "--store", str(tmp_path / "store"), *options)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "12 of 12 radiographs" in good.stdout
    assert len(list((tmp_path / "store").rglob("part-*.parquet"))) >= 2

    bad = _submit(
        head, "jobs/extract.py", str(tmp_path / "absent.parquet"), "--store", str(tmp_path / "store")
    )
    assert bad.returncode != 0
    assert "absent.parquet: no such file" in bad.stdout + bad.stderr
    assert "Traceback" not in bad.stdout
