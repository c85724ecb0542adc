"""The HTTP API with stand-ins for the two model deployments: no Ray, no models."""

import asyncio
import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from fracray.bundle.reliability import reliability
from fracray.captions.captioner import Caption
from fracray.config import RadiographSettings
from fracray.explain.answer import NOTICE, Answer, Contributions, HottestBox, Term
from fracray.radiographs.read import Radiograph
from fracray.serving.api import ENVELOPE_BYTES, build_api
from fracray.serving.facts import ModelFacts
from fracray.serving.predictor import Predictor

MAX_BYTES, MAX_PIXELS, IMAGE_SIZE = 300_000, 40_000, 32

FACTS = ModelFacts(
    bundle_id="0123456789abcdef",
    data_kind="phantoms",
    data_note="Phantoms, not patients.",
    reliability=reliability("phantoms", None),
    training_rows=24,
    operating_point=0.4,
    backbone="resnet10",
    unfrozen="none",
    input_size=64,
    captioner="fake",
    prompt="findings",
    max_bytes=MAX_BYTES,
    max_pixels=MAX_PIXELS,
    figures=None,
    settings={},
)


class Models:
    """Stands for both deployments and keeps what they were asked."""

    def __init__(self) -> None:
        self.caption_error: Exception | None = None
        self.decision_error: Exception | None = None
        self.captions: list[Caption] = []
        self.pixels: list[np.ndarray] = []
        self.overlays: list[bool] = []
        self.observed: list[tuple[str, str]] = []

    async def caption(self, pixels: np.ndarray, image_id: str) -> Caption:
        self.pixels.append(pixels)
        if self.caption_error is not None:
            raise self.caption_error
        return Caption("Impression: Fracture.", "ok")

    async def decide(self, radiograph: Radiograph, caption: Caption, overlay: bool) -> Answer:
        if self.decision_error is not None:
            raise self.decision_error
        self.captions.append(caption)
        self.overlays.append(overlay)
        return Answer(
            probability=0.7,
            fracture=True,
            operating_point=0.4,
            caption=caption.text,
            caption_verdict="positive" if caption.text else "none",
            contributions=Contributions(
                logit=0.85, intercept=-0.15, image=0.6, words=0.4, terms=[Term(term="fracture", weight=0.4)]
            ),
            by_system={"image": 0.6, "words": 0.65, "fused": 0.7},
            hottest_box=HottestBox(xmin=1, ymin=2, xmax=30, ymax=40) if overlay else None,
            overlay_png="iVBORw0KGgo=" if overlay else None,
            warnings=[] if caption.text else [f"no caption ({caption.reason})"],
            bundle_id=FACTS.bundle_id,
            data_kind=FACTS.data_kind,
            data_note=FACTS.data_note,
            reliability=FACTS.reliability,
            timings_ms={"decide": 1.0, "explain": 2.0},
        )

    def observe(self, decision: str, status: str, seconds: float) -> None:
        self.observed.append((decision, status))


def build(models: Models, *, captioned: bool = True) -> FastAPI:
    predictor = Predictor(
        models.caption if captioned else None,
        models.decide,
        settings=RadiographSettings(max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS),
        image_size=IMAGE_SIZE,
        observe=models.observe,
    )
    return build_api(predictor, FACTS)


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def client(models: Models) -> TestClient:
    return TestClient(build(models), raise_server_exceptions=False)


def picture(kind: str = "PNG", size: tuple[int, int] = (60, 80), mode: str = "L") -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format=kind)
    return file.getvalue()


def post(client: TestClient, data: bytes, query: str = "", **options: Any) -> Any:
    return client.post(f"/v1/predict{query}", files={"file": ("patient-name.png", data)}, **options)


def test_without_a_captioner_nobody_is_asked_for_words(models: Models) -> None:
    reply = post(TestClient(build(models, captioned=False)), picture()).json()
    assert reply["caption"] is None
    assert models.pixels == []
    assert [caption.status for caption in models.captions] == ["empty"]
    assert "caption" not in reply["timings_ms"]
    assert "total" in reply["timings_ms"]


