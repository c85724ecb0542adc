"""Loading, and what a user is told when it cannot work. No network: a stand-in for the model hub answers."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from fracray.captions import memory
from fracray.captions.choose import model_source, open_captioner
from fracray.captions.gemma import GemmaCaptioner
from fracray.captions.loading import save_quantised
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError

HUB_CASES = {
    "gated/no-token": (401, "GatedRepo", "hf auth login"),
    "gated/no-licence": (403, "GatedRepo", "accept its licence"),
    "nobody/nothing": (404, "RepoNotFound", "no such model"),
    "known/other-revision": (404, "RevisionNotFound", "captions.revision"),
    "known/broken-hub": (503, "", "hub"),
}


class Hub(BaseHTTPRequestHandler):
    """Refuses each model the way the hub does."""

    def do_HEAD(self) -> None:
        name = "/".join(self.path.strip("/").split("/")[:2])
        status, code, _ = HUB_CASES.get(name, (404, "EntryNotFound", ""))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ASK = """
import json, sys
from fracray.captions.loading import load_model_config
from fracray.errors import CaptionerError
said = {}
for name in sys.argv[1:]:
    try:
        load_model_config(name, None)
    except CaptionerError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def ask(names: list[str], **environment: str) -> dict[str, str]:
    """What a fresh process says of each model: the hub's address is read when its library is imported."""
    finished = subprocess.run(
        [sys.executable, "-c", ASK, *names],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    said: dict[str, str] = json.loads(finished.stdout.splitlines()[-1])
    return said


def test_each_refusal_of_the_hub_names_its_next_step(hub: str, tmp_path: Path) -> None:
    said = ask(list(HUB_CASES), HF_ENDPOINT=hub, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    for name, (_, _, expected) in HUB_CASES.items():
        assert expected in said[name], said[name]
        assert name in said[name]
        assert "\n" not in said[name]
    assert len(set(said.values())) == len(HUB_CASES)


def test_without_a_network_and_a_cache_the_ways_out_are_named(tmp_path: Path) -> None:
    (said,) = ask(["some/model"], HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1").values()
    assert "hf download some/model" in said
    assert "captions.model=embedded" in said


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("quantised") / "captioner"
    settings = CaptionSettings()
    assert save_quantised(settings, model_source(settings), target) == 21
    return target


def test_a_saved_model_can_be_read_by_all_who_can_read_its_configuration(quantised: Path) -> None:
    configuration = (quantised / "config.json").stat().st_mode
    assert {path.stat().st_mode for path in quantised.glob("*.safetensors")} == {configuration}


def test_a_model_saved_in_four_bits_answers_as_the_one_it_was_made_from(quantised: Path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 240, 240), dtype=np.uint8))
    saved = open_captioner(CaptionSettings(model=str(quantised)))
    assert isinstance(saved, GemmaCaptioner)
    assert saved.quantised_layers == 21
    made = open_captioner(CaptionSettings())
    assert [a.text for a in saved.caption(pictures)] == [a.text for a in made.caption(pictures)]


def test_weights_in_other_bits_than_asked_for_are_refused(quantised: Path) -> None:
    with pytest.raises(CaptionerError, match=r"holds nf4 weights; set captions\.quantisation=nf4"):
        open_captioner(CaptionSettings(model=str(quantised), quantisation="none"))


def test_eight_bits_convert_every_language_layer() -> None:
    captioner = open_captioner(CaptionSettings(quantisation="int8", max_new_tokens=60))
    assert isinstance(captioner, GemmaCaptioner)
    assert captioner.quantised_layers == 21
    assert captioner.self_test.quantised_layers == 21


def test_a_model_larger_than_memory_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)
    with pytest.raises(CaptionerError, match=r"needs 0\.0 GB .* cpu has 0\.0 GB free"):
        open_captioner(CaptionSettings())


def test_weights_in_few_bits_need_the_memory_they_take() -> None:
    layer = torch.nn.Linear(1024, 1024, bias=False)
    others = torch.nn.Embedding(100, 1024)
    model = torch.nn.ModuleList([layer, others])
    plain = memory.needed_bytes(model, {"0": layer}, "none", torch.bfloat16)
    assert plain == 2 * (1024 * 1024 + 100 * 1024)
    nf4 = memory.needed_bytes(model, {"0": layer}, "nf4", torch.bfloat16)
    assert 2 * 100 * 1024 + 4.1 / 8 * 1024**2 < nf4 < 2 * 100 * 1024 + 4.2 / 8 * 1024**2


def test_a_gpu_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(CaptionerError, match="no usable GPU"):
        open_captioner(CaptionSettings(device="cuda:0"))
