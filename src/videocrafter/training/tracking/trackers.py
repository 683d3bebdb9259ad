"""Experiment trackers: Weights & Biases, trackio and the others that accelerate supports.

Each tracker runs in its own thread, so that a slow or broken network never delays a step. A tracker's errors are
reported once; `log.jsonl` is complete in any case. The trackers' run IDs are stored in `trackers.json` in the run's
folder, so that a resumed run continues the same run at the tracker.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import logging
import math
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from videocrafter.media.atomic_write import write_text
from videocrafter.media.json_file import read_json_object
from videocrafter.training.config import RecipeConfig, SettingsError
from videocrafter.training.resolved_config import flat
from videocrafter.training.tracking.log import sample_files

_log = logging.getLogger(__name__)

TRACKERS_FILE = "trackers.json"
_NONE = "none"
_TENSORBOARD = "tensorboard"
_PROJECT = "videocrafter"
_MOST_WAITING = 10_000  # lines queued for a tracker
_START_SECONDS = 120.0
_FINISH_SECONDS = 60.0

Job = Callable[[Any], None]
"""A call to accelerate's tracker, made in the tracker's thread."""


@dataclass(frozen=True, kw_only=True)
class TrackerChoice:
    """The trackers of a run.

    Attributes:
        tensorboard: whether to use TensorBoard; None uses it if it is installed.
        others: name and project of every other tracker.
    """

    tensorboard: bool | None = None
    others: tuple[tuple[str, str], ...] = ()


def choose_trackers(names: Sequence[str]) -> TrackerChoice:
    """Parse tracker names: "wandb", "wandb:my-project", "tensorboard", or "none" to turn TensorBoard off.

    Raises:
        SettingsError: a tracker is unknown, or its package is not installed.
    """
    tensorboard: bool | None = None
    others: dict[str, str] = {}
    for text in names:
        name, _, project = text.partition(":")
        if name == _NONE:
            tensorboard = tensorboard or False
            continue
        _check_known(name)
        if name == _TENSORBOARD:
            tensorboard = True
        else:
            others[name] = project or os.environ.get(f"{name.upper()}_PROJECT") or _PROJECT
    return TrackerChoice(tensorboard=tensorboard, others=tuple(others.items()))


def _check_known(name: str) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # type: ignore[import-untyped]
    from accelerate.utils import LoggerType  # type: ignore[import-untyped]

    if name not in LOGGER_TYPE_TO_CLASS:
        nearest = get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else "."
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise SettingsError(f"there is no tracker {name!r}{hint} Known trackers: {known}; none turns TensorBoard off")
    # Trackers that a program registered with accelerate need no package of their own name.
    is_package = name in {kind.value for kind in LoggerType}
    found = importlib.util.find_spec(name) if is_package else None
    # A folder of that name in the working directory (W&B creates one) is found too, but without an origin.
    if is_package and (found is None or found.origin is None):
        raise SettingsError(f"the tracker {name} is not installed; pip install {name}, or remove --track {name}")


class Trackers:
    """The trackers of a whole run; the steps of its stages follow each other on one axis.

    Args:
        others: names and projects; see `TrackerChoice`.
        recipe: sent to each tracker as the run's configuration.
        output: the run's folder.
    """

    def __init__(self, others: Sequence[tuple[str, str]], recipe: RecipeConfig, output: Path) -> None:
        steps = [stage.num_steps for stage in recipe.stages]
        before = itertools.accumulate([0, *steps[:-1]])
        offsets = {stage.name: offset for stage, offset in zip(recipe.stages, before, strict=True)}
        config = {name: _scalar(value) for name, value in flat(recipe).items()}
        self.opened = []
        for name, project in others:
            options = _options(name, output, _identity(name, output))
            self.opened.append(_Sender(name, project, options, output, config, offsets))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self.opened:
            tracker.close()


class _Sender:
    """Follows the log and forwards it to one tracker through that tracker's thread."""

    def __init__(
        self,
        name: str,
        project: str,
        options: Mapping[str, Any],
        output: Path,
        config: Mapping[str, Any],
        offsets: Mapping[str, int],
    ) -> None:
        self._name, self._offsets = name, offsets
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._has_failed = False
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(project, options, output, config), name=f"tracker {name}", daemon=True
        )
        self._thread.start()
        # Wait, so that a login prompt and the run's address appear before the first step.
        if not self._started.wait(_START_SECONDS):
            _log.warning(
                "%s has not started after %.0f s; training begins, and its lines are queued.", name, _START_SECONDS
            )

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Send the numbers of a log line."""
        numbers = {
            f"{kind}/{name}": value
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        if not numbers:
            return
        at = self._offsets[stage] + step
        numbers[f"{kind}/stage"] = list(self._offsets).index(stage) + 1
        self._hand_over(lambda tracker: self._send(tracker, numbers, at))

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Send images and videos."""
        at = self._offsets[stage] + step
        self._hand_over(lambda tracker: self._send_samples(tracker, folder, at))

    def close(self) -> None:
        """Wait for queued lines, for at most a minute."""
        self._jobs.put(None)
        self._thread.join(_FINISH_SECONDS)
        if self._thread.is_alive():
            _log.warning(
                "%s did not finish within %.0f s; log.jsonl has the lines that were not sent.",
                self._name,
                _FINISH_SECONDS,
            )

    def _hand_over(self, job: Job) -> None:
        if not self._thread.is_alive():
            return
        if self._jobs.qsize() < _MOST_WAITING:
            self._jobs.put(job)
        else:
            self._fail("does not keep up", "too many lines are queued")

    def _work(self, project: str, options: Mapping[str, Any], output: Path, config: Mapping[str, Any]) -> None:
        try:
            tracker = _new_tracker(self._name, project, options, output)
            tracker.store_init_configuration(dict(config))
        except Exception as error:  # noqa: BLE001  no error of a tracker may end the run
            self._fail("could not be started and is not used", error)
            return
        finally:
            self._started.set()
        while (job := self._jobs.get()) is not None:
            self._try(job, tracker, "rejected a line")
        self._try(lambda tracker: tracker.finish(), tracker, "could not be closed")

    def _try(self, job: Job, tracker: Any, failure: str) -> None:
        try:
            job(tracker)
        except Exception as error:  # noqa: BLE001  no error of a tracker may end the run
            self._fail(failure, error)

    def _fail(self, failure: str, reason: object) -> None:
        """Warn once that the tracker is incomplete. Later lines are still sent: the network may recover."""
        if not self._has_failed:
            self._has_failed = True
            why = " ".join(str(reason).split()) or type(reason).__name__
            _log.warning("%s %s (%s). Training continues; log.jsonl is complete.", self._name, failure, why)

    def _send(self, tracker: Any, values: Mapping[str, Any], at: int) -> None:
        # A run that went back to a checkpoint repeats steps, and W&B accepts each step only once.
        last = getattr(tracker.tracker, "step", 0) if self._name == "wandb" else 0
        if not isinstance(last, int) or at >= last:
            tracker.log(dict(values), step=at)

    def _send_samples(self, tracker: Any, folder: Path, at: int) -> None:
        pictures, videos = sample_files(folder)
        if self._name in ("wandb", "trackio"):  # these two accept videos and media files
            media = importlib.import_module(self._name)
            shown = {f"samples/{path.stem}": media.Image(str(path)) for path in pictures}
            shown |= {f"samples/{path.stem}": media.Video(str(path), format=path.suffix[1:]) for path in videos}
            if shown:
                self._send(tracker, shown, at)
        elif hasattr(tracker, "log_images"):
            from PIL import Image

            for path in pictures:
                tracker.log_images({f"samples/{path.stem}": [Image.open(path).convert("RGB")]}, step=at)


