"""The facts in the headings of configs/model: parameters, published top-1 accuracy, size of the images."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.models.conftest import CONFIGS, make_model
from tlrun.listing import heading
from tlrun.models.torchvision import input_spec, published_weights

FACTS = re.compile(r"([\d.]+) M parameters, ([\d.]+) % top-1, (\d+) pixels")
TOLD = {
    path.stem: match.groups() for path in (CONFIGS / "model").glob("*.yaml") if (match := FACTS.search(heading(path)))
}
NAMED = [
    path.stem
    for path in sorted((CONFIGS / "model").glob("*.yaml"))
    if yaml.safe_load(path.read_text()).get("arch", "???") != "???"
]
"""Those that are one network of torchvision."""


def test_every_network_with_published_weights_tells_its_facts():
    assert TOLD.keys() == {*NAMED, "efficientnet_lite0"}


@pytest.mark.parametrize("name", NAMED)
def test_headings_tell_what_torchvision_publishes(name):
    arch = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())["arch"]
    published = published_weights(arch).meta
    accuracy = published["_metrics"]["ImageNet-1K"]["acc@1"]
    assert TOLD[name] == (f"{published['num_params'] / 1e6:.1f}", f"{accuracy:.1f}", str(input_spec(arch).size))


def test_the_heading_of_efficientnet_lite0_tells_its_size_and_its_authors_figure():
    model = make_model("efficientnet_lite0", (3, 32, 32), num_classes=1000)
    parameters = sum(each.numel() for each in model.parameters())
    # 75.1 %: the table of TensorFlow's repository of EfficientNet-Lite; no package here holds it.
    assert TOLD["efficientnet_lite0"] == (f"{parameters / 1e6:.1f}", "75.1", str(model.backbone.config.input_spec.size))
