"""A whole run: the stages of a recipe one after the other, each from where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.presets import PRESETS
from videocrafter.training.checkpoint import Checkpoints, write_folder
from videocrafter.training.config import RecipeConfig, SettingsError, StageConfig
from videocrafter.training.ema import ExponentialMovingAverage
from videocrafter.training.guard import StepGuard
from videocrafter.training.interruption import StopRequest
from videocrafter.training.loop import StageLoop
from videocrafter.training.optimizer import StageOptimizer
from videocrafter.training.precision import ChosenPrecision, choose_precision
from videocrafter.training.processes import Processes
from videocrafter.training.progress import Progress
from videocrafter.training.randomness import seed_global_generators
from videocrafter.training.run_folder import RunFolder, lock, open_run, write_stage_record
from videocrafter.training.starting_weights import check_whole
from videocrafter.training.state import MetricWindow, TrainingState, saved_precision, trained_parameters
from videocrafter.training.task import Task
from videocrafter.training.tracking import Tracker, truncate_log

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """How a run ended.

    Attributes:
        finished: every stage is trained and `final` is there.
        stage: the stage that was trained last.
        step: its steps done.
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
) -> TrainingOutcome:
    """Train a recipe into a folder, or go on where the run in it stopped.

    Args:
        recipe: the resolved configuration.
        output: the run's folder; see `run_folder` for what lies in it.
        stop_after_s: finish the step, save and return after this many seconds.
        accept_changes: go on although the configuration differs from the one the run began with.
        overwrite: delete a run that is there and begin anew.
        device: where to train; None takes a GPU if there is one.

    Raises:
        SettingsError: a stage cannot be built from its settings, or not go on with them.
        RunFolderError: the folder holds something else, a different run, or another process trains there.
        NonFiniteError: the loss or the gradient is bad step after step.
        CheckpointError: a checkpoint could not be written; the last good one stays.
        OSError: a file could not be read or written.
    """
    _start_folder(recipe)
    processes = Processes(device)
    with (
        _opened(recipe, output, processes, accept_changes, overwrite) as folder,
        StopRequest(stop_after_s) as stop,
    ):
        return _Run(recipe, folder, processes, stop).train_stages()


def _start_folder(recipe: RecipeConfig) -> Path | None:
    """What the first stage starts from: a folder, or a model that the package brings."""
    if recipe.init is None:
        return None
    preset = PRESETS.get(recipe.init)
    folder = preset.folder if preset is not None and preset.folder is not None else Path(recipe.init)
    if not folder.is_dir():
        raise SettingsError(
            f"init is {recipe.init!r}, which is neither a folder nor a model that the package brings; give a "
            "pipeline folder, such as RUN/final"
        )
    try:
        check_whole(folder)
    except ModelFolderError as error:
        raise SettingsError(f"init is {recipe.init!r}, but {error}; give a whole copy of that folder") from error
    return folder


@contextmanager
def _opened(
    recipe: RecipeConfig, output: Path, processes: Processes, accept_changes: bool, overwrite: bool
) -> Iterator[RunFolder]:
    if not processes.is_main:
        processes.wait()
        yield RunFolder(output)
        return
    with lock(output, overwrite=overwrite):
        folder = open_run(output, recipe, accept_changes=accept_changes, overwrite=overwrite)
        processes.wait()
        yield folder


