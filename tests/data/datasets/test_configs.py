"""The YAML files of the domains and pairs: they compose as a user would write them, and hold every field once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tlrun.config import DomainSettings, PairSettings
from tlrun.data.datasets.csv import Csv
from tlrun.data.datasets.degraded import Degraded
from tlrun.data.datasets.digits import Digits
from tlrun.data.datasets.emnist_digits import EmnistDigits
from tlrun.data.datasets.fashion import Fashion
from tlrun.data.datasets.folder import Folder
from tlrun.data.datasets.kmnist import Kmnist
from tlrun.data.datasets.list import List
from tlrun.data.datasets.mnist import Mnist
from tlrun.data.datasets.mnistm import MnistM
from tlrun.data.datasets.moons import Moons
from tlrun.data.datasets.photo_set import SETS, PhotoSetDomain
from tlrun.data.datasets.svhn import Svhn
from tlrun.data.datasets.synthetic_digits import SyntheticDigits
from tlrun.data.datasets.toy_gaussians import ToyGaussians
from tlrun.data.datasets.usps import Usps

CONFIGS = Path(__file__).parents[3] / "configs"
DOMAINS: dict[str, type[DomainSettings]] = {
    "mnist": Mnist.Config,
    "mnistm": MnistM.Config,
    "usps": Usps.Config,
    "toy_gaussians": ToyGaussians.Config,
    "degraded": Degraded.Config,
    "digits": Digits.Config,
    "emnist_digits": EmnistDigits.Config,
    "fashion": Fashion.Config,
    "kmnist": Kmnist.Config,
    "moons": Moons.Config,
    "svhn": Svhn.Config,
    "synthetic_digits": SyntheticDigits.Config,
    "folder": Folder.Config,
    "csv": Csv.Config,
    "list": List.Config,
    "photo_set": PhotoSetDomain.Config,
}
PHOTOS = {
    *("amazon", "dslr", "webcam"),
    *(f"{name}_{part}" for name, published in SETS.items() if name != "office31" for part in published.parts),
}
"""The domains of the published sets of photographs, which share one class."""
PAIRS = {
    "mnist_mnistm": ("mnist", "mnistm"),
    "mnist_usps": ("mnist", "usps"),
    "usps_mnist": ("usps", "mnist"),
    "toy_gaussians": ("toy_gaussians", "toy_gaussians"),
    "fashion_degraded": ("fashion", "degraded"),
    "mnist_degraded": ("mnist", "degraded"),
    "mnist_digits": ("mnist", "digits"),
    "moons": ("moons", "moons"),
    "svhn_mnist": ("svhn", "mnist"),
    "synthetic_mnist": ("synthetic_digits", "mnist"),
    "folders": ("folder", "folder"),
    "visda2017": ("photo_set", "photo_set"),
    **{
        f"office31_{source}_{target}": ("photo_set", "photo_set")
        for source in SETS["office31"].parts
        for target in SETS["office31"].parts
        if source != target
    },
}
FREE = {"pair", "office31", "office_home", "domainnet", "pacs", "image_clef"}
"""Pairs that leave their domains open."""

Compose = Callable[..., dict[str, Any]]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Composes the node `data` from overrides, as the command does, in a config that holds nothing else."""
    monkeypatch.delenv("TLRUN_DATA", raising=False)
    monkeypatch.delenv("TLRUN_CACHE", raising=False)
    (tmp_path / "only_data.yaml").write_text(
        f"defaults:\n  - strategy: dann\n  - model: digits_cnn\n  - augment: none\n  - data: mnist_mnistm\n  - _self_\nhydra:\n  searchpath: ['file://{CONFIGS}']\n"
    )

    def composed(*overrides: str) -> dict[str, Any]:
        version = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}
        with initialize_config_dir(str(tmp_path), **version):
            config = compose("only_data", list(overrides))
        return OmegaConf.to_container(config.data, resolve=True)

    return composed


def typed(data: dict[str, Any]) -> PairSettings:
    return PairSettings(**{**data, **{side: domain(data[side]) for side in ("source", "target")}})


def domain(node: dict[str, Any]) -> DomainSettings:
    within = {"of": domain(node["of"])} if "of" in node else {}
    return DOMAINS[node["name"]](**{**node, **within})


