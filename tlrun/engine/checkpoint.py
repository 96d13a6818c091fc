"""What a checkpoint holds and how a run goes on from one."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from tlrun.engine.state import TrainingState
from tlrun.files import Damaged
from tlrun.run import RunError, digest, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from tlrun.engine.engine import Engine

log = logging.getLogger(__name__)

MODEL = "model."
SAVE_SHARE = 0.05
"""The most of its time that a run spends on saving at the end of epochs; run.checkpoint_seconds holds all the same."""


class Checkpoints:
    """Writes and reads a run's `last.pt`, from which it goes on, and `best.pt`, which its selection rule chose.

    last.pt is the truth. It is written first: a run killed between the two finds in it that the best evaluation is
    the one it stands at, or how the best model differs from its own, and writes best.pt anew.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.digest = digest(engine.config)
        self._held: dict[str, Any] | None = None
        self._seconds = 0.0

    def pays(self, elapsed: float) -> bool:
        """Whether a save like the last one would take SAVE_SHARE of the seconds since then at most.

        Where only a head learns on encoded rows, an epoch takes less than writing down the frozen backbone once more.
        """
        return self._seconds <= SAVE_SHARE * elapsed

    def hold_best(self) -> None:
        """Remembers the model as the best one until the next save: whatever in it is not frozen."""
        strategy = self.engine.strategy
        frozen = {name for name, parameter in strategy.named_parameters() if not parameter.requires_grad}
        with self.engine.averaged():
            moving = {name: value.clone() for name, value in strategy.state_dict().items() if name not in frozen}
        best = self.engine.state.best
        self._held = {"epoch": best.epoch, "step": best.step, "moving": moving}

    def save(self, *, best: bool) -> None:
        """Saves the run as it stands, and its model as the best one too if it is."""
        began, held = time.monotonic(), None if best else self._held
        self._save_last({} if held is None else {"best": held})
        if best:
            self._save_best({})
        elif held is not None:
            self._save_best(held["moving"])
            if self.engine.finished:  # best.pt is written, so that a finished run's last.pt need not hold it
                self._save_last({})
        self._held, self._seconds = None, time.monotonic() - began

    def _save_last(self, extra: dict[str, Any]) -> None:
        engine = self.engine
        content = {
            **self._model(),
            **extra,
            **engine.optimiser.state_dict(),
            "ema": engine.ema.state_dict() if engine.ema is not None else {},
            "state": engine.state.to_dict(),
            "tally": engine.tally.state_dict(),
            "random": engine.runtime.random_state(),
            "conditions": self._conditions(),
        }
        save_checkpoint(engine.folder.last, content)

    def resume(self) -> None:
        """Puts everything back as the last checkpoint has it; does nothing where there is none.

        Raises RunError for a checkpoint that is damaged, another run's, or from other data or starting weights.
        """
        engine = self.engine
        if not engine.folder.last.exists():
            return
        content = load_checkpoint(engine.folder.last, digest=self.digest)
        warnings = self._compare(content["conditions"])
        self._restore_model(content)
        engine.optimiser.load_state_dict(content)
        if engine.ema is not None:
            engine.ema.load_state_dict(content["ema"])
        engine.state = TrainingState.from_dict(content["state"])
        engine.state.warnings += warnings
        engine.tally.load_state_dict(content["tally"])
        engine.runtime.set_random_state(content["random"])
        state = engine.state
        log.info("resumed after %d optimizer steps", state.optimizer_steps)
        at_best = state.rows and state.best.step == state.rows[-1]["step"] and state.epoch_images == 0
        if (at_best or "best" in content) and self._best_step() != state.best.step:
            self._save_best(content["best"]["moving"] if "best" in content else {})

    def load_best(self) -> None:
        """Puts the selected model in place. Raises RunError where best.pt is not the one that the run chose."""
        engine = self.engine
        content = load_checkpoint(engine.folder.best, digest=self.digest)
        if content["step"] != engine.state.best.step:
            why = f"is of step {content['step']}, the run chose step {engine.state.best.step}"
            raise Damaged(engine.folder.best, why)
        self._restore_model(content)

    def _save_best(self, moving: dict[str, Any]) -> None:
        """Writes best.pt: the model as it stands, but for the values given."""
        best = self.engine.state.best
        with nullcontext() if moving else self.engine.averaged():
            save_checkpoint(self.engine.folder.best, {**self._model(moving), "epoch": best.epoch, "step": best.step})

    def _best_step(self) -> int | None:
        """The step of which best.pt is; None where it cannot be read, since it will then be written anew."""
        try:
            step: int = load_checkpoint(self.engine.folder.best, digest=self.digest)["step"]
        except RunError:
            return None
        return step

    def _model(self, moving: dict[str, Any] | None = None) -> dict[str, Any]:
        """The model and what a reader needs to use it, apart from what else the strategy remembers.

        moving: values that stand for the present ones.
        """
        engine = self.engine
        state = engine.strategy.state_dict() | (moving or {})
        return {
            "digest": self.digest,
            "config": engine.config.to_dict(),
            "classes": list(engine.pair.task.classes),
            "sizes": dict(engine.pair.task.sizes),
            "fingerprint": engine.pair.fingerprint,
            "inputs": engine.pair.inputs(),
            "model": {name.removeprefix(MODEL): value for name, value in state.items() if name.startswith(MODEL)},
            "strategy": {name: value for name, value in state.items() if not name.startswith(MODEL)},
        }

    def _restore_model(self, content: dict[str, Any]) -> None:
        model = {MODEL + name: value for name, value in content["model"].items()}
        self.engine.strategy.load_state_dict(model | content["strategy"])

    def _conditions(self) -> dict[str, Any]:
        """What decides the numbers beside the settings: data and weights must be the same at a resume, the rest told."""
        engine = self.engine
        return {
            "data fingerprint": engine.pair.fingerprint,
            "starting weights": engine.weights.sha256,
            "device": engine.runtime.device.type,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }

    def _compare(self, before: dict[str, Any]) -> list[str]:
        """Warnings about conditions that may move bits. Raises RunError where the numbers would not be the run's."""
        warnings = []
        for name, now in self._conditions().items():
            if before[name] == now:
                continue
            if name in ("data fingerprint", "starting weights"):
                why = f"cannot go on: its {name} changed since it began ({before[name]}, now {now}); put back what was there"
                raise Damaged(self.engine.folder.path, why)
            warning = f"resumed under other conditions: {name} was {before[name]}, now {now}; bits may differ"
            log.warning(warning)
            warnings.append(warning)
        return warnings
