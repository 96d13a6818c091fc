"""The end of a run: the selected model's figures, its predictions, and what a reader of them should be warned of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from tlrun.batch import Output, Task
from tlrun.data.augment.evaluation_views import num_views
from tlrun.data.domain import Part
from tlrun.engine.engine import Engine
from tlrun.engine.evaluate import Evaluation
from tlrun.metrics.classification import SplitMetrics
from tlrun.run import Prediction, digest

DEAD_GRADIENT = 1e-7
"""A transfer term whose gradient norm at the features never exceeds this did nothing."""
SEPARABLE_ACCURACY = 0.99
"""A discriminator that ends above this still tells nearly every row's domain."""

RISEN = 1.1
"""A target loss that ends above its lowest by more than this factor rose; less is the noise of small splits."""


def finish(engine: Engine, *, pretrain_seconds: float | None) -> dict[str, Any]:
    """Puts the selected model in place, writes predictions, confusion matrices and the summary, and returns the last."""
    engine.checkpoints.load_best()
    folder, pair = engine.folder, engine.pair
    parts = engine.parts  # encoded where the last phase's were: its frozen stages are those of the selected model
    evaluation = engine.best_evaluation or engine.evaluator.evaluate(parts)  # the same model, the same rows
    classes = pair.task.classes
    for name, split in evaluation.splits.items():
        if split.rows:  # without a labelled row there is nothing to count
            domain, part = name.split("_")
            folder.write_confusion(domain, part, classes, split.confusion)
    _, output = engine.evaluator.encode(parts["target_test"])
    folder.write_predictions(classes, predicted(engine, output))
    folder.write_metrics(engine.columns, engine.state.rows)
    folder.write_classes(engine.state.class_rows)
    folder.write_summary(summarise(engine, evaluation, pretrain_seconds, likeness=twin_likeness(engine, output)))
    return folder.read_summary()


def predicted(engine: Engine, test: Output) -> list[Prediction]:
    """What the model says of the target's test rows, and of all its other rows whose label nobody knows."""
    pair = engine.pair
    found = _predictions(pair.parts["target_test"], test, "test")
    for name, positions in pair.unknown.items():
        if len(positions):
            part = engine.parts[name].take(torch.from_numpy(positions))
            _, output = engine.evaluator.encode(part)
            found += _predictions(part, output, "val" if name == "target_val" else "train")
    return found


def _predictions(part: Part, output: Output, split: str) -> list[Prediction]:
    assert part.rows is not None
    labels = [-1] * len(part) if part.y is None else part.y.tolist()
    probabilities = output.logits.softmax(dim=1).tolist()
    paths: Sequence[str | None] = part.x.paths() or [None] * len(part)
    return [
        Prediction(split, row, label, shares, path)
        for row, label, shares, path in zip(part.rows.tolist(), labels, probabilities, paths, strict=True)
    ]


def twin_likeness(engine: Engine, target: Output) -> dict[str, Any]:
    """How alike the model finds the rows that both test splits show, where the target is the source seen otherwise.

    target: what the model says of the target test split.
    """
    data, parts = engine.config.data, engine.parts
    twins: dict[str, Any] = {"twin_rows": None, "twin_agreement": None, "twin_cosine": None}
    if data.source is None or not data.target.repeats(data.source):
        return twins
    _, source = engine.evaluator.encode(parts["source_test"])
    rows = [parts[name].rows for name in ("source_test", "target_test")]
    assert rows[0] is not None and rows[1] is not None
    shared, *places = np.intersect1d(rows[0].numpy(), rows[1].numpy(), assume_unique=True, return_indices=True)
    if not len(shared):
        return twins
    first, second = (torch.from_numpy(each).to(source.logits.device) for each in places)
    same = source.logits[first].argmax(1) == target.logits[second].argmax(1)
    cosine = cosine_similarity(source.features[first].float(), target.features[second].float())
    return {
        "twin_rows": len(shared),
        "twin_agreement": same.float().mean().item(),
        "twin_cosine": cosine.mean().item(),
    }


def summarise(
    engine: Engine, evaluation: Evaluation, pretrain_seconds: float | None, *, likeness: dict[str, Any]
) -> dict[str, Any]:
    """The fields of summary.json for a finished run. likeness: those of `twin_likeness`."""
    state, config, splits = engine.state, engine.config, evaluation.splits
    target, source = splits["target_test"], splits["source_test"]
    known = [row["target_test_accuracy"] for row in state.rows if row.get("target_test_accuracy") is not None]
    before = state.source_test_accuracy_before
    oracle = state.oracle.score
    discriminator = [row["discriminator_accuracy"] for row in state.rows if "discriminator_accuracy" in row]
    return {
        "status": "done",
        "strategy": config.strategy.name,
        "data": config.data.name,
        "seed": config.seed,
        **_target_test(target, len(engine.pair.parts["target_test"])),
        "source_test_accuracy": source.accuracy,
        "source_val_accuracy": splits["source_val"].accuracy,
        "target_val_accuracy": splits["target_val"].accuracy,
        "test_time_views": num_views(config.engine.test_time),
        "weights": "last step" if engine.ema is None else "moving average",
        "select": state.best.rule,
        "select_score": state.best.score,
        "selected_epoch": state.best.epoch,
        "last_target_test_accuracy": known[-1] if known else None,
        "oracle_target_test_accuracy": oracle,
        "oracle_epoch": state.oracle.epoch,
        "regret": oracle - target.accuracy if oracle is not None and target.accuracy is not None else None,
        "source_test_accuracy_before": before,
        "forgetting": before - source.accuracy if before is not None and source.accuracy is not None else None,
        **cost(engine, pretrain_seconds),
        "transfer_alive": state.gradients,
        "discriminator_accuracy": discriminator[-1] if discriminator else None,
        "largest_class_share": evaluation.label_free.largest_class_share,
        **likeness,
        "warnings": [*state.warnings, *_warnings(engine, evaluation)],
    }