def test_every_file_is_tested_here() -> None:
    assert {path.stem for path in CONFIGS.glob("domain/*.yaml")} == set(DOMAINS) - {"photo_set"} | PHOTOS
    assert {path.stem for path in CONFIGS.glob("data/*.yaml")} == {*PAIRS, *FREE, "folder"}


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_composes_and_types_grants_no_target_label_and_fetches_nothing(node: Compose, name: str) -> None:
    data = node(f"data={name}")
    pair = typed(data)
    assert pair.source is not None
    assert (pair.source.name, pair.target.name) == PAIRS[name]
    assert data.keys() == PairSettings.model_fields.keys()
    assert (pair.target_labels == "none") == (name != "toy_gaussians")
    assert (pair.target_val_labels, pair.download) == ("none", False)


def test_every_domain_holds_every_field() -> None:
    for path in CONFIGS.glob("domain/*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(path))
        if path.stem == "degraded":
            assert values.pop("defaults") == [{"/domain@of": "mnist"}, "_self_"]
            values["of"] = {"name": "mnist"}
        kind = DOMAINS["photo_set" if path.stem in PHOTOS else path.stem]
        assert isinstance(domain(values), kind)
        assert values.keys() == kind.model_fields.keys(), path.stem


@pytest.mark.parametrize("base", ["pair", "mnist_mnistm", "mnist_usps", "usps_mnist"])
def test_either_domain_is_replaced_from_the_command_line(node: Compose, base: str) -> None:
    pair = typed(
        node(f"data={base}", "domain@data.source=usps", "domain@data.target=mnistm", "data.source.frame=padded")
    )
    assert pair.source == Usps.Config(name="usps", frame="padded")
    assert pair.target == MnistM.Config(name="mnistm", images="auto")


def test_a_free_pair_asks_for_its_domains(node: Compose) -> None:
    with pytest.raises(Exception, match=r"You must specify 'domain@data\.target', e\.g, domain@data\.target=<OPTION>"):
        node("data=pair", "domain@data.source=mnist")


def test_the_toy_pair_turns_and_shifts_its_target_only(node: Compose) -> None:
    pair = typed(node("data=toy_gaussians"))
    source, target = pair.source, pair.target
    assert isinstance(source, ToyGaussians.Config)
    assert isinstance(target, ToyGaussians.Config)
    assert (source.rotation, source.shift, source.draw) == (0.0, (0.0, 0.0), 0)
    assert (target.rotation, target.shift, target.draw) == (45.0, (1.5, -1.0), 1)
    assert target.num_rows < source.num_rows
    assert pair.target_labels == 5
    assert typed(node("data=toy_gaussians", "data.target.rotation=90")).target.rotation == 90.0


def test_the_moons_turn_their_target_only_and_grant_none_of_its_labels(node: Compose) -> None:
    pair = typed(node("data=moons"))
    source, target = pair.source, pair.target
    assert isinstance(source, Moons.Config)
    assert isinstance(target, Moons.Config)
    assert (source.rotation, source.draw, target.rotation, target.draw) == (0.0, 0, 35.0, 1)
    assert (pair.target_labels, pair.image_size, pair.channels) == ("none", None, None)


def test_one_folder_grants_all_its_labels_and_has_no_source_unless_one_is_named(node: Compose) -> None:
    data = node("data=folder")
    assert data["source"] is None
    pair = PairSettings(**{**data, "target": domain(data["target"])})
    assert (pair.target_labels, pair.target_val_labels, pair.protocol) == ("all", "all", "split")
    assert node("data=folder", "domain@data.source=webcam")["source"]["part"] == "webcam"


def test_places_come_from_the_environment(node: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    data = node()
    assert (data["root"], data["cache_root"]) == ("data", None)
    monkeypatch.setenv("TLRUN_DATA", "/some/data")
    monkeypatch.setenv("TLRUN_CACHE", "/some/cache")
    data = node()
    assert (data["root"], data["cache_root"]) == ("/some/data", "/some/cache")


@pytest.mark.parametrize(
    "path",
    sorted((*CONFIGS.glob("domain/*.yaml"), *CONFIGS.glob("data/*.yaml"))),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_file_opens_with_a_sentence_for_the_list(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert 20 < len(first) <= 120