def refused(response: Any, status: int) -> dict[str, str]:
    """Check that `response` is a refusal in the one form there is, and return it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    return dict(body["error"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_radiograph_gets_an_answer(client: TestClient, models: Models, kind: str) -> None:
    response = post(client, picture(kind))
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["fracture"] is True
    assert body["radiograph"] == {"width": 60, "height": 80, "format": kind, "bits": 8}
    assert body["notice"] == NOTICE
    assert "means nothing on a real radiograph" in body["reliability"]
    assert body["overlay_png"]
    assert {"decode", "caption", "decide", "explain", "total"} <= set(body["timings_ms"])
    assert body["request_id"]
    assert models.pixels[0].shape == (IMAGE_SIZE, IMAGE_SIZE)
    assert models.pixels[0].dtype == np.uint8
    assert models.observed == [("fracture", "ok")]


def test_overlay_can_be_left_out(client: TestClient, models: Models) -> None:
    body = post(client, picture(), "?overlay=false").json()
    assert body["overlay_png"] is None
    assert models.overlays == [False]


def test_the_request_id_of_the_client_is_kept_unless_it_could_forge_log_lines(client: TestClient) -> None:
    good = post(client, picture(), headers={"X-Request-ID": "ward-7.x_1"}).json()["request_id"]
    assert good == "ward-7.x_1"
    odd = post(client, picture(), headers={"X-Request-ID": "a b=c;" * 30}).json()["request_id"]
    assert " " not in odd


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (b"", 422, "RadiographError"),
        (b"not a picture at all", 422, "RadiographError"),
        (picture()[:200], 422, "RadiographError"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, 422, "RadiographError"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 40, 422, "RadiographError"),
        (picture(size=(400, 300)), 413, "RadiographTooLargeError"),
        (b"\0" * (MAX_BYTES + 1), 413, "RadiographTooLargeError"),
    ],
    ids=["empty", "text", "cut off", "png header only", "broken dicom", "many pixels", "many bytes"],
)
def test_unusable_files_are_refused_with_a_reason(
    client: TestClient, models: Models, data: bytes, status: int, kind: str
) -> None:
    assert refused(post(client, data), status)["type"] == kind
    assert models.pixels == []
    assert models.observed == [("none", kind)]


def test_a_request_without_the_file_field_is_refused(client: TestClient) -> None:
    assert "'file'" in refused(client.post("/v1/predict"), 422)["message"]
    assert "'file'" in refused(client.post("/v1/predict", files={"image": picture()}), 422)["message"]
    assert "'file'" in refused(client.post("/v1/predict", data={"file": "text"}), 422)["message"]


def test_an_impossible_query_and_a_broken_form_are_refused(client: TestClient) -> None:
    assert "overlay" in refused(post(client, picture(), "?overlay=perhaps"), 422)["message"]
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(client.post("/v1/predict", content=b"--y\r\nnonsense", headers=broken), 400)
    refused(client.get("/v1/predict"), 405)
    refused(client.get("/v2/predict"), 404)


def test_an_upload_that_declares_too_much_is_refused_before_it_is_read(client: TestClient) -> None:
    response = client.post("/v1/predict", content=b"", headers={"Content-Length": str(10**12)})
    assert refused(response, 413)["type"] == "RadiographTooLargeError"


def test_an_endless_upload_is_ended_at_the_limit(client: TestClient) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        while sent < 50 * MAX_BYTES:
            sent += 10_000
            yield b"\0" * 10_000

    async def ask() -> tuple[int, bytes]:
        chunks = endless()
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/predict",
            "raw_path": b"/v1/predict",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
        }
        await client.app(scope, receive, send)  # type: ignore[arg-type]
        return messages[0]["status"], messages[1]["body"]

    status, body = asyncio.run(ask())
    assert status == 413
    assert b"RadiographTooLargeError" in body
    assert sent <= MAX_BYTES + ENVELOPE_BYTES + 20_000


@pytest.mark.parametrize("stage", ["caption_error", "decision_error"])
def test_a_full_queue_is_an_honest_503(client: TestClient, models: Models, stage: str) -> None:
    setattr(models, stage, BackPressureError(num_queued_requests=9, max_queued_requests=9))
    response = post(client, picture())
    assert refused(response, 503)["type"] == "OverloadedError"
    assert int(response.headers["Retry-After"]) > 0
    assert models.observed == [("none", "OverloadedError")]


def test_a_captioner_that_died_still_leaves_an_answer_with_a_warning(
    client: TestClient, models: Models
) -> None:
    models.caption_error = RayActorError()
    body = post(client, picture()).json()
    assert body["caption"] is None
    assert "no caption" in body["warnings"][0]
    assert models.captions[0].status == "failed"


def test_an_internal_failure_is_told_without_its_details(client: TestClient, models: Models) -> None:
    models.decision_error = KeyError("patient-name.png")
    assert refused(post(client, picture()), 500)["type"] == "InternalError"
    assert models.observed == [("none", "InternalError")]


def test_the_log_has_one_line_per_request_without_the_file_name(client: TestClient) -> None:
    lines: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("ray.serve")
    level = log.level
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    try:
        request_id = post(client, picture()).json()["request_id"]
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
    assert len(lines) == 1
    assert request_id in lines[0]
    assert "patient-name" not in lines[0]


def test_facts_and_health(client: TestClient) -> None:
    facts = client.get("/v1/model").json()
    assert facts["notice"] == NOTICE
    assert facts["figures"] is None
    assert (facts["data_kind"], facts["reliability"]) == ("phantoms", FACTS.reliability)
    assert facts["operating_point"] == 0.4
    assert client.get("/healthz").json() == {"status": "ok", "bundle_id": FACTS.bundle_id}


def test_openapi_describes_answer_and_refusals(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert FACTS.reliability in schema["info"]["description"]
    responses = schema["paths"]["/v1/predict"]["post"]["responses"]
    assert responses["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/ServedAnswer")
    for status in ("413", "422", "503"):
        reference = responses[status]["content"]["application/json"]["schema"]["$ref"]
        assert reference.endswith("/ProblemBody")
    assert "probability" in schema["components"]["schemas"]["ServedAnswer"]["properties"]


def _damaged(kind: str) -> Callable[[tuple[int, bytes]], bytes]:
    whole = picture(kind)

    def damage(change: tuple[int, bytes]) -> bytes:
        place, piece = change[0] % len(whole), change[1]
        return whole[:place] + piece + whole[place + len(piece) :]

    return damage


_CHANGES = st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12))


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda rest: b"\0" * 128 + b"DICM" + rest),
        *(_CHANGES.map(_damaged(kind)) for kind in ("PNG", "JPEG", "TIFF")),
    )
)
def test_no_bytes_make_the_service_fail(data: bytes) -> None:
    response = post(TestClient(build(Models()), raise_server_exceptions=False), data)
    assert response.status_code in (200, 413, 422), response.text
    if response.status_code != 200:
        refused(response, response.status_code)
