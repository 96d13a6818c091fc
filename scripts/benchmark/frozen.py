"""A frozen backbone that runs once, against the usual loop that runs it in every epoch; and how fast it runs that once.

    python frozen.py epochs [--images 310]    20 epochs of feature_extract, first run and second, against the usual loop
    python frozen.py rate [--images 310]      rows a second from JPEG to features, against the bare backbone

On Office-31's amazon, which TLRUN_DATA must hold, through EfficientNet-Lite0; --images takes so many of its 2,817, evenly
from its classes. The usual loop is timed over one epoch, twenty of which it would take. Whatever else the machine does
should meet both sides: `epochs` times them one after the other, `rate` in turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from table import at_least, plain, show
from torch import Tensor, nn

from tlrun.compose.plan import Request, settings
from tlrun.compose.resolve import name_choices, name_machine
from tlrun.config import ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.data.streams import evaluation_batches
from tlrun.engine.runtime import Runtime
from tlrun.experiment import run
from tlrun.models.transfer import TransferModel, build_model
from tlrun.models.zoo import load_weights

EPOCHS = 20
BATCH = 128
BARE_BATCHES = (8, 16, 32, 64)
"""The bare backbone is given the batch size that suits it best."""
TURN = 15
"""Blocks of images in a turn of `rate`. Two more are read ahead while the bare backbone has its turn, so turns are long."""


def linked(folder: Path, images: int) -> Path:
    """A folder of links to so many images, evenly from all classes."""
    root = Path(os.environ.get("TLRUN_DATA", "data")) / "office31" / "amazon" / "images"
    if not root.is_dir():
        raise SystemExit(f"frozen.py: no {root}; TLRUN_DATA must name a folder that holds office31")
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    ranked = sorted((place, path) for each in classes for place, path in enumerate(sorted(each.iterdir())))
    for _, path in ranked[:images]:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    return folder


def described(folder: Path, images: Path, *overrides: str) -> ExperimentConfig:
    asked = (
        *("data=folder", f"data.target.root={images}", "data.target_labels=all", "data.target.title=amazon"),
        *("model=efficientnet_lite0", "strategy=feature_extract", f"engine.epochs={EPOCHS}"),
        *(f"data.cache_root={folder / 'cache'}", f"run.root={folder / 'outputs'}", f"engine.batch_size={BATCH}"),
    )
    return name_choices(settings(Request((*asked, *overrides))))


def network(config: ExperimentConfig, shape: tuple[int, ...], classes: tuple[str, ...]) -> TransferModel:
    """The backbone with its published weights and a fresh head."""
    model = build_model(config.model, shape=shape, num_classes=len(classes))
    load_weights(model, config.model, classes=classes)
    return model


def epochs(images: int) -> None:
    """First and second run of a sweep, then the usual loop."""
    with tempfile.TemporaryDirectory(prefix="tlrun-benchmark-") as name:
        folder = Path(name)
        photographs = linked(folder / "photographs", images)
        seconds = []
        for rate in ("0.002", "0.004"):
            began = time.monotonic()
            run(described(folder, photographs, f"optim.lr={rate}"), command="benchmark")
            seconds.append(time.monotonic() - began)
        usual = EPOCHS * usual_epoch(described(folder, photographs), photographs)
    plain(f"{EPOCHS} epochs over {images} images in the usual loop", usual, " s")
    plain("  the same with feature_extract, from an empty cache", seconds[0], " s")
    plain("  another run of the sweep", seconds[1], " s")
    at_least("feature_extract against the usual loop", usual / seconds[0], 10.0)
    at_least("another run of the sweep against the usual loop", usual / seconds[1], 50.0)


def usual_epoch(config: ExperimentConfig, photographs: Path) -> float:
    """Seconds of one epoch: every image read by two workers and run through the frozen backbone, the head trained."""
    import importlib

    from torch.utils.data import DataLoader

    from tlrun.models.vision import import_torchvision

    import_torchvision()
    transforms = importlib.import_module("torchvision.transforms")
    chain = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
         transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )  # fmt: skip
    dataset = importlib.import_module("torchvision.datasets").ImageFolder(str(photographs), chain)
    model = network(config, (3, 224, 224), tuple(dataset.classes)).eval()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.002)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2)
    began = time.monotonic()
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).logits, y).backward()
        optimizer.step()
    return time.monotonic() - began


def rate(images: int) -> None:
    """In turns: some blocks as a run encodes them, then as many ready images through the bare backbone."""
    with tempfile.TemporaryDirectory(prefix="tlrun-benchmark-") as name, torch.inference_mode():
        folder = Path(name)
        config, device = name_machine(described(folder, linked(folder / "photographs", images)))
        pair = load_pair(config.data, seed=0, device=device)
        model = network(config, pair.shape, pair.task.classes).to(device).eval()
        runtime = Runtime(device, config.engine.precision)  # type: ignore[arg-type]
        part = pair.parts["target_unlabelled"]
        batches = evaluation_batches(
            part, statistics=pair.statistics["target"], shape=pair.shape, batch_size=config.engine.eval_batch_size
        )

        def forward(x: Tensor) -> None:
            with runtime.autocast():
                model.encode_prefix(x, len(model.stage_names) - 1)

        ready = torch.randn(max(BARE_BATCHES), *pair.shape, device=device)
        ready = ready.contiguous(memory_format=torch.channels_last)
        best = min(BARE_BATCHES, key=lambda size: bare(forward, ready[:size], 64))
        ratios, speeds, busy = [], [], [0.0, 0.0]
        for count, seconds, processor in turns(batches, forward, runtime):
            began = time.process_time()
            by_itself = bare(forward, ready[:best], count)
            busy = [busy[0] + time.process_time() - began, busy[1] + processor]
            ratios.append(by_itself / seconds)
            speeds.append(count / seconds)
    show(f"precision {runtime.precision}, {torch.get_num_threads()} threads, the bare backbone in batches of {best}")
    plain("JPEG files to features", median(speeds), " /s")
    at_least("JPEG files to features against the bare backbone on ready tensors", median(ratios), 0.75)
    plain("  the same by processor time of all threads", busy[0] / busy[1])


def turns(batches: Iterator, forward, runtime: Runtime) -> Iterator[tuple[int, float, float]]:  # type: ignore[no-untyped-def, type-arg]
    """Rows, seconds and processor seconds of each turn of encoding but the first, which warms up."""
    count, began, busy, first = 0, time.monotonic(), time.process_time(), True
    for number, examples in enumerate(batches, start=1):
        forward(examples.x)
        count += len(examples)
        if number % TURN == 0:
            runtime.synchronize()
            if not first:
                yield count, time.monotonic() - began, time.process_time() - busy
            count, began, busy, first = 0, time.monotonic(), time.process_time(), False


def bare(forward, x: Tensor, rows: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds for so many rows in batches like x."""
    began = time.monotonic()
    for _ in range(max(rows // len(x), 1)):
        forward(x)
    return (time.monotonic() - began) * rows / (max(rows // len(x), 1) * len(x))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("epochs", "rate"))
    parser.add_argument("--images", type=int, default=2817)
    asked = parser.parse_args()
    sys.exit({"epochs": epochs, "rate": rate}[asked.what](asked.images))
