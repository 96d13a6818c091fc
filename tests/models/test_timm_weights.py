"""timm's published weights: found on this machine, fetched where that is allowed, never asked for otherwise."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.data.server import serve
from tests.models.conftest import model_settings
from tlrun.config import ConfigError
from tlrun.models import timm as timm_models
from tlrun.models.vision import import_torchvision

ARCH, FOREIGN = "test_resnet.r160_in1k", "test_efficientnet.r160_in1k"
"""The smallest networks that timm publishes weights of; the server has those of the first."""

PROGRAM = f"""
import sys, urllib.request
import torch
from safetensors.torch import load_file
from tests.models.conftest import make_model, model_settings
from tlrun.config import ConfigError
from tlrun.models import zoo

endpoint, expected = sys.argv[1:]

def load(arch, download):
    config = model_settings("timm", arch=arch, weights="imagenet", head="keep", download=download)
    model = make_model("timm", (3, 64, 64), num_classes=1000, arch=arch)
    try:
        return model, zoo.load_weights(model, config, classes=tuple(map(str, range(1000))))
    except ConfigError as error:
        print(error)

def mark(name):
    urllib.request.urlopen(f"{{endpoint}}/{{name}}").read()

load({ARCH!r}, False)
mark("asked nothing")
model, loaded = load({ARCH!r}, True)
own = model.backbone.own_names(load_file(expected))
state = {{name.removeprefix("backbone."): tensor for name, tensor in model.state_dict().items()}}
assert own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)
print(loaded.origin)
mark("fetched")
load({ARCH!r}, True)
mark("found again")
load({FOREIGN!r}, True)
""".replace("asked nothing", "asked-nothing").replace("found again", "found-again")


@pytest.fixture(scope="module")
def timm():
    import_torchvision()
    return pytest.importorskip("timm", reason="needs the extra timm")


@pytest.fixture
def hugging_face(timm, tmp_path: Path) -> Iterator[tuple[str, list[str], Path]]:
    """Its address, what it was asked, and the file that it gives: the weights of ARCH, as its own layout has them."""
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model(ARCH, pretrained=False).state_dict(), path)
    content, asked = path.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            is_file = self.path.endswith(f"{ARCH}/resolve/main/model.safetensors")
            is_mark = self.path.count("/") == 1
            self.send_response(200 if is_file or is_mark else 404)
            self.send_header("ETag", '"1234"')
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", str(len(content) if is_file else 0))
            self.end_headers()
            if is_file and self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked, path
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_weights_on_hugging_face_are_fetched_once_where_that_is_allowed_and_not_asked_for_otherwise(
    hugging_face, tmp_path: Path
):
    endpoint, asked, path = hugging_face
    # The library reads these as it is imported, so they need a process of its own.
    env = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "TLRUN_WEIGHTS": "",
        "TQDM_DISABLE": "1",
    }
    env |= {"no_proxy": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", PROGRAM, endpoint, str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, origin, missing = done.stdout.splitlines()
    assert refused.startswith(f"model.weights: imagenet needs {ARCH}.safetensors, found neither in ")
    assert f"fetch it from {endpoint}/timm/{ARCH} with model.download=true" in refused
    assert origin == "imagenet (model.safetensors)"
    assert missing.startswith(f"model.download: the weights of timm/{FOREIGN} could not be fetched from {endpoint} (")
    marks = [asked.index(f"GET /{mark}") for mark in ("asked-nothing", "fetched", "found-again")]
    assert marks[0] == 0
    assert set(asked[1 : marks[1]]) == {f"{how} /timm/{ARCH}/resolve/main/model.safetensors" for how in ("HEAD", "GET")}
    assert marks[2] == marks[1] + 1
    assert all(FOREIGN in request for request in asked[marks[2] + 1 :])


def test_weights_at_an_address_are_fetched_once_where_that_is_allowed_and_not_asked_for_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with serve({"some.pth": b"weights"}) as server:
        published = types.SimpleNamespace(
            architecture="some", tag="", hf_hub_id=None, url=server.address("some.pth")
        )  # fmt: skip
        monkeypatch.setattr(timm_models, "description", lambda arch: published)
        with pytest.raises(ConfigError, match="fetch it from http://127.0.0.1:.*/some.pth with model.download=true"):
            timm_models.find_weights("some", model_settings("timm", arch="some"))
        assert server.asked == []
        for _ in range(2):
            path = timm_models.find_weights("some", model_settings("timm", arch="some", download=True))
            assert path.read_bytes() == b"weights"
        assert server.asked == [("some.pth", None)]
