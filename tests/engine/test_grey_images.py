"""Images of other kinds than a network's weights were trained on, from the command line to the data card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tlrun.cli import main
from tlrun.models.torchvision import models

GREY = ("data=pair", "domain@data.source=mnist", "domain@data.target=mnist", "data.channels=auto",
        "data.source.name=tests.engine.small_digits", "+data.source.colours=false",
        "data.target.name=tests.engine.small_digits", "+data.target.colours=false")  # fmt: skip
SHORT = ("engine.epochs=1", "engine.steps_per_epoch=1", "engine.batch_size=8", "device=cpu")


@pytest.fixture
def published(tmp_path: Path) -> tuple[str, ...]:
    """A small network with what stands for its ImageNet weights."""
    path = tmp_path / "mobilenet_v3_small.pth"
    torch.save(models().mobilenet_v3_small(weights=None).state_dict(), path)
    return "model=mobilenet_v3_small", "model.weights=imagenet", f"model.weights_file={path}"


@pytest.mark.slow
def test_grey_digits_of_28_pixels_train_a_colour_network_and_the_card_says_how(
    tmp_path: Path, published: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "outputs"
    assert main([*GREY, *SHORT, *published, "strategy=source_only", f"run.root={out}"]) == 0
    said = capsys.readouterr().err
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    card = json.loads((folder / "data.json").read_text())
    assert card["input_shape"] == [3, 28, 28]
    assert card["source"]["fitting"] == "size as it came, 28x28, grey repeated in three channels"
    assert card["source"]["normalized_by_mean"] == [0.485, 0.456, 0.406]
    smaller = "the model sees images of 28 pixels a side, its weights were trained on 224"
    assert card["departures_from_model_input"] == [smaller]
    assert f"images: {smaller}" in said


def test_one_channel_that_was_asked_for_is_refused_with_what_to_set(
    published: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*GREY, *SHORT, *published, "strategy=source_only", "data.channels=1"]) == 2
    assert capsys.readouterr().err.strip() == (
        "data.channels: mobilenet_v3_small takes 3 channels, got 1; set data.channels=3 or auto"
    )


@pytest.mark.slow
def test_the_card_counts_files_that_are_grey_transparent_or_deep(
    tmp_path: Path, published: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.random.RandomState(0).randint(0, 256, (30, 8, 8)).astype(np.uint8)
    alpha = np.full((8, 8, 1), 128, dtype=np.uint8)
    for number, pixels in enumerate(grey):
        made = (pixels, np.concatenate((pixels[..., None].repeat(3, 2), alpha), 2), pixels.astype(np.uint16) * 257)
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[number // 10]).save(path)
    asked = ["data", "show", "--no-picture", "data=folder", f"data.target.root={tmp_path / 'photos'}", *published]
    assert main(asked) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "10 of 30 files looked at have transparency and are laid on white" in lines
    assert (
        "10 of 30 files looked at have more than 8 bits a channel and are scaled to 8 over their whole range" in lines
    )
    assert "20 of 30 files looked at are grey, repeated in three channels" in lines
    assert main([*asked, "data.channels=1", "data.normalize=shared", "model=lenet", "model.weights=random",
                 "model.weights_file=null", "data.image_size=28"]) == 0  # fmt: skip
    assert "repeated" not in capsys.readouterr().out