def _new_tracker(name: str, project: str, options: Mapping[str, Any], output: Path) -> Any:
    from accelerate import PartialState  # type: ignore[import-untyped]
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's trackers use it to find the main process
    kind = LOGGER_TYPE_TO_CLASS[name]
    where = (str(output / name),) if kind.requires_logging_directory else ()
    tracker = kind(project, *where, **options)
    tracker.start()
    return tracker


def _options(name: str, output: Path, identity: str) -> dict[str, Any]:
    """Return the options that let W&B and trackio continue a run; other trackers start a new one."""
    title = output.resolve().name
    if name == "wandb":
        # Its copy of the terminal would be filled by the live view.
        quiet = {"console": "off"}
        return {"name": title, "id": identity, "resume": "allow", "dir": str(output), "settings": quiet}
    if name == "trackio":
        return {"name": f"{title}-{identity[:6]}", "resume": "allow"}
    return {}


def _identity(name: str, output: Path) -> str:
    """Return the run's ID at a tracker; it is drawn once and stored in the run's folder."""
    path = output / TRACKERS_FILE
    try:
        known = read_json_object(path)
        if isinstance(known.get(name), str):
            return str(known[name])
    except ValueError:
        known = {}
    known[name] = secrets.token_hex(8)
    write_text(path, json.dumps(known))
    return str(known[name])


def _scalar(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