class _Run:
    def __init__(self, recipe: RecipeConfig, folder: RunFolder, processes: Processes, stop: StopRequest) -> None:
        self._recipe, self._folder, self._processes, self._stop = recipe, folder, processes, stop

    def train_stages(self) -> TrainingOutcome:
        stages = self._recipe.stages
        start = _start_folder(self._recipe)
        trained_any = False
        for index, stage in enumerate(stages):
            done = self._folder.finished_steps(stage.name)
            if done < stage.num_steps and not (done and self._has_begun_after(index)):
                finished, step = self._train_stage(index, stage, start)
                trained_any = True
                stopping = self._processes.any(self._stop.requested()) and stage is not stages[-1]
                if stopping or not finished:
                    return self._outcome(finished=False, stage=stage, step=step)
            start = self._finished_stage(stage)
        if self._processes.is_main and (trained_any or not self._folder.is_published(stages[-1].name)):
            self._folder.publish_final(stages[-1].name)
        self._processes.wait()
        return self._outcome(finished=True, stage=stages[-1], step=stages[-1].num_steps)

    def _finished_stage(self, stage: StageConfig) -> Path:
        """The folder of a finished stage, for the next one to start from or to be published."""
        folder = self._folder.stage(stage.name)
        try:
            check_whole(folder)
        except ModelFolderError as error:
            raise SettingsError(f"{error}; delete {folder}, and the same command makes it anew") from error
        return folder

    def _has_begun_after(self, index: int) -> bool:
        """Whether a later stage was built on this one, which must then stay as it is."""
        later = self._recipe.stages[index + 1 :]
        begun = any(
            self._folder.finished_steps(later_stage.name) or self._folder.has_checkpoint(later_stage.name)
            for later_stage in later
        )
        if begun:
            name = self._recipe.stages[index].name
            _log.warning("Stage %s stays as it is: later stages were built on it.", name)
        return begun

    def _outcome(self, *, finished: bool, stage: StageConfig, step: int) -> TrainingOutcome:
        return TrainingOutcome(
            output=self._folder.root, finished=finished, stage=stage.name, step=step, signal=self._stop.signal
        )

    def _train_stage(self, index: int, stage: StageConfig, start: Path | None) -> tuple[bool, int]:
        """Train one stage and publish it; whether it is finished, and its steps done."""
        title = f"{stage.name} ({index + 1}/{len(self._recipe.stages)})"
        checkpoints = Checkpoints(
            self._folder.checkpoints, stage.name, stage.keep_checkpoints, every=stage.keep_every
        )
        resumed_from = checkpoints.latest()
        seed_global_generators(self._recipe.seed, stage.name, "build")
        try:
            task = stage.task.build(start, self._recipe.seed, index, self._processes.device)
        except ValueError as error:
            raise SettingsError(f"stage {stage.name!r} cannot be built: {error}") from error
        loop = self._build_loop(stage, task, checkpoints, resumed_from)
        step = loop.state.step
        _log.info(
            "%s: %s, %.2f M of %.2f M parameters learn, %s on %s",
            title,
            "from the beginning" if resumed_from is None else f"going on from {resumed_from}",
            sum(parameter.numel() for parameter in loop.parameters.values()) / 1e6,
            sum(p.numel() for module in task.modules().values() for p in module.parameters()) / 1e6,
            loop.state.precision,
            self._processes.device,
        )
        if self._processes.is_main:
            names = [stage.name for stage in self._recipe.stages]
            truncate_log(self._folder.root, names, stage.name, -1 if resumed_from is None else step)
            loop.tracker = Tracker(self._folder.root, stage.name, step)
            loop.progress = Progress(title, stage.num_steps, step)
            if resumed_from is None and (choice := self._folder.saved_choice(stage.name)) is not None:
                loop.tracker.write(0, "precision", asdict(choice))
        try:
            finished = loop.run()
        finally:
            if loop.tracker is not None and loop.progress is not None:
                loop.progress.close()
                loop.tracker.close()
        if finished and self._processes.is_main:
            self._publish_stage(stage, loop)
        self._processes.wait()
        return finished, loop.state.step

    def _build_loop(
        self, stage: StageConfig, task: Task, checkpoints: Checkpoints, resumed_from: Path | None
    ) -> StageLoop:
        parameters = trained_parameters(task)
        if stage.compile:
            for module in task.modules().values():
                if any(parameter.requires_grad for parameter in module.parameters()):
                    module.compile()
        precision = self._settle_precision(stage, task, resumed_from)
        state = TrainingState(
            stage=stage.name,
            device=self._processes.device,
            modules=task.modules(),
            optimizer=StageOptimizer(stage.optimizer, task.modules(), parameters),
            ema=ExponentialMovingAverage(parameters, stage.ema_decay) if stage.ema_decay else None,
            precision=precision,
            window=MetricWindow(),
            guard=StepGuard(stage.guard, stage.name),
        )
        if resumed_from is not None:
            state.load(resumed_from)
        return StageLoop(
            stage=stage,
            seed=self._recipe.seed,
            task=task,
            parameters=parameters,
            state=state,
            checkpoints=checkpoints,
            sample_folder=self._folder.samples,
            bad_batches=self._folder.bad_batches,
            tracker=None,
            progress=None,
            stop=self._stop,
            processes=self._processes,
            saved_step=-1 if resumed_from is None else state.step,
        )

    def _settle_precision(self, stage: StageConfig, task: Task, resumed_from: Path | None) -> ChosenPrecision:
        """The precision that the stage began with; for a new stage the wanted or the measured one."""
        if stage.precision != "auto":
            choice = choose_precision(stage.precision, task, self._processes.device)
        elif resumed_from is not None:
            return saved_precision(resumed_from)
        else:
            saved = self._folder.saved_choice(stage.name)
            choice = saved or choose_precision("auto", task, self._processes.device)
        if self._processes.is_main:
            self._folder.save_choice(stage.name, choice)
        self._processes.wait()
        if choice.fp32_seconds is not None and choice.bf16_seconds is not None:
            _log.info(
                "%s: a step takes %.3f s in fp32 and %.3f s in bf16; using %s",
                stage.name,
                choice.fp32_seconds,
                choice.bf16_seconds,
                choice.precision,
            )
        return choice.precision

    def _publish_stage(self, stage: StageConfig, loop: StageLoop) -> None:
        def write(folder: Path) -> None:
            loop.save_pipeline(folder)
            write_stage_record(folder, stage)

        write_folder(self._folder.stage(stage.name), write)
        _log.info("Stage %s is finished: %s", stage.name, self._folder.stage(stage.name))
