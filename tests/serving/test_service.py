"""The whole service on a real Ray Serve, with a small bundle and the fake captioner."""

import base64
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import ray
import yaml
from PIL import Image
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from fracray.bundle import shipped
from fracray.bundle.bundle import load_bundle
from fracray.captions.captioner import prepare
from fracray.captions.choose import open_captioner
from fracray.config import RadiographSettings, ServingSettings
from fracray.errors import BundleError, ClusterError, UsageError
from fracray.explain.answer import answer
from fracray.radiographs.read import read_radiograph
from fracray.serving import app
from fracray.serving import service as service_module
from fracray.serving.app import ServeArgs, build_app
from fracray.serving.replicas import Captioning, Decision
from fracray.serving.service import Service, serve_bundle
from tests.serving.conftest import DATA_NOTE, png

CONFIG = Path(__file__).parents[2] / "serve_config.yaml"


def test_serve_config_fits_serves_own_schema_and_our_arguments() -> None:
    deploy = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))
    assert deploy.applications[0].import_path == "fracray.serving.app:build_app"
    assert ServeArgs.model_validate(deploy.applications[0].args).bundle is None


def test_unknown_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="bundel"):
        ServeArgs.model_validate({"bundel": "demo/bundle"})


def test_a_missing_bundle_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        build_app(ServeArgs(bundle=tmp_path))


def test_without_a_bundle_the_shipped_one_is_served(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", bundle_folder)
    assert build_app(ServeArgs())
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    with pytest.raises(BundleError, match="ships with fracray is missing"):
        build_app(ServeArgs())


def test_a_bundle_without_a_captioner_is_served_without_captioning(
    bundle_folder: Path, image_alone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed: list[type] = []

    def recording(**options: Any) -> Any:
        deployment = serve.deployment(**options)
        return lambda kind: deployed.append(kind) or deployment(kind)

    monkeypatch.setattr(app, "serve", SimpleNamespace(deployment=recording))
    build_app(ServeArgs(bundle=bundle_folder))
    assert deployed == [Captioning, Decision, app.Web]
    deployed.clear()
    build_app(ServeArgs(bundle=image_alone_folder))
    assert deployed == [Decision, app.Web]


def test_without_a_captioner_a_single_cpu_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    settings = ServingSettings(gpus_per_caption_replica=1)
    service_module._refuse_small_cluster(settings, captioned=False)
    with pytest.raises(ClusterError, match=r"need 1\.25 CPUs and the cluster has 1"):
        service_module._refuse_small_cluster(settings, captioned=True)


@pytest.mark.ray
def test_the_served_answer_is_the_one_of_the_scoring_path(service: Service, bundle_folder: Path) -> None:
    data = png(2)
    response = httpx.post(f"{service.url}/v1/predict", files={"file": ("a.png", data)}, timeout=120)
    assert response.status_code == 200, response.text
    body = response.json()
    bundle = load_bundle(bundle_folder)
    radiograph = read_radiograph(data, RadiographSettings())
    captioner = open_captioner(bundle.config.captions)
    captions = captioner.caption([prepare(radiograph.pixels, captioner.image_size)])
    expected = answer(bundle, [radiograph], captions)[0]
    assert body["probability"] == pytest.approx(expected.probability, abs=1e-4)
    assert body["caption"] == expected.caption
    assert body["data_note"] == DATA_NOTE
    overlay = Image.open(io.BytesIO(base64.b64decode(body["overlay_png"])))
    assert overlay.size == radiograph.pixels.shape[::-1]
    assert response.headers["x-request-id"] == body["request_id"]


@pytest.mark.ray
def test_requests_in_one_batch_get_their_own_answers(service: Service) -> None:
    def ask(seed: int) -> dict[str, Any]:
        files = {"file": png(seed)}
        url = f"{service.url}/v1/predict?overlay={'true' if seed % 2 else 'false'}"
        reply = httpx.post(url, files=files, timeout=120)
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body

    alone = [ask(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(ask, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert other["probability"] == pytest.approx(one["probability"], abs=1e-4)
        assert other["caption"] == one["caption"]
        assert (other["overlay_png"] is None) == (one["overlay_png"] is None)
    assert len({body["caption"] for body in alone}) > 1


@pytest.mark.ray
@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 422), (b"no radiograph", 422), (b"\0" * 3_000_000, 413)],
    ids=["empty", "text", "too long"],
)
def test_refusals_pass_serves_proxy_as_they_are(service: Service, data: bytes, status: int) -> None:
    response = httpx.post(f"{service.url}/v1/predict", files={"file": data}, timeout=60)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"type", "message"}


@pytest.mark.ray
def test_more_requests_than_may_wait_get_503_and_the_others_an_answer(service: Service) -> None:
    data = png(3)

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/predict?overlay=false", files={"file": data}, timeout=120)

    with ThreadPoolExecutor(40) as threads:
        replies = list(threads.map(ask, range(80)))
    assert {reply.status_code for reply in replies} <= {200, 503}
    assert sum(reply.status_code == 200 for reply in replies) >= 2
    for reply in replies:
        if reply.status_code == 503:
            assert reply.json()["error"]["type"] == "OverloadedError"
    assert httpx.get(f"{service.url}/healthz", timeout=30).json()["status"] == "ok"


@pytest.mark.ray
def test_model_facts_and_docs_are_served(service: Service, bundle_folder: Path) -> None:
    facts = httpx.get(f"{service.url}/v1/model", timeout=30).json()
    assert facts["bundle_id"] == load_bundle(bundle_folder).id
    assert str(bundle_folder) not in str(facts)
    assert "/v1/predict" in httpx.get(f"{service.url}/openapi.json", timeout=30).json()["paths"]
    assert httpx.get(f"{service.url}/docs", timeout=30).status_code == 200


@pytest.mark.ray
def test_radiographs_of_odd_shapes_get_an_answer_too(service: Service) -> None:
    for shape in ((1, 1), (2, 900), (900, 2), (64, 64)):
        file = io.BytesIO()
        Image.fromarray(np.zeros(shape, np.uint8)).save(file, format="PNG")
        reply = httpx.post(f"{service.url}/v1/predict", files={"file": file.getvalue()}, timeout=60)
        assert reply.status_code == 200, reply.text


def test_a_taken_port_is_told_before_anything_starts(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = ServingSettings(port=other.getsockname()[1])
        with pytest.raises(UsageError, match=r"serving\.port"), serve_bundle(bundle_folder, settings):
            pytest.fail("the service must not start")
