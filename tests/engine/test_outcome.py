"""What the summary says of rows that both domains show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.nn.functional import normalize

from tests.engine.runs import DIGITS, TOY
from tlrun.run import RunFolder
from tlrun.trained import load_run_pair, load_trained

Train = Callable[..., RunFolder]
TWINS = (
    *(each for each in DIGITS if ".target" not in each),
    *("domain@data.target=degraded", "domain@data.target.of=mnist", "data.target.of.name=tests.engine.small_digits"),
    *("+data.target.of.colours=false", "data.target.kind=noise", "strategy=source_only"),
)
FIELDS = ("twin_rows", "twin_agreement", "twin_cosine")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_twins_are_compared_row_by_row(train: Train) -> None:
    folder = train(*TWINS, "data.target.severity=5")
    trained = load_trained(folder)
    parts = load_run_pair(folder, trained.config).parts
    source, target = (trained.encode(parts[f"{role}_test"]) for role in ("source", "target"))
    agreement = (source.logits.argmax(1) == target.logits.argmax(1)).float().mean()
    cosine = (normalize(source.features) * normalize(target.features)).sum(1).mean()
    summary = folder.read_summary()
    assert summary["twin_rows"] == 100
    assert summary["twin_agreement"] == pytest.approx(agreement.item())
    assert summary["twin_cosine"] == pytest.approx(cosine.item(), rel=1e-5)
    assert 0.2 < summary["twin_agreement"] < 1.0
    assert summary["twin_cosine"] < 0.999


@pytest.mark.slow
def test_a_milder_sensor_leaves_twins_more_alike(train: Train) -> None:
    cosines = [train(*TWINS, f"data.target.severity={each}").read_summary()["twin_cosine"] for each in (1, 5)]
    assert cosines[0] > cosines[1]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["features", "digits in colours"])
def test_domains_of_other_rows_have_no_twins(which: str, train: Train) -> None:
    in_colours = tuple(each.replace("source.colours=false", "source.colours=true") for each in TWINS)
    settings = (*TOY, "strategy=source_only") if which == "features" else (*in_colours, "data.target.severity=1")
    summary = train(*settings).read_summary()
    assert [summary[field] for field in FIELDS] == [None, None, None]
