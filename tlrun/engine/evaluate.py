"""What a model is worth on every split: the figures of one evaluation, and what the selection rules may see of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tlrun.batch import Examples, Inputs, Output
from tlrun.config import Rule
from tlrun.data.domain import Part
from tlrun.engine.runtime import Runtime
from tlrun.engine.selection import Evidence, RowsRead
from tlrun.engine.tally import ADVICE
from tlrun.engine.validation import LEAST_ROWS, Sample, validate
from tlrun.metrics.classification import ClassificationMetrics, SplitMetrics
from tlrun.metrics.label_free import LabelFree, LabelFreeMetrics
from tlrun.run import RunError
from tlrun.run_files import EVALUATION_PARTS
from tlrun.strategies.base import Strategy

Batches = Callable[[Part], Iterable[Examples]]


@dataclass(frozen=True)
class Evaluation:
    """One look at a model: figures by split, the label-free ones, target val accuracy where labels were granted.

    The label-free ones are of target val, or of the whole target where the protocol is transductive. samples: of source
    val with labels and of those target rows without, what the validators compare.
    """

    splits: Mapping[str, SplitMetrics]
    label_free: LabelFree
    granted_target_val_accuracy: float | None
    samples: tuple[Sample, Sample]

    def evidence(self, epoch: int) -> Evidence:
        """What the selection rules may read of it; only the oracle's field comes from withheld labels.

        The validators are computed here, so that an evaluation that chooses nothing does not pay for them.
        """
        return Evidence(
            epoch=epoch,
            source_val_accuracy=self.splits["source_val"].accuracy,
            granted_target_val_accuracy=self.granted_target_val_accuracy,
            entropy=self.label_free.entropy,
            information_maximisation=self.label_free.information_maximisation,
            bnm=self.label_free.nuclear_norm,
            **asdict(validate(*self.samples)),
            withheld_target_test_accuracy=self.splits["target_test"].accuracy,
        )

    def columns(self) -> dict[str, Any]:
        """Its cells of a row of metrics.csv."""
        row: dict[str, Any] = {"largest_class_share": self.label_free.largest_class_share}
        for name, split in self.splits.items():
            row[f"{name}_accuracy"] = split.accuracy
            row[f"{name}_macro_f1"] = split.macro_f1
            row[f"{name}_loss"] = split.loss
            row[f"{name}_calibration_error"] = split.calibration_error
        return row


class Evaluator:
    """Runs a strategy over whole parts, in eval mode, in order and without augmentation. Draws nothing at random.

    Of rows that come with `views` the probabilities are averaged, and the features.
    """

    def __init__(self, strategy: Strategy, batches: Batches, runtime: Runtime) -> None:
        self.strategy = strategy
        self.batches = batches
        self.runtime = runtime
        self.num_classes = strategy.task.num_classes

    def evaluate(self, parts: Mapping[str, Part]) -> Evaluation:
        """The figures of every evaluation split. Raises RunError where predictions are not finite."""
        splits: dict[str, SplitMetrics] = {}
        label_free = LabelFreeMetrics(self.num_classes, self.runtime.device)
        granted = self._metrics()
        source, target = Sample(len(parts["source_val"])), Sample(_rows_without_labels(parts))
        for name in EVALUATION_PARTS:
            part = parts[name]
            metrics = self._metrics()
            start = 0
            for examples, output in self.outputs(part):
                assert examples.y is not None
                metrics.update(output.logits, examples.y)
                if name == "source_val":
                    source.add(output, examples.y)
                if part.judged_without_labels:
                    target.add(output, None)
                    label_free.update(output.logits)
                if name == "target_val":
                    assert part.granted is not None
                    rows = part.granted[start : start + len(examples)]
                    granted.update(output.logits[rows], examples.y[rows])
                    start += len(examples)
            splits[name] = metrics.result()
            _check_finite(splits[name].loss, f"the loss on the {name.replace('_', ' ')} rows")
        if parts["target_granted"].judged_without_labels:
            for _, output in self.outputs(parts["target_granted"]):
                target.add(output, None)
                label_free.update(output.logits)
        unlabelled = label_free.result()
        _check_finite(unlabelled.entropy, "the entropy of the predictions on target rows")
        return Evaluation(splits, unlabelled, granted.result().accuracy, (source, target))

    def accuracy(self, part: Part) -> float | None:
        """Accuracy on one split alone; None where it has no rows."""
        metrics = self._metrics()
        for examples, output in self.outputs(part):
            assert examples.y is not None
            metrics.update(output.logits, examples.y)
        return metrics.result().accuracy

    def encode(self, part: Part) -> tuple[Tensor, Output]:
        """Row numbers (N,), features (N, D) and logits (N, C) of a whole part, in order, on the device."""
        rows = [(examples.index, output) for examples, output in self.outputs(part)]
        features = torch.cat([output.features for _, output in rows])
        logits = torch.cat([output.logits for _, output in rows])
        return torch.cat([index for index, _ in rows]), Output(features, logits)

    def outputs(self, part: Part) -> Iterator[tuple[Examples, Output]]:
        """Each batch of a part with what the model says of it, as `output` gives it."""
        for examples in self.batches(part):
            yield examples, self.output(examples)

    @torch.no_grad()
    def output(self, examples: Examples) -> Output:
        """What the model says of one batch, over all its views, logits in float32. Leaves the strategy in eval mode."""
        self.strategy.eval()
        outputs = [self._predict(x, examples.domain) for x in (examples.x, *examples.views)]
        return outputs[0] if len(outputs) == 1 else mean_output(outputs)

    def _predict(self, x: Inputs, domain: str) -> Output:
        with self.runtime.autocast():
            output = self.strategy.predict(x, domain)
        return Output(output.features, output.logits.float())

    def _metrics(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.num_classes, self.runtime.device)


_LABEL_FREE: tuple[Rule, ...] = ("entropy", "information_maximisation", "bnm")
_COMPARING: tuple[Rule, ...] = ("dev", "iwv", "nearest_source", "feature_mmd")


def mean_output(outputs: Sequence[Output]) -> Output:
    """The mean of several outputs on the same rows: of the features, and of the probabilities, given as their logarithm."""
    logits = torch.stack([output.logits.log_softmax(dim=1) for output in outputs]).logsumexp(dim=0)
    features = torch.stack([output.features for output in outputs]).mean(dim=0)
    return Output(features, logits - math.log(len(outputs)))


def rows_read(parts: Mapping[str, Part]) -> dict[Rule, tuple[RowsRead, ...]]:
    """What each selection rule would read in an evaluation of these parts; `last` reads nothing."""
    granted = parts["target_val"].granted
    assert granted is not None
    source, without_labels = int(_has_class(parts["source_val"]).sum()), _rows_without_labels(parts)
    target = RowsRead("target rows", without_labels, LEAST_ROWS)
    compared = (RowsRead("labelled source rows", source, LEAST_ROWS), target)
    return {
        "source_val": (RowsRead("labelled rows", source),),
        "target_val": (RowsRead("labelled rows", int((_has_class(parts["target_val"]) & granted).sum())),),
        **dict.fromkeys(_LABEL_FREE, (RowsRead("rows", without_labels),)),
        "snd": (target,),
        **dict.fromkeys(_COMPARING, compared),
        "oracle": (RowsRead("labelled rows", int(_has_class(parts["target_test"]).sum())),),
    }


def labelled_rows(parts: Mapping[str, Part]) -> dict[str, int]:
    """How many rows of each evaluation part have a label of the task."""
    return {name: int(_has_class(parts[name]).sum()) for name in EVALUATION_PARTS}


def _check_finite(figure: float | None, what: str) -> None:
    """Raises RunError for a figure that is not finite: running statistics may overflow where no loss of training did."""
    if figure is not None and not math.isfinite(figure):
        raise RunError(f"{what} is not finite; {ADVICE}")


def _rows_without_labels(parts: Mapping[str, Part]) -> int:
    """How many rows the rules without labels read."""
    return sum(len(part) for part in parts.values() if part.judged_without_labels)


def _has_class(part: Part) -> Tensor:
    assert part.y is not None
    return part.y >= 0


def class_rows(evaluation: Evaluation, classes: tuple[str, ...], epoch: int) -> list[dict[str, Any]]:
    """The rows of classes.csv for one evaluation."""
    rows = []
    for name, split in evaluation.splits.items():
        domain, part = name.split("_")
        for label, figures in zip(classes, split.classes, strict=True):
            place = {"epoch": epoch, "domain": domain, "split": part, "class": label}
            rows.append(place | asdict(figures))
    return rows
