"""Generate a set of videos with a model, resumably: every prompt with fixed seeds, a finished video never again.

The videos are made by `videocrafter.generation`, so their recordings are those of `videocrafter generate`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.generation.errors import ModelUnavailableError, expecting
from videocrafter.generation.request import GenerateOptions, PromptRow, check_options
from videocrafter.generation.run import PreparedRun, generate, load, prepare
from videocrafter.generation.watcher import Watcher, WrittenVideo
from videocrafter.media.atomic_write import is_leftover, write_text
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.json_file import read_json_object
from videocrafter.media.video_file import read_metadata
from videocrafter.pipelines.model_folder import PIPELINE_TASKS, check_model_folder
from videocrafter.pipelines.sampling_settings import SETTING_NAMES
from videocrafter.presets import Task

if TYPE_CHECKING:
    from videocrafter.generation.mode import Pipeline

Progress = Callable[[int, int], None]
"""Called with (videos that exist, number of videos)."""
Note = Callable[[str], None]

SET_FILE = "generation.json"
"""File in a folder of videos that says which model and settings they are made with."""

_EARLIER_SET_FILE = "column.json"
_SET_VIDEO = re.compile(r"\d{4,}-\d+\.mp4")
_OPTIONS = ("scheduler", "spacing", "num_frames", "height", "width", "fps", "negative_prompt", "image_fit", "dtype")
OPTION_NAMES = frozenset(_OPTIONS) | frozenset(SETTING_NAMES)
"""Settings that a set may have: options of `videocrafter generate`."""


@dataclass(frozen=True, kw_only=True)
class PreparedSet:
    """A set of videos whose model, settings, inputs and finished videos were checked.

    Attributes:
        run: a run of the videos that are missing.
        paths: the file of each prompt and seed, in order.
    """

    run: PreparedRun
    paths: tuple[Path, ...]

    @property
    def is_complete(self) -> bool:
        """Whether no video is missing."""
        return not self.run.outputs

    def load(self, note: Note = lambda text: None) -> Pipeline:
        """Load the model; see `videocrafter.generation.run.load`."""
        return load(self.run, _Counting(self, lambda done, total: None, note))


def prepare_set(
    model: str,
    items: Sequence[PromptItem],
    folder: Path,
    *,
    seeds: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    device: str = "auto",
    obtain: Callable[[str, Task], Path] = obtain_model,
    note: Note = lambda text: None,
) -> PreparedSet:
    """Check everything before a set is generated, and record in its folder what the folder is for.

    Args:
        model: name or folder.
        items: the prompts. A prompt's own seed replaces `seeds`. Those for an image-to-video model have images;
            a text-to-video model ignores images.
        folder: of the videos: `0000-0.mp4` (number of the prompt, seed), each with its recording. Finished videos of
            the same model, prompt, seed, image and settings are kept.
        seeds: of every other prompt, so that models of one family start from the same noise.
        settings: those that differ from the model's recommended ones, by their names in `OPTION_NAMES`.
        batch_size: videos per batch; a video does not depend on it, up to rounding.
        device: as for `videocrafter generate`.
        obtain: as for `videocrafter.generation.run.prepare`.
        note: called with each remark.

    Raises:
        GenerationError: the settings are wrong, or the model is missing or damaged.
        OutputExistsError: the folder contains something else.
        ValueError: an item of an image-to-video model has no image.
        OSError: a file cannot be read or written.
    """
    chosen = dict(sorted((settings or {}).items()))
    options = _options(model, items, folder, seeds, chosen, batch_size, device)
    with expecting():
        check_options(options)
    with expecting(error=ModelUnavailableError):
        found = obtain(model, options.task)
        class_name = check_model_folder(found)["_class_name"]
    options = _with_images(options, class_name, note)
    run = prepare(options, obtain=lambda name, task: found)
    _claim(folder, {"model": model, "model_hash": run.model_hash, "settings": chosen})
    paths = tuple(
        folder / f"{number:04d}-{seed}.mp4" for number, item in enumerate(items) for seed in _seeds(item, seeds)
    )
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    for index in sorted(set(range(len(paths))) - set(missing)):
        _check_finished(paths[index], options.rows[index], run)
    options = replace(options, rows=tuple(options.rows[index] for index in missing))
    run = replace(run, options=options, outputs=tuple(paths[index] for index in missing))
    return PreparedSet(run=run, paths=paths)


def generate_set(
    prepared: PreparedSet,
    pipeline: Pipeline | None = None,
    *,
    on_progress: Progress = lambda done, total: None,
    note: Note = lambda text: None,
) -> tuple[Path, ...]:
    """Generate the videos that are missing; return the files of all.

    Args:
        prepared: the set.
        pipeline: from `PreparedSet.load`; by default it is loaded if a video is missing.
        on_progress: called at once, and after every video.
        note: called with each remark of the model about the settings.

    Raises:
        GenerationError: the model does not allow the settings, or a video cannot be made.
        OSError: a file cannot be read or written.
    """
    watcher = _Counting(prepared, on_progress, note)
    if not prepared.is_complete:
        generate(prepared.run, prepared.load(note) if pipeline is None else pipeline, watcher)
    return prepared.paths


class _Counting(Watcher):
    def __init__(self, prepared: PreparedSet, on_progress: Progress, note: Note) -> None:
        super().__init__()
        self._total = len(prepared.paths)
        self._done = self._total - len(prepared.run.outputs)
        self._on_progress, self._note = on_progress, note
        on_progress(self._done, self._total)

    def written(self, video: WrittenVideo) -> None:
        """Count a video."""
        self._done += 1
        self._on_progress(self._done, self._total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._note(text)


def _options(
    model: str,
    items: Sequence[PromptItem],
    folder: Path,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    batch_size: int,
    device: str,
) -> GenerateOptions:
    return GenerateOptions(
        # Only its folder is used: the names are those of the prompts that are missing.
        output=folder / "video.mp4",
        rows=tuple(
            PromptRow(prompt=item.prompt, seed=seed, image=item.image)
            for item in items
            for seed in _seeds(item, seeds)
        ),
        model=model,
        device=device,
        batch_size=batch_size,
        sampling={name: value for name, value in settings.items() if name in SETTING_NAMES},
        **{name: value for name, value in settings.items() if name in _OPTIONS},
    )


def _seeds(item: PromptItem, seeds: Sequence[int]) -> Sequence[int]:
    return seeds if item.seed is None else (item.seed,)


def _with_images(options: GenerateOptions, class_name: str, note: Note) -> GenerateOptions:
    """Check that every prompt has an image if the model needs one, and leave images out if it takes none."""
    if PIPELINE_TASKS[class_name] == "i2v":
        without = next((row for row in options.rows if row.image is None), None)
        if without is not None:
            raise ValueError(
                f"prompt {without.prompt!r} has no image, but the model needs one; pass a prompt list with the "
                "column image"
            )
        return options
    if any(row.image is not None for row in options.rows):
        note(f"{options.model_name} is a text-to-video model; the images of the prompts are not used")
    return replace(options, rows=tuple(replace(row, image=None) for row in options.rows))


def _claim(folder: Path, content: Mapping[str, Any]) -> None:
    """Record what a folder is for, so that a second run with other settings does not mix videos."""
    path = folder / SET_FILE
    if path.is_file():
        recorded = read_json_object(path)
        for key, what in (("model_hash", "another model"), ("settings", "other settings")):
            if recorded.get(key) != json.loads(json.dumps(content[key])):
                raise OutputExistsError(f"{folder} holds videos of {what}; choose another output folder")
        return
    if _is_of_earlier_version(folder):
        raise OutputExistsError(
            f"{folder} holds videos without {SET_FILE}, as an earlier version made them; choose another output folder"
        )
    if any(not is_leftover(name) for name in _names(folder)):
        raise OutputExistsError(f"{folder} holds files that are not of this set; choose another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def _is_of_earlier_version(folder: Path) -> bool:
    """Whether a folder holds a comparison's set, an evaluation's set, or an exam's videos of before `SET_FILE`."""
    is_set = (folder / _EARLIER_SET_FILE).is_file() or any(map(_SET_VIDEO.fullmatch, _names(folder)))
    return is_set or any(folder.glob("*/[0-9][0-9][0-9][0-9].npz"))


def _names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()] if folder.is_dir() else []


def _check_finished(path: Path, row: PromptRow, run: PreparedRun) -> None:
    try:
        recorded = read_metadata(path)
    except MediaError as error:
        raise OutputExistsError(f"{error}; remove it to generate it again") from error
    expected = {"prompt": row.prompt, "seed": row.seed, "model_hash": run.model_hash}
    expected |= {} if row.image is None else {"image_sha256": run.inputs.sha256[row.image]}
    differing = [name for name, value in expected.items() if recorded.get(name) != value]
    if differing:
        what = differing[0].removesuffix("_hash").removesuffix("_sha256")
        raise OutputExistsError(
            f"{path} was generated with another {what}; choose another output folder, or remove its videos"
        )
