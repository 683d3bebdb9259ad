"""The folder of a run: its files, its lock, and the configuration that it was started with.

config.json       the resolved configuration
choices.json      values measured once and kept on resume (the precision of each stage)
log.jsonl         the log; tensorboard/ holds the same values
bad_batches.jsonl batches whose step was skipped, if any
left_out.jsonl    samples that could not be used, if any; one file per process if there are several
trackers.json     the run's ids at trackers, if any
samples/          sample sheets during training
checkpoints/      STAGE-step-00001234/: pipeline folder and training state
stages/STAGE/     each finished stage as a pipeline folder
final/            the finished pipeline folder
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from videocrafter.checkpoints.publishing.training_record import RECORD_FILE
from videocrafter.media.atomic_write import is_leftover, remove_leftovers, whole_folder, write_text
from videocrafter.media.json_file import read_json_object
from videocrafter.pipelines.versions import versions
from videocrafter.training.config import RecipeConfig, StageConfig
from videocrafter.training.parallel.precision import PrecisionChoice
from videocrafter.training.resolved_config import Change, changes, to_dict, to_json

_log = logging.getLogger(__name__)

_FOLDERS = ("checkpoints", "stages", "final", "samples", "tensorboard")
_FILES = ("config.json", "choices.json", "log.jsonl", "bad_batches.jsonl", "trackers.json")
_LOCK = ".lock"


Confirm: TypeAlias = Callable[[Sequence[Change]], bool]
"""Shows the changed settings and returns whether to continue with them."""


class RunFolderError(ValueError):
    """The output folder cannot be used for this run."""


class RunFolder:
    """Paths and records of the run in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.final = root / "final"
        self.bad_batches = root / "bad_batches.jsonl"

    def stage(self, name: str) -> Path:
        """Return the pipeline folder of a finished stage."""
        return self.root / "stages" / name

    def finished_steps(self, name: str) -> int:
        """Return the number of steps that a finished stage was trained for; 0 if it is not finished."""
        try:
            return int(read_json_object(self.stage(name) / RECORD_FILE)["num_steps"])
        except (ValueError, KeyError, TypeError, OverflowError):
            return 0

    def has_checkpoint(self, stage: str) -> bool:
        """Whether a stage has saved a checkpoint."""
        return any(self.checkpoints.glob(f"{stage}-step-*"))

    def is_published(self, last_stage: str) -> bool:
        """Whether `final/` is a copy of the finished last stage; a run may be killed before it is copied."""
        records = [folder / RECORD_FILE for folder in (self.final, self.stage(last_stage))]
        return all(record.is_file() for record in records) and records[0].read_bytes() == records[1].read_bytes()

    def publish_final(self, last_stage: str) -> None:
        """Copy the last stage to `final/`."""
        with whole_folder(self.final, overwrite=True) as folder:
            shutil.copytree(self.stage(last_stage), folder, dirs_exist_ok=True)

    def saved_choice(self, stage: str) -> PrecisionChoice | None:
        """Return the precision chosen when the stage began; None if it has not begun."""
        choice = self._choices().get(stage)
        return None if choice is None else PrecisionChoice(**choice)

    def save_choice(self, stage: str, choice: PrecisionChoice) -> None:
        """Save a stage's precision, so that a resumed run uses the same."""
        write_text(self.root / "choices.json", json.dumps({**self._choices(), stage: asdict(choice)}, indent=2))

    def _choices(self) -> dict[str, Any]:
        path = self.root / "choices.json"
        try:
            return read_json_object(path) if path.exists() else {}
        except ValueError as error:
            raise RunFolderError(f"{error}; or pass --overwrite to start again") from error


def write_stage_record(folder: Path, stage: StageConfig) -> None:
    """Record in a stage's unpublished folder how it was trained, and with which versions."""
    record = {"num_steps": stage.num_steps, "stage": to_dict(stage), "versions": versions()}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")


def open_run(
    root: Path, recipe: RecipeConfig, *, accept_changes: bool, overwrite: bool, confirm: Confirm | None = None
) -> RunFolder:
    """Begin a run in `root`, or resume the one that is there.

    Args:
        accept_changes: resume with changed settings without asking.
        overwrite: delete the run that is there.
        confirm: asks about changed settings; None refuses them.

    Raises:
        RunFolderError: the folder holds a run with another configuration.
        OSError: the folder cannot be written.
    """
    config_file = root / "config.json"
    if overwrite:
        _remove_run(root)
    elif config_file.exists():
        _check_same_run(config_file, recipe, (lambda _: True) if accept_changes else confirm)
    for folder in (root, root / "checkpoints", root / "stages"):
        remove_leftovers(folder)
    for folder in (root / "samples").glob("*"):
        if folder.is_dir():
            remove_leftovers(folder)
    write_text(config_file, to_json(recipe))
    return RunFolder(root)


@contextmanager
def lock(root: Path, *, overwrite: bool) -> Iterator[None]:
    """Create the folder and lock it against a second run. The lock ends with the process, even if it is killed.

    Raises:
        RunFolderError: another run is training there, the folder holds files but no run, or it cannot be
            written.
    """
    if root.exists() and not root.is_dir():
        raise RunFolderError(f"--output {root} is a file; choose a folder")
    try:
        names = {path.name for path in root.iterdir()} if root.is_dir() else set()
        # A run that was killed at its very start leaves only these.
        others = {name for name in names if name != _LOCK and not is_leftover(name)}
        if others and "config.json" not in names and not overwrite:
            raise RunFolderError(
                f"--output {root} is not empty and holds no run; choose an empty folder, or pass --overwrite to "
                "train in it and keep the other files"
            )
        root.mkdir(parents=True, exist_ok=True)
        file = (root / _LOCK).open("w")
    except OSError as error:
        raise RunFolderError(
            f"--output {root} cannot be written ({error.strerror}); choose a folder that you can write to"
        ) from error
    with file:
        if not _lock_file(file.fileno()):
            raise RunFolderError(f"another run is training into {root}; wait for it or choose another folder")
        yield


def _lock_file(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; there, users must not start two runs in one folder
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_same_run(config_file: Path, recipe: RecipeConfig, confirm: Confirm | None) -> None:
    try:
        found = changes(read_json_object(config_file), recipe)
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise RunFolderError(
            f"{config_file} cannot be read ({error}); choose another folder or pass --overwrite"
        ) from error
    # Until something is saved, nothing depends on the settings, so a wrong one can still be corrected.
    saved = any(path.is_dir() for name in ("checkpoints", "stages") for path in (config_file.parent / name).glob("*"))
    serious = [change for change in found if not change.harmless and saved]
    listed = "; ".join(str(change) for change in (serious or found))
    if serious and not (confirm is not None and confirm(serious)):
        raise RunFolderError(
            f"{config_file.parent} holds a run with another configuration ({listed}). Restore the old values to "
            "resume it, pass --accept-changes to resume with the new ones, pass --overwrite to start over, or choose "
            "another folder"
        )
    if found:
        _log.info("Resuming with changed settings: %s", listed)


def _remove_run(root: Path) -> None:
    for path in [*(root / name for name in _FILES), *root.glob("left_out*.jsonl")]:
        path.unlink(missing_ok=True)
    for name in _FOLDERS:
        if (root / name).exists():
            shutil.rmtree(root / name)
