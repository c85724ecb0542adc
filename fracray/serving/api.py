"""The HTTP API: one radiograph in, one answer out; whatever is wrong is said in one line of JSON."""

import logging
import re
import uuid
from typing import Annotated

from fastapi import FastAPI, File, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fracray import __version__
from fracray.errors import FracrayError
from fracray.explain.answer import NOTICE
from fracray.serving.facts import ModelFacts
from fracray.serving.predictor import Predictor, ServedAnswer

_log = logging.getLogger("ray.serve")

ENVELOPE_BYTES = 64 * 1024
"""What a multipart body may hold beside the file: boundaries and part headers."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Problem(BaseModel):
    """What is wrong and what to do next."""

    type: str
    message: str


class ProblemBody(BaseModel):
    """Body of every answer that is no success."""

    error: Problem


class Health(BaseModel):
    """The service takes requests."""

    status: str = "ok"
    bundle_id: str


def build_api(predictor: Predictor, facts: ModelFacts) -> FastAPI:
    """Return the HTTP service without the page: /v1/predict, /v1/model, /healthz and /docs."""
    api = FastAPI(
        title="fracray",
        version=__version__,
        summary="Finds fractured bones on radiographs, and shows why.",
        description=f"{NOTICE}\n\n{facts.reliability} {facts.data_note}",
    )
    api.add_middleware(BodyLimit, max_bytes=facts.max_bytes + ENVELOPE_BYTES)
    api.add_exception_handler(FracrayError, _say_own)
    api.add_exception_handler(RequestValidationError, _say_invalid)
    api.add_exception_handler(StarletteHTTPException, _say_http)
    api.add_exception_handler(Exception, _say_internal)

    @api.post("/v1/predict", responses={status: {"model": ProblemBody} for status in (400, 413, 422, 503)})
    async def predict(
        request: Request,
        file: Annotated[UploadFile, File(description="a radiograph: PNG, JPEG, TIFF or DICOM")],
        overlay: bool = True,
    ) -> ServedAnswer:
        """Answer for one radiograph: probability, decision, words, what each added, and where to look."""
        prediction = await predictor.predict(
            await file.read(), overlay=overlay, request_id=request_id(request)
        )
        return prediction.answer

    @api.get("/v1/model")
    async def model() -> ModelFacts:
        """What decides, what it was fitted on, and what is known about it."""
        return facts

    @api.get("/healthz")
    async def healthz() -> Health:
        """Say that requests are taken; Ray Serve itself checks the models and replaces those that fail."""
        return Health(bundle_id=facts.bundle_id)

    @api.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/ui/")

    return api


def request_id(request: Request) -> str:
    """Return the id that Serve's proxy or the client gave to `request`, or a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class BodyLimit:
    """ASGI middleware that ends an upload with 413 as soon as it is longer than `max_bytes`.

    Bodies of the API only: the page's uploads are limited by Gradio.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refusal()(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> JSONResponse:
        return _problem(413, "RadiographTooLargeError", TOO_LARGE)


TOO_LARGE = "the upload is larger than the service takes; /v1/model states max_bytes"

_HTTP_MESSAGES = {
    400: "the body is not a multipart form; send one field 'file', as in curl -F file=@radiograph.png",
    404: "there is nothing at this path; /docs lists what there is",
    405: "this path does not take this method; /docs lists what there is",
    413: TOO_LARGE,
}


def _problem(status: int, kind: str, message: str) -> JSONResponse:
    body = ProblemBody(error=Problem(type=kind, message=message))
    headers = {"Retry-After": "5"} if status == 503 else None
    return JSONResponse(body.model_dump(), status, headers)


def _say_own(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FracrayError)
    return _problem(error.http_status, type(error).__name__, str(error))


def _say_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    where = [str(part) for part in error.errors()[0]["loc"]]
    if where[-1] == "file":
        return _problem(422, "UsageError", "field 'file' is missing or no file; send the radiograph in it")
    return _problem(422, "UsageError", f"'{'.'.join(where[1:])}': {error.errors()[0]['msg']}")


def _say_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    kind = "RadiographTooLargeError" if error.status_code == 413 else "UsageError"
    return _problem(error.status_code, kind, _HTTP_MESSAGES.get(error.status_code, str(error.detail)))


def _say_internal(_: Request, error: Exception) -> JSONResponse:
    # The message of a foreign error may quote what was uploaded; its kind may not.
    _log.error("internal error: %s", type(error).__name__)
    return _problem(500, "InternalError", "the service failed on this request; its log says when and where")
