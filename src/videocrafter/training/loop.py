"""The training loop of one stage."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videocrafter.training.batch_reader import write_data_states
from videocrafter.training.batches_ahead import BatchesAhead
from videocrafter.training.config import StageConfig
from videocrafter.training.interruption import StopRequest
from videocrafter.training.optim.guard import Verdict
from videocrafter.training.optim.optimizer import lr_fraction
from videocrafter.training.parallel.activations import activations_kept
from videocrafter.training.parallel.peak_memory import peak_memory
from videocrafter.training.parallel.precision import autocast
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.parallel.sharding import is_sharded, shown_whole, whole_on_cpu
from videocrafter.training.randomness import make_generator, seed_global_generators
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.run_folder import RunFolder
from videocrafter.training.saving.state import STATE_FOLDER, TrainingState, write_state
from videocrafter.training.task import FollowsSteps, ReadsInOrder, Task
from videocrafter.training.tracking.log import TrainingLog
from videocrafter.training.tracking.progress import StageProgress

_log = logging.getLogger(__name__)


class StageLoop:
    """Trains one stage from `state.step` to its last step, or until a stop is requested.

    Args:
        seed: the recipe's seed.
        state: of a new stage, or restored from a checkpoint.
        folder: receives samples and the record of bad batches.
        log, progress: where the main process reports to; None in every other process.
    """

    def __init__(
        self,
        *,
        stage: StageConfig,
        seed: int,
        task: Task,
        state: TrainingState,
        checkpoints: Checkpoints,
        folder: RunFolder,
        log: TrainingLog | None,
        progress: StageProgress | None,
        stop: StopRequest,
        processes: Processes,
    ) -> None:
        self._stage, self._seed, self._task, self._state = stage, seed, task, state
        self._checkpoints, self._folder = checkpoints, folder
        self._log, self._progress = log, progress
        self._stop, self._processes = stop, processes
        self._micro_steps = processes.micro_steps(stage.optimizer.accumulate)
        self._batches = BatchesAhead(task, self._micro_steps)
        self._is_sharded = any(
            is_sharded(parameter) for module in task.modules().values() for parameter in module.parameters()
        )
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._measured_from = (time.monotonic(), state.num_samples)
        self._data_wait = 0.0

    def run(self) -> bool:
        """Train; return True if the stage's last step is done, False if stopped before it.

        Raises:
            NonFiniteError: the loss or the gradient is bad in too many steps; see `StepGuard`.
            CheckpointError: a checkpoint could not be written.
        """
        try:
            return self._run()
        finally:
            self._batches.close()

    def _run(self) -> bool:
        stage, state = self._stage, self._state
        self._set_mode(training=True)
        while state.step < stage.num_steps:
            if not self._train_step():
                self._roll_back()
                continue
            done = state.step == stage.num_steps
            if done or _is_due(state.step, stage.log_every):
                self._write_log()
            if stage.validate_every and (done or _is_due(state.step, stage.validate_every)):
                self._keep_if_best(self._validate())
            if stage.sample_every and (done or _is_due(state.step, stage.sample_every)):
                self._write_samples()
            stopping = self._processes.any(self._stop.requested())
            if done or stopping or self._checkpoint_due():
                self.save()
            if stopping and not done:
                return False
        return True

    def _train_step(self) -> bool:
        """Take one step; return False if the stage has to go back to its last checkpoint."""
        state, step, device = self._state, self._state.step, self._processes.device
        started = time.perf_counter()
        num_samples = 0
        measured: list[Mapping[str, float | Tensor]] = []
        names: list[list[str]] = []
        if isinstance(self._task, FollowsSteps):
            self._task.begin_step(step)
        for micro_step in self._micro_steps:
            requested = time.perf_counter()
            is_last = step + 1 == self._stage.num_steps and micro_step == self._micro_steps[-1]
            batch = self._batches.take(step + state.data_offset, micro_step, is_last=is_last)
            self._data_wait += time.perf_counter() - requested
            seed_global_generators(self._seed, self._stage.name, step, micro_step)
            generator = make_generator(device, self._seed, self._stage.name, step, micro_step, "loss")
            kept = activations_kept(device, offload=self._stage.offload_activations)
            with autocast(device, state.precision), kept:
                loss, metrics = self._task.loss(batch, generator)
            share = loss / len(self._micro_steps)
            torch.autograd.backward(share * state.loss_scale.value)
            measured.append({**metrics, "loss": loss.detach()})
            num_samples += self._task.num_samples(batch)
            names.append(list(self._task.names(batch)))
        norm = state.optimizer.gradient_norm(state.loss_scale.value)
        # Reading the norm synchronises with the accelerator, which costs little next to a whole step.
        overflowed = state.loss_scale.overflowed(float(norm))
        verdict = Verdict.OVERFLOW if overflowed else state.guard.judge(float(norm))
        if verdict is Verdict.GOOD:
            for metrics in [*measured, {"grad_norm": norm}]:
                state.window.add(metrics)
            fraction = lr_fraction(self._stage.optimizer, step, self._stage.num_steps)
            state.optimizer.set_lr_fraction(fraction)
            state.optimizer.step()
        state.optimizer.zero_grad()
        if verdict not in (Verdict.GOOD, Verdict.OVERFLOW):
            self._record_bad_batches(measured, names, float(norm), verdict)
        if verdict is Verdict.STOP:
            raise state.guard.error(step + 1, f"{state.guard.rollbacks} returns to the last checkpoint")
        if verdict is Verdict.ROLL_BACK:
            return False
        if verdict is Verdict.GOOD and state.ema is not None:
            state.ema.update()
        state.step += 1
        state.num_samples += num_samples * self._processes.count
        state.seconds += time.perf_counter() - started
        if self._progress is not None:
            self._progress.advance(state.step, num_samples * self._processes.count)
        return True

    def _record_bad_batches(
        self,
        measured: Sequence[Mapping[str, float | Tensor]],
        names: Sequence[Sequence[str]],
        norm: float,
        verdict: Verdict,
    ) -> None:
        """Append the batches of a bad step to `bad_batches.jsonl`."""
        step, path = self._state.step + 1, self._folder.bad_batches
        for micro_step, metrics, batch in zip(self._micro_steps, measured, names, strict=True):
            line = {
                "stage": self._stage.name,
                "step": step,
                "data_step": self._state.step + self._state.data_offset,
                "micro_step": micro_step,
                "verdict": verdict.value,
                "grad_norm": norm,
                "loss": float(metrics["loss"]),
                "batch": batch,
            }
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        shown = (self._stage.name, step, norm, verdict.value, path)
        _log.warning("%s, step %d: gradient norm %g: %s (see %s)", *shown)

    def _roll_back(self) -> None:
        """Restore the last checkpoint, and continue with the data after the bad step."""
        state = self._state
        next_data, rollbacks = state.step + state.data_offset + 1, state.guard.rollbacks + 1
        checkpoint = self._processes.same_as_main(self._checkpoints.latest() if self._processes.is_main else None)
        if checkpoint is None:
            raise state.guard.error(state.step + 1, "no checkpoint to go back to")
        state.load(checkpoint, self._processes)
        state.data_offset = next_data - state.step
        state.guard.went_back(rollbacks)
        self._measured_from = (time.monotonic(), state.num_samples)
        self._processes.wait()
        # Saved at once, so that a run killed now does not meet the bad batches again.
        self._saved_step = None
        self.save()

    def _write_log(self) -> None:
        now, (since, samples_then) = time.monotonic(), self._measured_from
        self._measured_from = (now, self._state.num_samples)
        means = self._state.window.take(self._processes)
        if self._log is None:
            return
        state, elapsed = self._state, max(1e-9, now - since)
        fraction = lr_fraction(self._stage.optimizer, state.step - 1, self._stage.num_steps)
        # `log_keys.py` describes these numbers.
        numbers = {
            "lr": self._stage.optimizer.lr * fraction,
            "samples": state.num_samples,
            "samples_per_s": (state.num_samples - samples_then) / elapsed,
            "data_wait_share": min(1.0, self._data_wait / elapsed),
            "peak_memory_gib": peak_memory(self._processes.device) / 2**30,
            "seconds": state.seconds,
        }
        if state.loss_scale.enabled:
            numbers["loss_scale"] = state.loss_scale.value
        if state.guard.skipped:
            numbers["skipped"] = state.guard.skipped
        self._data_wait = 0.0
        self._log.write(state.step, "train", {**means, **numbers})

    def _validate(self) -> Mapping[str, float]:
        """Return the validation metrics; nothing in processes other than the main one."""
        with self._evaluating("validate") as runs, autocast(self._processes.device, self._state.precision):
            values = self._task.validate() if runs else {}
        if self._log is None:
            return {}
        values = {name: float(value) for name, value in values.items()}
        self._log.write(self._state.step, "validation", values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _log.info("%s, step %d, validation: %s", self._stage.name, self._state.step, shown)
        return values

    def _keep_if_best(self, values: Mapping[str, float]) -> None:
        """Save a checkpoint and mark it as the best if it has the lowest `keep_best` so far."""
        metric = self._stage.keep_best
        if metric is None:
            return
        best = self._checkpoints.best()
        # Mark before saving: a run killed in between repeats this step and finds the mark, whereas a run resumed from
        # the checkpoint would never measure it again.
        is_marked = best is not None and best[0] == self._state.step
        is_best = bool(values) and (best is None or is_marked or values[metric] < best[1])
        if self._processes.any(is_best):
            if self._processes.is_main:
                self._checkpoints.mark_best(self._state.step, metric, values[metric])
            self.save()

    def _write_samples(self) -> None:
        device, precision = self._processes.device, self._state.precision
        with self._evaluating("samples") as runs:
            if not runs:
                return
            # Gathered shards have the training precision.
            with autocast(device, precision if self._is_sharded else "fp32"):
                if self._processes.is_main:
                    folder = self._folder.samples / f"{self._stage.name}-step-{self._state.step:08d}"
                    folder.mkdir(parents=True, exist_ok=True)
                    self._task.write_samples(folder)
                    if self._log is not None:
                        self._log.samples(self._state.step, folder)
                else:
                    with tempfile.TemporaryDirectory() as discarded:
                        self._task.write_samples(Path(discarded))

    def save(self) -> None:
        """Write a checkpoint of the present step, unless it has been written."""
        started = time.monotonic()
        if self._saved_step != self._state.step:
            self._show("saving")
            data_states = self._data_states()
            state = self._state.collected(self._processes)
            networks = self.whole_networks()

            def write(folder: Path) -> None:
                assert state is not None
                # The pipeline holds the EMA weights, the state the raw ones.
                self.save_pipeline(folder, networks)
                write_state(folder, state)
                if data_states is not None:
                    write_data_states(folder / STATE_FOLDER, data_states)

            with self._processes.together():
                if self._processes.is_main:
                    self._checkpoints.save(self._state.step, write)
        self._saved_step = self._state.step
        self._saved_at = time.monotonic()
        if self._progress is not None:
            self._progress.saved(self._state.step)
        self._exclude_from_rate(self._saved_at - started)

    def whole_networks(self) -> dict[str, dict[str, Tensor]]:
        """Collective: gather the sharded EMA weights of each network in the main process."""
        with self._ema_weights():
            sharded = {
                name: {key: value for key, value in module.state_dict().items() if is_sharded(value)}
                for name, module in self._task.modules().items()
            }
            networks: dict[str, dict[str, Tensor]] = whole_on_cpu(sharded, keep=self._processes.is_main)
            return networks

    def save_pipeline(self, folder: Path, networks: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write the pipeline with EMA weights into an empty folder, in one process.

        Args:
            networks: result of `whole_networks`.
        """
        with ExitStack() as shown:
            shown.enter_context(self._ema_weights())
            for name, module in self._task.modules().items():
                shown.enter_context(shown_whole(module, networks[name]))
            self._task.save_pipeline(folder)

    def _data_states(self) -> list[dict[str, Any]] | None:
        """Return the data position of every process, by rank, if the task reads its data in order."""
        if not isinstance(self._task, ReadsInOrder):
            return None
        return self._processes.gather(self._task.data_state())

    def _checkpoint_due(self) -> bool:
        if _is_due(self._state.step, self._stage.checkpoint_every):
            return True
        limit = self._stage.checkpoint_seconds
        return self._processes.any(limit > 0 and time.monotonic() - self._saved_at >= limit)

    @contextmanager
    def _evaluating(self, purpose: str) -> Iterator[bool]:
        """Evaluate with EMA weights while the other ranks wait; yields whether this process evaluates.

        With sharded weights every process evaluates, and only the main one's results are kept. The time is excluded
        from the training rate, and torch's generator is restored afterwards.
        """
        started, rng = time.monotonic(), torch.get_rng_state()
        self._show({"validate": "validating", "samples": "sampling"}[purpose])
        seed_global_generators(self._seed, self._stage.name, self._state.step, purpose)
        self._set_mode(training=False)
        # Evaluation uses many batch sizes; compiling for each of them would take minutes.
        eager = torch.compiler.set_stance("force_eager")
        # With sharded weights a failed process leaves the others in a collective; the launcher ends them.
        together = nullcontext() if self._is_sharded else self._processes.together()
        with together, eager, self._ema_weights(), torch.no_grad():
            yield self._processes.is_main or self._is_sharded
        self._set_mode(training=True)
        torch.set_rng_state(rng)
        self._processes.wait()
        self._show("training")
        self._exclude_from_rate(time.monotonic() - started)

    def _show(self, activity: str) -> None:
        if self._progress is not None:
            self._progress.show(activity)

    def _exclude_from_rate(self, seconds: float) -> None:
        since, samples = self._measured_from
        self._measured_from = (since + seconds, samples)

    def _ema_weights(self) -> Any:
        return nullcontext() if self._state.ema is None else self._state.ema.swapped_in()

    def _set_mode(self, *, training: bool) -> None:
        for module in self._task.modules().values():
            module.train(training and any(parameter.requires_grad for parameter in module.parameters()))


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
