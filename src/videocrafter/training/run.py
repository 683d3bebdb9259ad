"""A whole run: train the stages of a recipe in order, resuming the one that was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from videocrafter.data.loader_state import DataMismatchError
from videocrafter.media.atomic_write import whole_folder
from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.training.batch_reader import read_data_states
from videocrafter.training.config import ParallelConfig, RecipeConfig, SettingsError, StageConfig
from videocrafter.training.interruption import StopRequest
from videocrafter.training.loop import StageLoop
from videocrafter.training.optim.ema import ExponentialMovingAverage
from videocrafter.training.optim.guard import StepGuard
from videocrafter.training.optim.loss_scale import LossScale
from videocrafter.training.optim.optimizer import StageOptimizer
from videocrafter.training.parallel.launcher import check_launcher, launcher_parallel
from videocrafter.training.parallel.precision import DTYPES, ChosenPrecision, choose_precision
from videocrafter.training.parallel.processes import Processes, check_shared
from videocrafter.training.parallel.sharding import Sharding, shard
from videocrafter.training.randomness import seed_global_generators
from videocrafter.training.registry import build_task
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.run_folder import Confirm, RunFolder, lock, open_run, write_stage_record
from videocrafter.training.saving.state import (
    STATE_FOLDER,
    MetricWindow,
    TrainingState,
    saved_precision,
    trained_parameters,
)
from videocrafter.training.task import MayBeSharded, ReadsInOrder, Task
from videocrafter.training.tracking.observers import Observers
from videocrafter.training.tracking.trackers import choose_trackers
from videocrafter.training.video.starting_weights import check_whole, start_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """The result of a call to `train`.

    Attributes:
        finished: every stage is finished and `final/` is written.
        stage: name of the stage that was trained last.
        step: steps done in that stage.
        signal: number of the signal that stopped the run, if one did.
    """

    output: Path
    finished: bool
    stage: str
    step: int
    signal: int | None = None


def train(
    recipe: RecipeConfig,
    output: Path,
    *,
    stop_after_s: float | None = None,
    accept_changes: bool = False,
    overwrite: bool = False,
    device: torch.device | str | None = None,
    confirm: Confirm | None = None,
    track: Sequence[str] = (),
    plain: bool = False,
) -> TrainingOutcome:
    """Train a recipe into a folder, or resume the run in it.

    Args:
        recipe: the resolved configuration.
        output: the run's folder; see `run_folder` for its layout.
        stop_after_s: after this many seconds, finish the step, save and return.
        accept_changes: resume although the configuration or the data differ from the run's. Changed data are read
            from their first batch.
        overwrite: delete the run in the folder and start again.
        device: where to train; None takes a GPU if there is one.
        confirm: asks the user whether to resume with a changed configuration; None refuses.
        track: experiment trackers to use in addition to `log.jsonl`; see `choose_trackers`.
        plain: print progress as lines, even in a terminal.

    Raises:
        SettingsError: a setting, tracker or launcher option is not supported, or does not fit the run's checkpoint.
        RunFolderError: the folder holds other files or a different run, or another process trains in it.
        NonFiniteError: the loss or the gradient is bad in too many steps.
        CheckpointError: a checkpoint could not be written; earlier ones are kept.
        OSError: a file could not be read or written.
        OtherProcessError: another process of this run failed.
    """
    check_launcher()
    trackers = choose_trackers(track)
    start = start_folder(recipe)
    processes = Processes(device)
    for stage in recipe.stages:
        check_shared(stage.optimizer.accumulate, processes.count)
    with (
        _opened(recipe, output, processes, accept_changes, overwrite, confirm) as folder,
        StopRequest(stop_after_s, launched=processes.count > 1) as stop,
        Observers(recipe, folder.root, trackers, plain=plain, is_main=processes.is_main) as observers,
    ):
        run = _Run(recipe, folder, processes, stop, observers, accept_changes=accept_changes)
        return run.train_stages(start)


@contextmanager
def _opened(
    recipe: RecipeConfig,
    output: Path,
    processes: Processes,
    accept_changes: bool,
    overwrite: bool,
    confirm: Confirm | None,
) -> Iterator[RunFolder]:
    with ExitStack() as held:
        folder = RunFolder(output)
        with processes.together():
            if processes.is_main:
                held.enter_context(lock(output, overwrite=overwrite))
                folder = open_run(output, recipe, accept_changes=accept_changes, overwrite=overwrite, confirm=confirm)
        yield folder


class _Run:
    def __init__(
        self,
        recipe: RecipeConfig,
        folder: RunFolder,
        processes: Processes,
        stop: StopRequest,
        observers: Observers,
        *,
        accept_changes: bool,
    ) -> None:
        self._recipe, self._folder, self._processes, self._stop = recipe, folder, processes, stop
        self._observers, self._accept_changes = observers, accept_changes

    def train_stages(self, start: Path | None) -> TrainingOutcome:
        stages = self._recipe.stages
        trained_any = False
        for index, stage in enumerate(stages):
            if self._processes.same_as_main(self._is_due(index)):
                finished, step = self._train_stage(index, stage, start)
                trained_any = True
                stopping = self._processes.any(self._stop.requested()) and stage is not stages[-1]
                if stopping or not finished:
                    return self._outcome(finished=False, stage=stage, step=step)
            start = self._finished_stage(stage)
        with self._processes.together():
            if self._processes.is_main and (trained_any or not self._folder.is_published(stages[-1].name)):
                self._folder.publish_final(stages[-1].name)
        return self._outcome(finished=True, stage=stages[-1], step=stages[-1].num_steps)

    def _finished_stage(self, stage: StageConfig) -> Path:
        """Return the folder of a finished stage, after checking that its weights are readable."""
        folder = self._folder.stage(stage.name)
        try:
            check_whole(folder)
        except ModelFolderError as error:
            raise SettingsError(f"{error}; delete {folder} and run the same command to train it again") from error
        return folder

    def _is_due(self, index: int) -> bool:
        stage = self._recipe.stages[index]
        done = self._folder.finished_steps(stage.name)
        return done < stage.num_steps and not (done and self._has_begun_after(index))

    def _has_begun_after(self, index: int) -> bool:
        """Whether a later stage already started from this one, so that this one must not change."""
        later = self._recipe.stages[index + 1 :]
        begun = any(
            self._folder.finished_steps(later_stage.name) or self._folder.has_checkpoint(later_stage.name)
            for later_stage in later
        )
        if begun:
            name = self._recipe.stages[index].name
            _log.warning("Stage %s is not trained further, because a later stage already started from it.", name)
        return begun

    def _outcome(self, *, finished: bool, stage: StageConfig, step: int) -> TrainingOutcome:
        # A signal to one process stops them all.
        signals = [number for number in self._processes.gather(self._stop.signal) if number is not None]
        return TrainingOutcome(
            output=self._folder.root,
            finished=finished,
            stage=stage.name,
            step=step,
            signal=signals[0] if signals else None,
        )

    def _train_stage(self, index: int, stage: StageConfig, start: Path | None) -> tuple[bool, int]:
        """Train one stage and publish it; return whether it is finished, and its steps done."""
        title = f"{stage.name} ({index + 1}/{len(self._recipe.stages)})"
        checkpoints = Checkpoints(
            self._folder.checkpoints, stage.name, stage.keep_checkpoints, every=stage.keep_every
        )
        latest = checkpoints.latest() if self._processes.is_main else None
        resumed_from = self._processes.same_as_main(latest)
        seed_global_generators(self._recipe.seed, stage.name, "build")
        try:
            task = build_task(stage.task, start, self._recipe.seed, index, self._processes.device)
        except ValueError as error:
            raise SettingsError(f"stage {stage.name!r} cannot be built: {error}") from error
        if isinstance(task, ReadsInOrder):
            self._open_data(task, stage)
        try:
            return self._train_task(title, stage, task, checkpoints, resumed_from)
        finally:
            if isinstance(task, ReadsInOrder):
                task.close_data()

    def _open_data(self, task: ReadsInOrder, stage: StageConfig) -> None:
        try:
            task.open_data(self._processes.index, self._processes.count, self._folder.root)
        except ValueError as error:
            raise SettingsError(f"the data of stage {stage.name!r} cannot be read: {error}") from error

    def _train_task(
        self, title: str, stage: StageConfig, task: Task, checkpoints: Checkpoints, resumed_from: Path | None
    ) -> tuple[bool, int]:
        state = self._build_state(stage, task, resumed_from)
        trainable = sum(parameter.numel() for parameter in trained_parameters(task).values())
        _log.info(
            "Stage %s%s: %.2f M of %.2f M parameters trainable, %s on %s",
            title,
            "" if resumed_from is None else f", resumed from {resumed_from}",
            trainable / 1e6,
            sum(p.numel() for module in task.modules().values() for p in module.parameters()) / 1e6,
            state.precision,
            self._processes.device,
        )
        is_new, reads_files = resumed_from is None, isinstance(task, ReadsInOrder)
        with self._observers.stage(title, stage.name, state.step, is_new=is_new, reads_files=reads_files) as (
            log,
            progress,
        ):
            if log is not None and is_new and (choice := self._folder.saved_choice(stage.name)) is not None:
                log.write(0, "precision", asdict(choice))
            loop = StageLoop(
                stage=stage,
                seed=self._recipe.seed,
                task=task,
                state=state,
                checkpoints=checkpoints,
                folder=self._folder,
                log=log,
                progress=progress,
                stop=self._stop,
                processes=self._processes,
            )
            finished = loop.run()
        if finished:
            self._publish_stage(stage, loop)
        return finished, state.step

    def _build_state(self, stage: StageConfig, task: Task, resumed_from: Path | None) -> TrainingState:
        """Compile, shard and build what the stage trains with, and restore a checkpoint."""
        parallel = launcher_parallel(stage.parallel)
        sharded = self._sharded_modules(parallel, stage, task)
        if stage.compile:
            self._compile(task, sharded)
        precision = self._settle_precision(stage, task, resumed_from, fits=not sharded)
        self._shard(task, sharded, parallel, precision)
        parameters = trained_parameters(task)
        ema_device = torch.device("cpu") if stage.ema_device == "cpu" else None
        state = TrainingState(
            stage=stage.name,
            device=self._processes.device,
            modules=task.modules(),
            optimizer=StageOptimizer(stage.optimizer, task.modules(), parameters, self._processes),
            ema=ExponentialMovingAverage(parameters, stage.ema_decay, ema_device) if stage.ema_decay else None,
            precision=precision,
            window=MetricWindow(),
            guard=StepGuard(stage.guard, stage.name),
            loss_scale=LossScale(enabled=precision == "fp16"),
        )
        if resumed_from is not None:
            state.load(resumed_from, self._processes)
            if isinstance(task, ReadsInOrder):
                self._resume_data(task, resumed_from)
        return state

    def _sharded_modules(self, parallel: ParallelConfig, stage: StageConfig, task: Task) -> Sequence[str]:
        """Return the names of the networks to shard."""
        if parallel.sharding == "none":
            return ()
        if self._processes.count == 1:
            _log.info("Stage %s: parallel.sharding has no effect in a single process.", stage.name)
            return ()
        if not isinstance(task, MayBeSharded):
            _log.info("Stage %s: its networks are too small to shard; every process holds a full copy.", stage.name)
            return ()
        if not task.shardable_modules:
            raise SettingsError(
                f"stage {stage.name} trains {type(task).__name__}, which cannot be sharded, but parallel.sharding is"
                f" {parallel.sharding!r}; set it to none, or train a LoRA if the networks do not fit"
            )
        return task.shardable_modules

    @staticmethod
    def _compile(task: Task, sharded: Sequence[str]) -> None:
        if sharded:
            raise SettingsError(
                "compile and parallel.sharding are both set, but cannot be combined; turn one of them off"
            )
        for module in task.modules().values():
            if any(parameter.requires_grad for parameter in module.parameters()):
                module.compile()

    def _shard(self, task: Task, names: Sequence[str], parallel: ParallelConfig, precision: ChosenPrecision) -> None:
        if not names:
            return
        sharding = Sharding(
            mesh=self._processes.mesh,
            dtype=None if precision == "fp32" else DTYPES[precision],
            cpu_offload=parallel.cpu_offload,
            reshard_after_forward=parallel.reshard_after_forward,
        )
        for name in names:
            shard(task.modules()[name], sharding)

    def _resume_data(self, task: ReadsInOrder, checkpoint: Path) -> None:
        try:
            task.load_data_states(read_data_states(checkpoint / STATE_FOLDER))
        except DataMismatchError as error:
            if not self._accept_changes:
                raise SettingsError(
                    f"the data differ from those of {checkpoint}: {error.difference}; pass the same data, or "
                    "--accept-changes to keep the weights and read the new data from their first batch"
                ) from error
            _log.warning("The data have changed and are read from their first batch: %s", error.difference)
        except ValueError as error:
            raise SettingsError(f"the data position in {checkpoint} cannot be restored: {error}") from error

    def _settle_precision(
        self, stage: StageConfig, task: Task, resumed_from: Path | None, *, fits: bool
    ) -> ChosenPrecision:
        """Return the configured precision, or for "auto" the one chosen when the stage began."""
        device, first_pass = self._processes.device, self._processes.index
        if stage.precision != "auto":
            choice = choose_precision(stage.precision, task, device)
        elif resumed_from is not None:
            return saved_precision(resumed_from)
        else:
            saved = self._folder.saved_choice(stage.name)
            # Every process times it, since a pass may need them all; the main process decides.
            choice = self._processes.same_as_main(
                saved or choose_precision("auto", task, device, first_pass, fits=fits)
            )
        if self._processes.is_main:
            self._folder.save_choice(stage.name, choice)
        self._processes.wait()
        if choice.fp32_seconds is not None and choice.bf16_seconds is not None:
            _log.info(
                "Stage %s: one pass takes %.3f s in fp32 and %.3f s in bf16; using %s",
                stage.name,
                choice.fp32_seconds,
                choice.bf16_seconds,
                choice.precision,
            )
        return choice.precision

    def _publish_stage(self, stage: StageConfig, loop: StageLoop) -> None:
        networks = loop.whole_networks()

        with self._processes.together():
            if self._processes.is_main:
                with whole_folder(self._folder.stage(stage.name), overwrite=True) as folder:
                    loop.save_pipeline(folder, networks)
                    write_stage_record(folder, stage)
        _log.info("Stage %s finished: %s", stage.name, self._folder.stage(stage.name))
