"""The observers of a run in training: the log, trackers, TensorBoard and the terminal view."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from videocrafter.training.config import RecipeConfig
from videocrafter.training.resolved_config import to_json
from videocrafter.training.tracking.data_wait import DataWaitWarning
from videocrafter.training.tracking.log import Follower, TrainingLog, read_log, truncate_log
from videocrafter.training.tracking.progress import StageProgress, open_progress
from videocrafter.training.tracking.tensorboard import TensorBoard
from videocrafter.training.tracking.trackers import TrackerChoice, Trackers

_log = logging.getLogger(__name__)


class Observers:
    """Opens the trackers of a run, and the log and the view of each of its stages.

    Args:
        recipe: the run's configuration.
        output: the run's folder.
        choice: the trackers to use.
        plain: print progress as lines, even in a terminal.
        is_main: whether this is the main process; the others report nothing.
    """

    def __init__(
        self, recipe: RecipeConfig, output: Path, choice: TrackerChoice, *, plain: bool, is_main: bool
    ) -> None:
        self._recipe, self._output, self._choice = recipe, output, choice
        self._plain, self._is_main = plain, is_main
        self._open = ExitStack()
        self._followers: list[Follower] = []

    def __enter__(self) -> Observers:
        if self._is_main:
            trackers = self._open.enter_context(Trackers(self._choice.others, self._recipe, self._output))
            self._followers += trackers.opened
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @contextmanager
    def stage(
        self, title: str, name: str, step: int, *, is_new: bool, reads_files: bool
    ) -> Iterator[tuple[TrainingLog, StageProgress] | tuple[None, None]]:
        """Open the log and the view of one stage; both are None in processes other than the main one.

        Args:
            title: heading of the view.
            step: steps already done. Log lines of later steps, left by a killed run, are removed.
            is_new: the stage starts from its first step; all of its log lines are removed.
            reads_files: the stage reads its data from files, so training may have to wait for them.
        """
        if not self._is_main:
            yield None, None
            return
        num_steps = {stage.name: stage.num_steps for stage in self._recipe.stages}
        truncate_log(self._output, list(num_steps), name, -1 if is_new else step)
        past = [line for line in read_log(self._output) if line["stage"] == name]
        with ExitStack() as stack:
            followers = list(self._followers)
            board = self._open_tensorboard(name, step)
            if board is not None:
                followers.append(board)
                stack.callback(board.close)
            if reads_files:
                followers.append(DataWaitWarning())
            progress = open_progress(title, num_steps[name], step, past, plain=self._plain)
            stack.callback(progress.close)
            log = TrainingLog(self._output, name, [progress, *followers])
            stack.callback(log.close)
            yield log, progress

    def _open_tensorboard(self, stage: str, step: int) -> TensorBoard | None:
        if self._choice.tensorboard is False:
            return None
        try:
            return TensorBoard(self._output / "tensorboard" / stage, step, to_json(self._recipe))
        except ImportError:
            if self._choice.tensorboard is None:
                _log.info("TensorBoard is not installed; the log is only written to log.jsonl.")
            return None
        except OSError as error:
            _log.warning("TensorBoard files cannot be written (%s); the log is only written to log.jsonl.", error)
            return None
