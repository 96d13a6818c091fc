"""The engine: takes a strategy through its plan, step by step, and can stop and go on at any of them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

from torch import Tensor

from tlrun.batch import Batch, Examples, Output, Progress
from tlrun.config import ExperimentConfig, ViewSettings
from tlrun.data.augment.evaluation_views import check_views
from tlrun.data.domain import DomainPair, Part
from tlrun.data.streams import Stream, evaluation_batches
from tlrun.engine.balance import class_weights
from tlrun.engine.checkpoint import Checkpoints
from tlrun.engine.display import Display
from tlrun.engine.encoding import EncodedParts, Encoding, check_encoding
from tlrun.engine.evaluate import Evaluation, Evaluator, class_rows, rows_read
from tlrun.engine.freezing import matching, set_learning, set_modes
from tlrun.engine.interrupt import Interrupts
from tlrun.engine.optimise import Optimiser
from tlrun.engine.plan import Stretch, lay_out
from tlrun.engine.runtime import Runtime
from tlrun.engine.schedules import Schedule
from tlrun.engine.selection import SCORES, Best, Patience, asked_rules, check_rules
from tlrun.engine.single_rows import check_single_rows, first_row
from tlrun.engine.state import TrainingState
from tlrun.engine.tally import Tally, check_weights, gradient_norm
from tlrun.layers.ema import EmaCopy, warmed_up
from tlrun.models.zoo import LoadedWeights
from tlrun.run import RunFolder
from tlrun.run_files import EVALUATION_PARTS, metrics_columns
from tlrun.strategies.base import Part as TrainingPart
from tlrun.strategies.base import Strategy, Turn

log = logging.getLogger(__name__)

KINDS = {"source": "source_train", "target": "target_granted", "unlabelled": "target_unlabelled"}
"""The training part behind each kind of rows in a batch."""
GRADIENTS_PER_EPOCH = 10
"""How often in an epoch the transfer terms' gradients at the features are measured."""
CHECK_STEPS = 100
"""After so many steps the losses are looked at for values that are not finite."""


