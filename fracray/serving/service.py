"""The service for as long as the command line or a test wants it."""

import contextlib
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from fracray.bundle.bundle import load_bundle
from fracray.config import ServingSettings
from fracray.errors import ClusterError, UsageError
from fracray.extraction.cluster import connected
from fracray.serving.app import MODEL_CPUS, WEB_CPUS, application

APP_NAME = "fracray"


@dataclass(frozen=True)
class Service:
    """A service that takes requests at `url`."""

    url: str

    def wait(self) -> None:
        """Block until the process is interrupted (Ctrl-C or SIGTERM); call it in the main thread."""
        stop = threading.Event()
        earlier = signal.signal(signal.SIGTERM, lambda *_: stop.set())
        try:
            with contextlib.suppress(KeyboardInterrupt):
                stop.wait()
        finally:
            signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def serve_bundle(bundle: Path, settings: ServingSettings) -> Iterator[Service]:
    """Serve `bundle` inside the block; ready on entry, every process that was started gone on exit.

    Uses the Ray cluster of RAY_ADDRESS if set, else one on this machine. On a cluster that serves something
    already, its address counts instead of `settings.host` and `settings.port`, and other applications stay.
    Raises `BundleError` for a bundle that is not whole, `UsageError` when the port is taken, and
    `ClusterError` when the replicas do not fit or a model does not load.
    """
    loaded = load_bundle(bundle.expanduser().resolve())
    served = application(loaded, settings)
    if not ray.is_initialized() and "RAY_ADDRESS" not in os.environ:
        _refuse_taken_port(settings)
    with connected():
        _refuse_small_cluster(settings, captioned=not loaded.image_alone)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        others = bool(serve.status().applications)
        serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
        try:
            _run(served)
            yield Service(f"http://{_reachable(settings.host)}:{settings.port}")
        finally:
            if others:
                serve.delete(APP_NAME)
            else:
                serve.shutdown()


def _run(served: serve.Application) -> None:
    try:
        serve.run(served, name=APP_NAME, route_prefix="/")
    except RuntimeError as error:
        raise ClusterError(f"the service did not start: {_reason(str(error))}") from None


def _reason(message: str) -> str:
    """Return the line in which a replica says why it failed, else where to look."""
    own: list[str] = re.findall(r"fracray\.errors\.\w+: (.+)", message)
    return own[-1] if own else "a replica failed; the newest files of Ray's session below logs/serve say why"


def _refuse_taken_port(settings: ServingSettings) -> None:
    # Serve's proxy shares a port with whoever listens there already, and then half the requests go astray.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}); "
                f"use --set serving.port={settings.port + 1 if settings.port < 65535 else 8000}"
            ) from None


def _refuse_small_cluster(settings: ServingSettings, *, captioned: bool) -> None:
    has = ray.cluster_resources()
    caption_replicas = settings.caption_replicas if captioned else 0
    replicas = caption_replicas + settings.decision_replicas
    gpus = (
        caption_replicas * settings.gpus_per_caption_replica
        + settings.decision_replicas * settings.gpus_per_decision_replica
    )
    for kind, needs in (("CPU", WEB_CPUS + replicas * MODEL_CPUS), ("GPU", gpus)):
        if needs > has.get(kind, 0.0):
            raise ClusterError(
                f"the replicas need {needs:g} {kind}s and the cluster has {has.get(kind, 0.0):g}; "
                "lower serving.caption_replicas, decision_replicas or the GPUs per replica"
            )


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
