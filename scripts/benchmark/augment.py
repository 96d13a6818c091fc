"""What each augmentation costs: milliseconds of one processor for a batch of 128, at 28 and at 224 pixels.

    python augment.py [NAME ...] [--mixes NAME ...]     all of configs/augment and configs/augment/mix, or these

Rows are random images in colour: 28 x 28 for inputs of 28 pixels, 256 x 256 for 224. Processor time and not seconds, the
median of several batches, one thread, so that other work on the machine shows little. `batch` is what every batch costs
before any augmentation: one gather, bytes to floats, normalisation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tlrun.compose.plan import Request, settings
from tlrun.data.augment.augmentation import Augmentation
from tlrun.data.augment.mixing import draw_mixture
from tlrun.data.splits import row_keys
from tlrun.data.transforms import Statistics, to_batch

ROWS = 128
SIZES = {28: 28, 224: 256}
"""The model's side -> the side of the rows."""
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "augment"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser.add_argument("--mixes", nargs="*", default=sorted(path.stem for path in (CONFIGS / "mix").glob("*.yaml")))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'ms of processor for ' + str(ROWS) + ' images':<36}" + "".join(f"{side:>5} px" for side in SIZES))
    show("batch", batch_cost)
    for name in asked.names:
        show(f"augment={name}", lambda size, name=name: pipeline_cost(name, size))
    for name in asked.mixes:
        show(f"augment/mix={name}", lambda size, name=name: mix_cost(name, size))


def show(name: str, cost: Callable[[int], float]) -> None:
    print(f"{name:<36}" + "".join(f"{cost(size):>8.2f}" for size in SIZES), flush=True)


def pipeline_cost(name: str, size: int) -> float:
    config = settings(Request((f"augment={name}", f"data.image_size={size}"))).augment.resolved(characters=False)
    x = images(SIZES[size])
    augmentation = Augmentation(config, (3, size, size), rows=x.shape)
    if config.keeps_images:
        return 0.0

    def once(number: int) -> None:
        seeds = row_keys(torch.arange(ROWS).numpy(), number) if augmentation.is_per_image else None
        augmentation(x, generator=torch.Generator().manual_seed(number), seeds=seeds)

    return measured(once)


def mix_cost(name: str, size: int) -> float:
    mix = settings(Request((f"augment/mix={name}",))).augment.mix
    if mix is None:
        return 0.0
    x = to_batch(images(size), Statistics.of([0.5], [0.5], (3, size, size), torch.device("cpu")), (3, size, size))

    def once(number: int) -> None:
        mixture = draw_mixture(mix, (3, size, size), ROWS, seed=number, device=x.device)
        mixture.rows(x)
        mixture.labels(torch.zeros(ROWS, dtype=torch.int64), 10)

    return measured(once)


def batch_cost(size: int) -> float:
    kept = images(SIZES[size])
    statistics = Statistics.of([0.5], [0.5], (3, size, size), torch.device("cpu"))

    def once(number: int) -> None:
        positions = torch.randperm(ROWS, generator=torch.Generator().manual_seed(number))
        to_batch(kept.index_select(0, positions), statistics, (3, size, size))

    return measured(once)


def images(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (ROWS, side, side, 3), dtype=torch.uint8, generator=generator)


def measured(once: Callable[[int], None]) -> float:
    """The median of some calls in milliseconds of the processor, after one that is not counted."""
    times = []
    for number in range(8):
        start = time.process_time()
        once(number)
        times.append(1000 * (time.process_time() - start))
    return median(times[1:])


if __name__ == "__main__":
    main()