class Engine:
    """Trains one strategy on one pair of domains into one run folder.

    What a later resume needs lies in `state`, `tally`, the state dicts of strategy and optimiser, and torch's
    generators. A checkpoint holds these, and nothing else is remembered between steps.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        strategy: Strategy,
        pair: DomainPair,
        folder: RunFolder,
        runtime: Runtime,
        *,
        weights: LoadedWeights,
    ) -> None:
        settings = config.engine
        self.weights = weights
        self.config, self.strategy, self.pair, self.folder, self.runtime = (config, strategy, pair, folder, runtime)
        longest = max(len(pair.parts["source_train"]), len(pair.parts["target_unlabelled"]))
        steps = settings.steps_per_epoch or math.ceil(longest / (settings.batch_size * settings.accumulate))
        check_encoding(strategy.phases(), config.augment)
        self.plan = lay_out(strategy.phases(), epochs=settings.epochs, steps_per_epoch=steps)
        assert isinstance(config.schedule, Schedule)
        self.optimiser = Optimiser(
            strategy, config.optim, config.schedule, runtime=runtime, clip_norm=settings.clip_norm
        )
        self.learning = [self._learning(stretch) for stretch in self.plan.stretches]
        if settings.batch_size == 1:
            rows = {kind: first_row(pair, name) for kind, name in KINDS.items()}
            batches = [Batch(**{kind: rows[kind] for kind in self.kinds(each)}) for each in self.plan.stretches]
            check_single_rows(strategy, self.plan, batches, self.learning)
        strategy.class_weights = class_weights(config.optim, pair)
        self.tally = Tally(strategy.terms, runtime.device)
        self.columns = metrics_columns(strategy.terms, rules=tuple(SCORES), groups=tuple(self.optimiser.groups))
        assert settings.select != "auto"
        asked, ends = asked_rules(config), {each.name: each.until.metric for each in strategy.phases() if each.until}
        # A rule that the strategy's settings name is told under their key.
        asked |= {f"strategy: phase '{name}'": end for name, end in ends.items() if end not in asked.values()}
        check_rules(asked, rows_read(pair.parts))
        self.state = TrainingState(best=Best(settings.select), stop=self._fresh_stop())
        self.best_evaluation: Evaluation | None = None  # of the selected epoch, where this process saw it
        self.parts: dict[str, Part] = dict(pair.parts)
        self.streams: dict[str, Stream] = {}
        self.ema = EmaCopy(strategy) if settings.ema.decay is not None else None
        self.evaluator = Evaluator(strategy, partial(self.batches, test_time=settings.test_time), runtime)
        self.checkpoints = Checkpoints(self)
        self.follow: Callable[[Mapping[str, Any]], object] = lambda row: None  # is told each row of metrics.csv

    # -- the run ------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Trains to the end of the plan, from wherever `state` stands.

        Afterwards `parts` are as the last phase read them. Raises KeyboardInterrupt, after saving, when a signal asked to
        stop; RunError when a loss is not finite or the folder cannot be written.
        """
        self.mark = self.saved = time.monotonic()
        with ExitStack() as stack:
            self.interrupts = stack.enter_context(Interrupts())
            state, plan = self.state, self.plan
            done = plan.steps if self.finished else plan.progress(state.phase, state.phase_step).step
            self.display = stack.enter_context(Display(steps=self.plan.steps, done=done))
            if self.finished:
                self.open_parts(len(self.plan.stretches) - 1)
            while not self.finished:
                self._train_phase(self.state.phase)

    @property
    def finished(self) -> bool:
        return self.state.phase >= len(self.plan.stretches)

    def batches(self, part: Part, *, test_time: ViewSettings | None = None) -> Iterator[Examples]:
        """A part's rows in order, untouched by augmentation, with the views that an evaluation averages over."""
        return evaluation_batches(
            part,
            statistics=self.pair.statistics[part.domain],
            shape=self.pair.shape,
            batch_size=self.config.engine.eval_batch_size,
            test_time=test_time,
        )

    # -- what a strategy may ask for (`strategies.base.Access`) ---------------------------------------------------

    def examples(self, part: TrainingPart) -> Iterator[Examples]:
        return self.batches(self._training_part(part))

    def encode(self, part: TrainingPart) -> tuple[Tensor, Output]:
        return Evaluator(self.strategy, self.batches, self.runtime).encode(self._training_part(part))

    def _training_part(self, name: TrainingPart) -> Part:
        if name not in KINDS.values():
            raise ValueError(f"a strategy may ask for {', '.join(KINDS.values())}, not for {name!r}")
        return self.parts[name]

    # -- a phase --------------------------------------------------------------------------------------------------

    def _learning(self, stretch: Stretch) -> set[str]:
        """The names of what a phase trains; its patterns and turns are checked before the run's first step."""
        phase, where = stretch.phase, f"strategy: phase '{stretch.phase.name}'"
        self.optimiser.check_turns(phase)
        check_views(self.config.engine.test_time, self.pair.shape, encoded=phase.encode_once)
        return matching(self.strategy, phase.train, where=where) - matching(self.strategy, phase.frozen, where=where)

    def _train_phase(self, number: int) -> None:
        """One phase, from wherever the state says, to its end."""
        state, stretch = self.state, self.plan.stretches[number]
        self.open_streams(stretch, self.open_parts(number))
        if state.phase_step == 0:
            self._begin_phase(stretch)
        set_modes(self.strategy, still=stretch.phase.still)
        while state.phase == number:
            progress = self.plan.progress(number, state.phase_step)
            if state.phase_step % stretch.steps_per_epoch == 0:
                self.strategy.begin_epoch(self)
                set_modes(self.strategy, still=stretch.phase.still)
            self.step(stretch, progress)
            state.phase_step += 1
            if state.phase_step % stretch.steps_per_epoch == 0:
                self._end_epoch(stretch, self.plan.progress(number, state.phase_step))
            self._look_up(stretch, progress)

    def _begin_phase(self, stretch: Stretch) -> None:
        state, phase = self.state, stretch.phase
        state.phase_patience = Patience(phase.until.metric, phase.until.patience) if phase.until else None
        parameters = dict(self.strategy.named_parameters())
        state.trainable[phase.name] = sum(parameters[name].numel() for name in self.learning[state.phase])
        starts_trained = "head" in self.strategy.model.pretrained
        tunes = "target" in self.kinds(stretch) and state.optimizer_steps > 0
        if (starts_trained or tunes) and state.source_test_accuracy_before is None:
            self._charge(training=True)
            with self.averaged():
                state.source_test_accuracy_before = self.evaluator.accuracy(self.parts["source_test"])
            self._charge(training=False)
        self.strategy.begin_phase(phase, self)

    def kinds(self, stretch: Stretch) -> tuple[str, ...]:
        """The kinds of rows that a phase reads."""
        if stretch.phase.reads is not None:
            return stretch.phase.reads
        needs = self.config.strategy.needs
        asked = {"source": needs.source, "target": needs.target, "unlabelled": needs.unlabelled}
        there = {kind: len(self.pair.parts[KINDS[kind]]) > 0 for kind in asked}
        return tuple(kind for kind, need in asked.items() if need != "unused" and there[kind])

    @property
    def phases_on_target_labels(self) -> tuple[str, ...]:
        """The names of the phases that learn from target labels."""
        return tuple(each.phase.name for each in self.plan.stretches if "target" in self.kinds(each))

    def open_parts(self, number: int) -> EncodedParts:
        """The pair's parts as a phase reads them, in `parts` those for evaluation; its parameters learn from now on.

        Rows are taken through the frozen prefix once where the phase asks for it, which is booked apart.
        """
        stretch = self.plan.stretches[number]
        set_learning(self.strategy, self.learning[number])
        training = [KINDS[kind] for kind in self.kinds(stretch)]
        opened = EncodedParts(dict(self.pair.parts), dict(self.pair.parts))
        if stretch.phase.encode_once:
            self._charge(training=False)
            before = self.state.seconds
            encoding = Encoding(self, between_blocks=self._between_blocks)
            opened = encoding.encode(stretch.phase, training=training, evaluated=EVALUATION_PARTS)
            self._charge(training=False)
            self.state.encode_seconds += self.state.seconds - before
        self.parts = opened.parts
        return opened

    def _between_blocks(self, name: str, done: int, count: int) -> None:
        """Between two blocks of rows being encoded: the display, a signal that came. What is encoded stays."""
        self.display.encoding(name, done, count)
        if self.interrupts.requested:
            raise KeyboardInterrupt

    def open_streams(self, stretch: Stretch, opened: EncodedParts) -> None:
        """The streams of training rows that a phase reads."""
        self.streams = {
            kind: Stream(
                opened.training[KINDS[kind]],
                statistics=self.pair.statistics["source" if kind == "source" else "target"],
                shape=self.pair.shape,
                batch_size=self.config.engine.batch_size,
                seed=self.config.seed,
                augment=self.config.augment,
                views=self.config.strategy.needs.views,
                balanced=self.config.engine.sampling == "balanced",
                num_classes=self.pair.task.num_classes,
            )
            for kind in self.kinds(stretch)
        }

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self, stretch: Stretch, progress: Progress) -> None:
        """One step of the clock: every turn of the phase, each over the same accumulated batches."""
        self.optimiser.set_rates(progress)
        accumulate = self.config.engine.accumulate
        batches = [self._batch(progress.step * accumulate + number) for number in range(accumulate)]
        measure = progress.phase_step % max(stretch.steps_per_epoch // GRADIENTS_PER_EPOCH, 1) == 0
        for turn in stretch.phase.turns:
            for _ in range(turn.repeats):
                self._turn(turn, batches, progress.in_turn(turn.name), measure=measure)
        self.strategy.after_step(progress)
        self.state.optimizer_steps += 1
        self._average()
        rows = sum(len(batch) for batch in batches)
        self.state.epoch_images += rows
        self.state.images += rows

    def _average(self) -> None:
        """Takes the weights of this step into their moving average, where there is one."""
        decay, warmup = self.config.engine.ema.decay, self.config.engine.ema.warmup
        if self.ema is not None and decay is not None:
            self.ema.update(warmed_up(decay, self.state.optimizer_steps) if warmup else decay)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the strategy has the weights that are evaluated and kept: their moving average where there is one."""
        return nullcontext() if self.ema is None else self.ema.in_place()

    def _turn(self, turn: Turn, batches: list[Batch], progress: Progress, *, measure: bool) -> None:
        self.optimiser.begin_turn()
        for batch in batches:
            with self.runtime.autocast():
                losses = self.strategy.loss(batch, progress)
            total = losses.total()
            self.tally.add(losses, total, progress)
            if measure:
                for name, term in losses.transfer.items():
                    self.tally.add_gradient(name, gradient_norm(term, losses.features))
            self.optimiser.backward(total / len(batches) if len(batches) > 1 else total)
        self.optimiser.step(turn)

    def _batch(self, address: int) -> Batch:
        return Batch(**{kind: stream.batch(address) for kind, stream in self.streams.items()})

    def _look_up(self, stretch: Stretch, progress: Progress) -> None:
        """Between two steps: the display, the watch over losses, a checkpoint when it is due, a signal that came."""
        state = self.state
        if progress.phase_step % CHECK_STEPS == 0:
            self.tally.check(stretch.phase.name)
        self.display.move(progress.step + 1, speed=self._speed, loss=self.tally.running_loss)
        due = time.monotonic() - self.saved >= self.config.run.checkpoint_seconds
        if state.phase_step and (due or self.interrupts.requested):
            self.tally.check(stretch.phase.name)
            self._charge(training=True)
            self._save()
        if self.interrupts.requested:
            raise KeyboardInterrupt

    # -- an epoch's end -------------------------------------------------------------------------------------------

    def _end_epoch(self, stretch: Stretch, progress: Progress) -> None:
        """Closes an epoch: its row, the evaluation if it is due, selection, patience, a checkpoint."""
        state = self.state
        self.tally.check(stretch.phase.name)
        check_weights(self.strategy, step=progress.step - 1, phase=stretch.phase.name)
        self._charge(training=True)
        epoch, improved = progress.epoch, False
        row = self._row(stretch, progress)
        over = state.phase_step == stretch.steps
        if over or (epoch - stretch.first_epoch) % self.config.engine.evaluate_every == 0:
            with self.averaged():
                evaluation = self.evaluator.evaluate(self.parts)
            set_modes(self.strategy, still=stretch.phase.still)
            evidence = evaluation.evidence(epoch)
            row |= evaluation.columns() | {f"score_{rule}": score(evidence) for rule, score in SCORES.items()}
            state.class_rows += class_rows(evaluation, self.pair.task.classes, epoch)
            if stretch is self.plan.stretches[-1]:
                improved = state.best.offer(evidence, progress.step)
                self.best_evaluation = evaluation if improved else self.best_evaluation
                state.oracle.offer(evidence, progress.step)
            waits = [each for each in (state.phase_patience, state.stop) if each is not None]
            exhausted = [each for each in waits if each.exhausted(evidence)]  # each must see the evidence
            if exhausted and not over:
                self._say_early(stretch, exhausted[0], epoch)
            over = over or bool(exhausted)
        state.rows.append(row)
        self.tally.reset()
        state.epoch_seconds, state.epoch_images = 0.0, 0
        if over:
            state.phase, state.phase_step = state.phase + 1, 0
            state.stop = self._fresh_stop()
        if over or self.checkpoints.pays(time.monotonic() - self.saved):
            self._save(best=improved)
        elif improved:
            self.checkpoints.hold_best()
        self.display.epoch(row, epochs=self.plan.epochs)
        self.follow(row)

    def _say_early(self, stretch: Stretch, waited: Patience, epoch: int) -> None:
        """Notes that a phase ends before its share is used up, and why."""
        name = stretch.phase.name
        self.state.ended_early[name] = waited.rule
        left = stretch.first_epoch + stretch.epochs - epoch
        log.info(
            "phase '%s' ended %d epochs early: %s had not improved for %d evaluations",
            *(name, left, waited.rule, waited.waited),
        )

    def _fresh_stop(self) -> Patience | None:
        early = self.config.engine.early_stop
        return Patience(early.metric, early.patience) if early.metric else None

    def _row(self, stretch: Stretch, progress: Progress) -> dict[str, Any]:
        """What is known of an epoch before it is evaluated."""
        means = self.tally.read()
        for term in self.tally.transfer:
            norm = means.get(f"gradient_{term}")
            if norm is not None:
                self.state.gradients[term] = max(norm, self.state.gradients.get(term, 0.0))
        rates = {f"lr_{group['name']}": group["lr"] for group in self.optimiser.optimizer.param_groups}
        return {
            "epoch": progress.epoch,
            "step": progress.step,
            "phase": stretch.phase.name,
            **means,
            "lr": self.optimiser.lr,
            **rates,
            "seconds": self.state.epoch_seconds,
            "images_per_second": self._speed(),
        }

    def _speed(self) -> float:
        """Training rows per second in the open epoch."""
        return self.state.epoch_images / max(self.state.epoch_seconds + time.monotonic() - self.mark, 1e-9)

    def _save(self, *, best: bool = False) -> None:
        self.checkpoints.save(best=best)
        self.folder.write_metrics(self.columns, self.state.rows)
        self.folder.write_classes(self.state.class_rows)
        self._charge(training=False)
        self.saved = self.mark

    def _charge(self, *, training: bool) -> None:
        """Books the time since the last booking; only time spent training counts for the speed."""
        self.runtime.synchronize()
        now = time.monotonic()
        elapsed, self.mark = now - self.mark, now
        self.state.seconds += elapsed
        if training:
            self.state.epoch_seconds += elapsed
            self.state.training_seconds += elapsed