def _warnings(engine: Engine, evaluation: Evaluation) -> list[str]:
    """What the last epochs and the selected model show that a reader of the summary should know."""
    state = engine.state
    discriminator = [row["discriminator_accuracy"] for row in state.rows if "discriminator_accuracy" in row]
    tuned = engine.phases_on_target_labels if state.source_test_accuracy_before is not None else ()
    return [
        *liveness_warnings(
            engine.pair.task,
            gradients=state.gradients,
            discriminator_accuracy=discriminator[-1] if discriminator else None,
            largest_class=evaluation.label_free.largest_class,
            largest_class_share=evaluation.label_free.largest_class_share,
        ),
        *rising_loss_warnings([row for row in state.rows if row["phase"] in tuned]),
    ]


def rising_loss_warnings(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence where the target's loss rose while target labels were learnt from; rows: of these epochs.

    It did where the last loss on target val (on target test where val has no labels) is more than RISEN times the
    lowest. It may rise while accuracy does not fall: predictions that are wrong become surer.
    """
    for split in ("target_val", "target_test"):
        losses = [(row[f"{split}_loss"], row["epoch"]) for row in rows if row.get(f"{split}_loss") is not None]
        if losses:
            (lowest, best), (last, end) = min(losses), losses[-1]
            if last <= RISEN * lowest:
                return []
            name = split.replace("_", " ")
            return [
                f"rising: while fine-tuning, the {name} loss rose from {lowest:.3f} (epoch {best}) to {last:.3f} "
                f"(epoch {end}); by the field's rule of thumb stop earlier, lower optim.lr, or open fewer stages"
            ]
    return []


def cost(engine: Engine, pretrain_seconds: float | None) -> dict[str, Any]:
    """The fields of summary.json that tell what a run took: parameters, steps, labels, time, machine; and its name."""
    state, config = engine.state, engine.config
    return {
        "parameters": sum(parameter.numel() for parameter in engine.strategy.parameters()),
        "trainable_parameters": state.trainable[engine.plan.stretches[-1].phase.name],
        "trainable_parameters_by_phase": state.trainable,
        "epochs": len(state.rows),
        "ended_early": state.ended_early,
        "steps": state.optimizer_steps,
        "rows_target_labels": len(engine.pair.parts["target_granted"]),
        **_cost(engine),
        "pretrain_seconds": pretrain_seconds,
        "name": engine.folder.path.name,
        "digest": digest(config),
    }


def _cost(engine: Engine) -> dict[str, Any]:
    """Time and memory that the run took, and where."""
    state = engine.state
    return {
        "seconds": state.seconds,
        "encode_seconds": state.encode_seconds,
        "images_per_second": state.images / state.training_seconds if state.training_seconds else None,
        "peak_memory_bytes": engine.runtime.peak_memory_bytes(),
        "device": engine.runtime.device.type,
        "precision": engine.runtime.precision,
    }


def _target_test(split: SplitMetrics, rows: int) -> dict[str, Any]:
    """The figures of the target test split, and over how many of its rows they are."""
    figures = ("accuracy", "macro_f1", "loss", "calibration_error")
    counts = {"target_test_rows": rows, "target_test_rows_labelled": split.rows}
    return {f"target_test_{figure}": getattr(split, figure) for figure in figures} | counts


def liveness_warnings(
    task: Task,
    *,
    gradients: dict[str, float],
    discriminator_accuracy: float | None,
    largest_class: int | None,
    largest_class_share: float | None,
) -> list[str]:
    """What shows that adaptation did nothing, did not take hold, or collapsed; a sentence each.

    gradients: the largest gradient norm of each transfer term at the features. largest_class_share: of the target
    validation predictions, warned of from five times an even share, or 95 % where there are few classes.
    """
    warnings = [
        f"dead: the gradient of the transfer term '{term}' never reached the features (largest norm {norm:.1e}), "
        "so adaptation did nothing"
        for term, norm in gradients.items()
        if norm <= DEAD_GRADIENT
    ]
    if discriminator_accuracy is not None and discriminator_accuracy >= SEPARABLE_ACCURACY:
        warnings.append(
            f"separable: at the end the discriminator still told the domains apart "
            f"({100 * discriminator_accuracy:.1f} % right)"
        )
    collapsed = min(0.95, 5 / task.num_classes)
    if largest_class_share is not None and largest_class is not None and largest_class_share >= collapsed:
        warnings.append(
            f"collapsed: {100 * largest_class_share:.0f} % of the target predictions are "
            f"class '{task.classes[largest_class]}'"
        )
    return warnings
