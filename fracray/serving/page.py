"""The page at /ui: drop a radiograph, see the decision, its grounds, and where to look.

Gradio brings upload and events; the answer is one piece of HTML with the pictures inside, so that no
radiograph is left in a file for the browser to fetch.
"""

import base64
import io
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from fracray.errors import FracrayError
from fracray.radiographs.read import Radiograph
from fracray.serving.facts import ModelFacts
from fracray.serving.predictor import Prediction, Predictor

PREVIEW_LONG_SIDE = 1024

_TEMPLATES = Environment(
    loader=PackageLoader("fracray.serving", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def mount_page(api: FastAPI, predictor: Predictor, facts: ModelFacts) -> FastAPI:
    """Return `api` with the page at /ui. Nothing on the page is fetched from elsewhere.

    Uploads lie in a private folder until they are read, and are removed then; what an interrupted request
    leaves is removed within ten minutes.
    """
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="fracray-uploads-")
    font = ("system-ui", "sans-serif")
    mono = ("ui-monospace", "monospace")
    theme = gr.themes.Base(font=font, font_mono=mono, primary_hue="teal", neutral_hue="slate")
    css = _TEMPLATES.get_template("page.css").render()
    mounted: FastAPI = gr.mount_gradio_app(
        api,
        build_page(predictor, facts),
        path="/ui",
        theme=theme,
        css=css,
        head='<link rel="icon" href="data:,">',
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=facts.max_bytes,
    )
    return mounted


def build_page(predictor: Predictor, facts: ModelFacts) -> gr.Blocks:
    """Return the page as Gradio blocks, not yet mounted."""

    async def ask(path: str | None) -> str:
        if path is None:
            return render_hint()
        file = Path(path)
        try:
            data = file.read_bytes()
        finally:
            file.unlink(missing_ok=True)
        try:
            prediction = await predictor.predict(data, overlay=True, request_id=uuid.uuid4().hex)
        except FracrayError as error:
            return render_problem(str(error))
        return render_answer(prediction)

    with gr.Blocks(title="fracray", analytics_enabled=False, delete_cache=(300, 300)) as page:
        gr.HTML(render_header(facts), elem_id="about")
        upload = gr.File(label="Radiograph: PNG, JPEG, TIFF or DICOM", elem_id="radiograph", height=130)
        result = gr.HTML(render_hint(), elem_id="answer")
        upload.change(
            ask, upload, result, api_visibility="private", show_progress="minimal", concurrency_limit=16
        )
    return page


def render_header(facts: ModelFacts) -> str:
    """Return what stands above every answer: what decides, and how far to trust it."""
    return _TEMPLATES.get_template("header.html.j2").render(facts=facts)


def render_hint() -> str:
    """Return what stands in the answer's place before there is one."""
    return _TEMPLATES.get_template("hint.html.j2").render(problem=None)


def render_problem(message: str) -> str:
    """Return a refusal as HTML."""
    return _TEMPLATES.get_template("hint.html.j2").render(problem=message)


def render_answer(prediction: Prediction) -> str:
    """Return an answer as HTML with radiograph and heat map inside it."""
    answer = prediction.answer
    parts = answer.contributions
    words = [] if answer.image_alone else [("words", parts.words)]
    sources = [("image", parts.image), *words, ("prior (intercept)", parts.intercept)]
    terms = [(term.term, term.weight) for term in parts.terms]
    largest = max(abs(value) for _, value in sources + terms)
    return _TEMPLATES.get_template("answer.html.j2").render(
        answer=answer,
        preview=_preview(prediction.radiograph),
        sources=bars(sources, largest),
        terms=bars(terms, largest),
    )


def bars(values: list[tuple[str, float]], largest: float) -> list[dict[str, Any]]:
    """Return each value with its bar: `left` and `width` in percent of a track from -`largest` to it."""
    rows = []
    for name, value in values:
        width = 50 * abs(value) / largest if largest else 0.0
        rows.append({"name": name, "value": value, "left": 50 - width if value < 0 else 50.0, "width": width})
    return rows


def _preview(radiograph: Radiograph) -> str:
    picture = Image.fromarray(np.rint(np.clip(radiograph.pixels, 0, 1) * 255).astype(np.uint8))
    picture.thumbnail((PREVIEW_LONG_SIDE, PREVIEW_LONG_SIDE))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
