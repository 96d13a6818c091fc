from __future__ import annotations

import subprocess
import sys
import types

import pytest
import torch

from tlrun.models import vision

PROGRAM = """
import torch

declared = []
define = torch.library.define
torch.library.define = lambda name, *rest: (declared.append(name), define(name, *rest))

from tlrun.models.vision import import_torchvision

first = import_torchvision()
assert import_torchvision() is first
import torchvision, torchvision.transforms.v2
assert torchvision is first
network = torchvision.models.resnet18(weights=None).eval()
assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
fits = torchvision.extension._has_ops()
assert declared == ([] if fits else ["torchvision::nms", "torchvision::qnms"]), (fits, declared)
"""


@pytest.mark.slow
def test_torchvision_is_imported_once_and_works_beside_the_torch_that_is_here():
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def declared(monkeypatch):
    names = []
    monkeypatch.setattr(torch.library, "define", lambda name, *rest: names.append(name))
    return names


def test_nothing_is_declared_beside_a_torchvision_that_fits(monkeypatch, declared):
    fitting = types.ModuleType("torchvision")
    monkeypatch.setattr(vision.importlib, "import_module", lambda name: fitting)
    assert vision.import_torchvision() is fitting
    assert declared == []


def test_other_errors_of_torchvision_are_not_hidden(monkeypatch, declared):
    tries = []

    def refuse(name):
        tries.append(name)
        raise RuntimeError("PyTorch and torchvision were compiled with different CUDA major versions")

    monkeypatch.setattr(vision.importlib, "import_module", refuse)
    with pytest.raises(RuntimeError, match="different CUDA major versions"):
        vision.import_torchvision()
    assert tries == ["torchvision"]
    assert declared == []


def test_a_second_failure_is_not_tried_again(monkeypatch, declared):
    tries = []

    def refuse(name):
        tries.append(name)
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(vision.importlib, "import_module", refuse)
    with pytest.raises(RuntimeError, match="torchvision::nms"):
        vision.import_torchvision()
    assert tries == ["torchvision", "torchvision"]
