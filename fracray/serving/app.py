"""The Ray Serve application: web ingress, captioning and decision, joined by handles."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import Field
from ray import serve
from ray.serve import metrics
from ray.serve.schema import LoggingConfig

from fracray.bundle.bundle import Bundle, load_bundle
from fracray.bundle.shipped import shipped_bundle
from fracray.captions.choose import captioner_image_size
from fracray.config import RadiographSettings, ServingSettings, Settings
from fracray.serving.api import build_api
from fracray.serving.facts import ModelFacts, model_facts
from fracray.serving.page import mount_page
from fracray.serving.predictor import Predictor
from fracray.serving.replicas import Captioning, Decision

WEB_CPUS = 0.25
MODEL_CPUS = 0.5
"""CPUs that Ray books per replica: bookkeeping, small enough for all replicas on a machine with two."""

PATIENCE = 3
"""Batches of one model replica: one at work, one waiting in it, and room for one that forms."""

SECONDS = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0]


class ServeArgs(Settings):
    """Arguments of `build_app` in serve_config.yaml. The address is set there, not in `serving`."""

    bundle: Path | None = Field(
        None,
        description="folder, relative to where Serve was started; null: the bundle that ships with fracray",
    )
    serving: ServingSettings = ServingSettings()


def build_app(args: ServeArgs) -> serve.Application:
    """Return the application that serves `args.bundle`, or the shipped bundle when that is None.

    The folder must be readable under the same path on every node that runs replicas. Raises `BundleError`
    when it holds no whole bundle.
    """
    folder = (args.bundle or shipped_bundle()).expanduser().resolve()
    return application(load_bundle(folder), args.serving)


def application(bundle: Bundle, settings: ServingSettings) -> serve.Application:
    """Return the application that serves a loaded `bundle`, with no captioning where it has no captioner."""
    model: dict[str, Any] = {
        "max_ongoing_requests": PATIENCE * settings.max_batch,
        "max_queued_requests": settings.max_queued,
        "max_constructor_retry_count": 2,
    }
    captioning = None
    if not bundle.image_alone:
        captioning = serve.deployment(
            num_replicas=settings.caption_replicas,
            ray_actor_options={"num_cpus": MODEL_CPUS, "num_gpus": settings.gpus_per_caption_replica},
            health_check_timeout_s=300,
            **model,
        )(Captioning).bind(bundle.config.captions, settings)
    decision = serve.deployment(
        num_replicas=settings.decision_replicas,
        ray_actor_options={"num_cpus": MODEL_CPUS, "num_gpus": settings.gpus_per_decision_replica},
        health_check_timeout_s=60,
        **model,
    )(Decision).bind(bundle.folder, settings)
    # One replica: a page's events must reach the replica that holds its session. Every open page keeps
    # connections, so the limit of waiting radiographs lies in the model deployments.
    web = serve.deployment(
        num_replicas=1,
        max_ongoing_requests=1000,
        max_constructor_retry_count=2,
        ray_actor_options={"num_cpus": WEB_CPUS},
        logging_config=LoggingConfig(enable_access_log=False),
    )
    return web(Web).bind(
        captioning,
        decision,
        facts=model_facts(bundle),
        radiographs=bundle.config.radiographs,
        image_size=captioner_image_size(bundle.config.captions),
    )


@serve.ingress()
class Web:
    """Decodes what comes over HTTP and hands it to the models."""

    def __init__(
        self,
        captioning: Any,
        decision: Any,
        *,
        facts: ModelFacts,
        radiographs: RadiographSettings,
        image_size: int,
    ) -> None:
        self._facts = facts
        self._answers = metrics.Counter(
            "fracray_answers", "Requests answered.", tag_keys=("decision", "status")
        )
        self._seconds = metrics.Histogram(
            "fracray_seconds",
            "Time from the whole upload to the answer.",
            boundaries=SECONDS,
            tag_keys=("status",),
        )
        self._predictor = Predictor(
            None if captioning is None else captioning.caption.remote,
            decision.decide.remote,
            settings=radiographs,
            image_size=image_size,
            observe=self._observe,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the service inside the replica; called by Serve after the constructor."""
        return mount_page(build_api(self._predictor, self._facts), self._predictor, self._facts)

    def _observe(self, decision: str, status: str, seconds: float) -> None:
        self._answers.inc(tags={"decision": decision, "status": status})
        self._seconds.observe(seconds, tags={"status": status})
