"""The training loop and only the loop."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.batch_reader import write_data_states
from videocrafter.training.batches_ahead import BatchesAhead
from videocrafter.training.config import StageConfig
from videocrafter.training.optim.guard import Verdict
from videocrafter.training.optim.optimizer import lr_fraction
from videocrafter.training.parallel.activations import activations_kept
from videocrafter.training.parallel.peak_memory import peak_memory
from videocrafter.training.parallel.precision import autocast
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.parallel.sharding import is_sharded, shown_whole, whole_on_cpu
from videocrafter.training.randomness import make_generator, seed_global_generators
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.interruption import StopRequest
from videocrafter.training.saving.state import STATE_FOLDER, TrainingState, write_state
from videocrafter.training.task import ReadsInOrder, Task
from videocrafter.training.tracking.log import Tracker
from videocrafter.training.tracking.progress import Progress

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class StageLoop:
    """Trains one stage from `state.step` to its end, or until it is asked to stop.

    Attributes:
        parameters: what learns, by name.
        sample_folder: sample sheets go into one folder per step in it.
        bad_batches: JSON lines of batches whose step was skipped.
        saved_step: step of the newest checkpoint; -1 if there is none.
    """

    stage: StageConfig
    seed: int
    task: Task
    parameters: Mapping[str, nn.Parameter]
    state: TrainingState
    checkpoints: Checkpoints
    sample_folder: Path
    tracker: Tracker | None
    progress: Progress | None
    stop: StopRequest
    processes: Processes
    bad_batches: Path
    saved_step: int = -1

    def __post_init__(self) -> None:
        self._micro_steps = self.processes.micro_steps(self.stage.optimizer.accumulate)
        self._batches = BatchesAhead(self.task, self._micro_steps)
        self._is_sharded = any(
            is_sharded(parameter) for module in self.task.modules().values() for parameter in module.parameters()
        )
        self._saved_at = time.monotonic()
        self._measured_from = (time.monotonic(), self.state.num_samples)
        self._data_wait = 0.0

    def run(self) -> bool:
        """Train; True when the stage's last step is done, False when stopped before it.

        Raises:
            NonFiniteError: the loss or the gradient is bad step after step; see `guard`.
            CheckpointError: a checkpoint could not be written.
        """
        try:
            return self._run()
        finally:
            self._batches.close()

    def _run(self) -> bool:
        stage, state = self.stage, self.state
        self._set_mode(training=True)
        while state.step < stage.num_steps:
            if not self._train_step():
                self._roll_back()
                continue
            done = state.step == stage.num_steps
            if done or _is_due(state.step, stage.log_every):
                self._log()
            if stage.validate_every and (done or _is_due(state.step, stage.validate_every)):
                self._keep_if_best(self._validate())
            if stage.sample_every and (done or _is_due(state.step, stage.sample_every)):
                self._write_samples()
            stopping = self.processes.any(self.stop.requested())
            if done or stopping or self._checkpoint_due():
                self.save()
            if stopping and not done:
                return False
        return True

    def _train_step(self) -> bool:
        """One step; False if it is so bad that the stage has to go back to its last checkpoint."""
        state, step, device = self.state, self.state.step, self.processes.device
        started = time.perf_counter()
        num_samples = 0
        measured: list[Mapping[str, float | Tensor]] = []
        names: list[list[str]] = []
        for micro_step in self._micro_steps:
            asked = time.perf_counter()
            is_last = step + 1 == self.stage.num_steps and micro_step == self._micro_steps[-1]
            batch = self._batches.take(step + state.data_offset, micro_step, is_last=is_last)
            self._data_wait += time.perf_counter() - asked
            seed_global_generators(self.seed, self.stage.name, step, micro_step)
            generator = make_generator(device, self.seed, self.stage.name, step, micro_step, "loss")
            kept = activations_kept(device, offload=self.stage.offload_activations)
            with autocast(device, state.precision), kept:
                loss, metrics = self.task.loss(batch, generator)
            share = loss / len(self._micro_steps)
            state.optimizer.backward(share, state.loss_scale.value, last=micro_step == self._micro_steps[-1])
            measured.append({**metrics, "loss": loss.detach()})
            num_samples += self.task.num_samples(batch)
            names.append(list(self.task.names(batch)))
        norm = state.optimizer.gradient_norm(state.loss_scale.value)
        # A look at the number waits for an accelerator's step, which is nothing beside it.
        overflowed = state.loss_scale.overflowed(float(norm))
        verdict = Verdict.OVERFLOW if overflowed else state.guard.judge(float(norm))
        if verdict is Verdict.GOOD:
            for metrics in [*measured, {"grad_norm": norm}]:
                state.window.add(metrics)
            fraction = lr_fraction(self.stage.optimizer, step, self.stage.num_steps)
            state.optimizer.set_lr_fraction(fraction)
            state.optimizer.step()
        state.optimizer.zero_grad()
        if verdict not in (Verdict.GOOD, Verdict.OVERFLOW):
            self._write_down(measured, names, float(norm), verdict)
        if verdict is Verdict.STOP:
            raise state.guard.error(step + 1, f"{state.guard.rollbacks} returns to the last checkpoint")
        if verdict is Verdict.ROLL_BACK:
            return False
        if verdict is Verdict.GOOD and state.ema is not None:
            state.ema.update()
        state.step += 1
        state.num_samples += num_samples * self.processes.count
        state.seconds += time.perf_counter() - started
        if self.progress is not None:
            self.progress.advance(state.step, num_samples * self.processes.count)
        return True

    def _write_down(
        self,
        measured: Sequence[Mapping[str, float | Tensor]],
        names: Sequence[Sequence[str]],
        norm: float,
        verdict: Verdict,
    ) -> None:
        """Note the batches of a bad step, so that somebody can look at them."""
        step, data_step = self.state.step + 1, self.state.step + self.state.data_offset
        for micro_step, metrics, batch in zip(self._micro_steps, measured, names, strict=True):
            line = {
                "stage": self.stage.name,
                "step": step,
                "data_step": data_step,
                "micro_step": micro_step,
                "verdict": verdict.value,
                "grad_norm": norm,
                "loss": float(metrics["loss"]),
                "batch": batch,
            }
            with self.bad_batches.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        shown = (self.stage.name, step, norm, verdict.value, self.bad_batches)
        _log.warning("%s, step %d: gradient norm %g: %s (see %s)", *shown)

    def _roll_back(self) -> None:
        """Go back to the last checkpoint; the data go on behind the step that was bad."""
        state = self.state
        next_data, rollbacks = state.step + state.data_offset + 1, state.guard.rollbacks + 1
        checkpoint = self.processes.same_as_main(self.checkpoints.latest() if self.processes.is_main else None)
        if checkpoint is None:
            raise state.guard.error(state.step + 1, "no checkpoint to go back to")
        state.load(checkpoint, self.processes)
        state.data_offset = next_data - state.step
        state.guard.went_back(rollbacks)
        self._measured_from = (time.monotonic(), state.num_samples)
        self.processes.wait()
        # Saved at once, so that a run killed now does not meet the bad batches again.
        self.saved_step = -1
        self.save()

    def _log(self) -> None:
        now, (since, samples_then) = time.monotonic(), self._measured_from
        self._measured_from = (now, self.state.num_samples)
        means = self.state.window.take(self.processes)
        if self.tracker is None:
            return
        fraction = lr_fraction(self.stage.optimizer, self.state.step - 1, self.stage.num_steps)
        elapsed = max(1e-9, now - since)
        timing = {
            "samples_per_s": (self.state.num_samples - samples_then) / elapsed,
            "data_wait_share": min(1.0, self._data_wait / elapsed),
            "peak_memory_gib": peak_memory(self.processes.device) / 2**30,
            "seconds": self.state.seconds,
        }
        self._data_wait = 0.0
        counters = {"lr": self.stage.optimizer.lr * fraction, "samples": self.state.num_samples}
        if self.state.loss_scale.enabled:
            counters["loss_scale"] = self.state.loss_scale.value
        if self.state.guard.skipped:
            counters["skipped"] = self.state.guard.skipped
        self.tracker.write(self.state.step, "train", {**means, **counters, **timing})

    def _validate(self) -> Mapping[str, float]:
        """What was measured; nothing in all processes but the main one."""
        with self._looking("validate") as looks, autocast(self.processes.device, self.state.precision):
            values = self.task.validate() if looks else {}
        if self.tracker is None:
            return {}
        values = {name: float(value) for name, value in values.items()}
        self.tracker.write(self.state.step, "validation", values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _log.info("%s, step %d, validation: %s", self.stage.name, self.state.step, shown)
        return values

    def _keep_if_best(self, values: Mapping[str, float]) -> None:
        """Save and mark the checkpoint of the lowest `keep_best` so far."""
        metric = self.stage.keep_best
        if metric is None:
            return
        best = self.checkpoints.best()
        # Marked first: a run killed before the checkpoint is there does this step again and finds the mark, while a
        # run that goes on from the checkpoint would never measure it again.
        is_marked = best is not None and best[0] == self.state.step
        is_best = bool(values) and (best is None or is_marked or values[metric] < best[1])
        if self.processes.any(is_best):
            if self.processes.is_main:
                self.checkpoints.mark_best(self.state.step, metric, values[metric])
            self.save()

    def _write_samples(self) -> None:
        device, precision = self.processes.device, self.state.precision
        with self._looking("samples") as looks:
            if not looks:
                return
            # Sharded weights come in the precision of training.
            with autocast(device, precision if self._is_sharded else "fp32"):
                if self.processes.is_main:
                    folder = self.sample_folder / f"{self.stage.name}-step-{self.state.step:08d}"
                    folder.mkdir(parents=True, exist_ok=True)
                    self.task.write_samples(folder)
                    if self.tracker is not None:
                        self.tracker.samples(self.state.step, folder)
                else:
                    with tempfile.TemporaryDirectory() as unseen:
                        self.task.write_samples(Path(unseen))

    def save(self) -> None:
        """Write a checkpoint of the step that was just done, unless it is there."""
        started = time.monotonic()
        if self.saved_step != self.state.step:
            self._show_doing("saving")
            data_states = self._data_states()
            state = self.state.collected(self.processes)
            networks = self.whole_networks()

            def write(folder: Path) -> None:
                assert state is not None
                # The pipeline holds the averaged weights, the state the raw ones.
                self.save_pipeline(folder, networks)
                write_state(folder, state)
                if data_states is not None:
                    write_data_states(folder / STATE_FOLDER, data_states)

            with self.processes.together():
                if self.processes.is_main:
                    self.checkpoints.save(self.state.step, write)
        self.saved_step = self.state.step
        self._saved_at = time.monotonic()
        if self.progress is not None:
            self.progress.saved(self.state.step)
        self._do_not_count(self._saved_at - started)

    def whole_networks(self) -> dict[str, dict[str, Tensor]]:
        """The averaged weights that are sharded, whole, by network, in the main process; all call it together."""
        with self._averaged_weights():
            sharded = {
                name: {key: value for key, value in module.state_dict().items() if is_sharded(value)}
                for name, module in self.task.modules().items()
            }
            networks: dict[str, dict[str, Tensor]] = whole_on_cpu(sharded, keep=self.processes.is_main)
            return networks

    def save_pipeline(self, folder: Path, networks: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write the pipeline with averaged weights into an empty folder, in one process.

        Args:
            networks: what `whole_networks` gave.
        """
        with ExitStack() as shown:
            shown.enter_context(self._averaged_weights())
            for name, module in self.task.modules().items():
                shown.enter_context(shown_whole(module, networks[name]))
            self.task.save_pipeline(folder)

    def _data_states(self) -> list[dict[str, Any]] | None:
        """Where the data of every process go on, by rank, in the main process."""
        if not isinstance(self.task, ReadsInOrder):
            return None
        return self.processes.gather(self.task.data_state())

    def _checkpoint_due(self) -> bool:
        if _is_due(self.state.step, self.stage.checkpoint_every):
            return True
        limit = self.stage.checkpoint_seconds
        return self.processes.any(limit > 0 and time.monotonic() - self._saved_at >= limit)

    @contextmanager
    def _looking(self, what: str) -> Iterator[bool]:
        """Time to look at the averaged weights, in the main process while the others wait.

        Where each has only a part of the weights, all look, and what the others see is dropped. It does not count as
        training time, and torch's generator is afterwards as before.
        """
        started, rng = time.monotonic(), torch.get_rng_state()
        self._show_doing({"validate": "validating", "samples": "making samples"}[what])
        seed_global_generators(self.seed, self.stage.name, self.state.step, what)
        self._set_mode(training=False)
        # Looking takes batches of many sizes, and compiling for each of them would cost minutes.
        eager = torch.compiler.set_stance("force_eager")
        # Processes that gather weights from each other cannot wait for one that failed; their launcher ends them.
        together = nullcontext() if self._is_sharded else self.processes.together()
        with together, eager, self._averaged_weights(), torch.no_grad():
            yield self.processes.is_main or self._is_sharded
        self._set_mode(training=True)
        torch.set_rng_state(rng)
        self.processes.wait()
        self._show_doing("training")
        self._do_not_count(time.monotonic() - started)

    def _show_doing(self, what: str) -> None:
        if self.progress is not None:
            self.progress.doing(what)

    def _do_not_count(self, seconds: float) -> None:
        """Leave time that was not spent on training out of the samples per second."""
        since, samples = self._measured_from
        self._measured_from = (since + seconds, samples)

    def _averaged_weights(self) -> Any:
        return nullcontext() if self.state.ema is None else self.state.ema.swapped_in()

    def _set_mode(self, *, training: bool) -> None:
        for module in self.task.modules().values():
            module.train(training and any(parameter.requires_grad for parameter in module.parameters()))


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
