"""Generate the videos of a column: every prompt with the same seed, resumably."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.generation.request import GenerateOptions, PromptRow, check_options
from videocrafter.generation.run import PreparedRun, generate, load, prepare
from videocrafter.generation.watcher import Watcher, WrittenVideo
from videocrafter.media.atomic_write import write_text
from videocrafter.media.errors import MediaError
from videocrafter.media.file_hash import file_sha256
from videocrafter.media.json_file import read_json_object
from videocrafter.media.video_file import read_metadata
from videocrafter.pipelines.sampling_settings import SETTING_NAMES
from videocrafter.presets import MODEL_INDEX, Task

COLUMN_FILE = "column.json"
_OPTION_NAMES = frozenset(
    {"scheduler", "spacing", "num_frames", "height", "width", "fps", "negative_prompt", "image_fit", "dtype"}
)
_WHOLE = frozenset({"num_frames", "height", "width"})


@dataclass(frozen=True, kw_only=True)
class ModelColumn:
    """A model with its settings.

    Attributes:
        model: name or folder.
        settings: options of `videocrafter generate` by name: "num_inference_steps", "scheduler" …
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse `name=value` into an option of generation.

    Raises:
        ValueError: there is no such option, or the value is not of its kind.
    """
    name, equals, value = text.partition("=")
    name = {"steps": "num_inference_steps", "guidance": "guidance_scale"}.get(name.strip(), name.strip())
    if not equals or name not in _OPTION_NAMES | set(SETTING_NAMES):
        known = ", ".join(sorted(_OPTION_NAMES | set(SETTING_NAMES)))
        raise ValueError(f"{text!r} is not a setting; write name=value with a name from {known}")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    if name in _WHOLE and not isinstance(parsed, int):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return name, parsed


def stage_folders(run: Path) -> dict[str, Path]:
    """Return the models that a training run published, one per stage, in the order of training.

    Raises:
        ValueError: the run has not finished a stage with a model for videos.
    """
    found = [path.parent for path in (run / "stages").glob(f"*/{MODEL_INDEX}")]
    if not found:
        raise ValueError(f"{run} has not finished a stage yet: {run / 'stages'} contains no model for videos")
    return {folder.name: folder for folder in sorted(found, key=lambda one: (one / MODEL_INDEX).stat().st_mtime_ns)}


def generate_column(
    column: ModelColumn,
    items: Sequence[PromptItem],
    folder: Path,
    *,
    seed: int,
    device: str = "auto",
    obtain: Callable[[str, Task], Path] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Path, ...]:
    """Write `0000-SEED.mp4` and so on for each prompt. Finished videos of the same column are kept.

    Args:
        column: the model and its settings.
        items: prompts; their own seeds replace `seed`. Those for image to video have images.
        folder: of the videos.
        seed: of all other prompts, so that columns of one model family start from the same noise.
        device: as for `videocrafter generate`.
        obtain: as for `prepare`.
        on_progress: called with the number of existing and of all videos.
        note: called with each remark of the model about the settings.

    Returns:
        The file of each prompt.

    Raises:
        GenerationError: the settings are wrong, the model is missing, or a video cannot be made.
        ValueError: the folder holds videos of another column.
        OSError: a file cannot be read or written.
    """
    _claim(folder, column)
    rows = [
        PromptRow(prompt=item.prompt, seed=seed if item.seed is None else item.seed, image=item.image)
        for item in items
    ]
    paths = tuple(folder / f"{index:04d}-{row.seed}.mp4" for index, row in enumerate(rows))
    waiting = [index for index, path in enumerate(paths) if not path.exists()]
    prepared = _prepared(column, rows, folder, device, obtain)
    for index in set(range(len(paths))) - set(waiting):
        _check_finished(paths[index], rows[index], prepared.model_hash)
    done = len(paths) - len(waiting)
    on_progress(done, len(paths))
    if not waiting:
        return paths
    options = replace(prepared.options, rows=tuple(rows[index] for index in waiting))
    run = replace(prepared, options=options, outputs=tuple(paths[index] for index in waiting))
    watcher = _Counting(done, len(paths), on_progress, note)
    generate(run, load(run, watcher), watcher)
    return paths


class _Counting(Watcher):
    def __init__(
        self, done: int, total: int, on_progress: Callable[[int, int], None], note: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._done, self._total, self._on_progress, self._note = done, total, on_progress, note

    def written(self, video: WrittenVideo) -> None:
        """Count a video."""
        self._done += 1
        self._on_progress(self._done, self._total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._note(text)


def _prepared(
    column: ModelColumn,
    rows: Sequence[PromptRow],
    folder: Path,
    device: str,
    obtain: Callable[[str, Task], Path] | None,
) -> PreparedRun:
    names = {one.name for one in fields(GenerateOptions)}
    options = GenerateOptions(
        # Only its folder is used: the names are those of the prompts that are missing.
        output=folder / "video.mp4",
        rows=tuple(rows),
        model=column.model,
        device=device,
        sampling={name: value for name, value in column.settings.items() if name in SETTING_NAMES},
        **{name: value for name, value in column.settings.items() if name in names and name not in SETTING_NAMES},
    )
    check_options(options)
    return prepare(options) if obtain is None else prepare(options, obtain=obtain)


def _claim(folder: Path, column: ModelColumn) -> None:
    """Record what a folder is for, so that a second run with other settings does not mix videos."""
    content = {"model": column.model, "settings": dict(sorted(column.settings.items()))}
    path = folder / COLUMN_FILE
    if path.is_file():
        if read_json_object(path) != content:
            raise ValueError(
                f"{folder} holds videos of another model or other settings; choose another output folder"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds files that are not of this comparison; choose another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def _check_finished(path: Path, row: PromptRow, model_hash: str) -> None:
    try:
        recorded = read_metadata(path)
    except MediaError as error:
        raise ValueError(f"{error}; remove it to generate it again") from error
    expected = {"prompt": row.prompt, "seed": row.seed, "model_hash": model_hash}
    if row.image is not None:
        expected["image_sha256"] = file_sha256(row.image)
    differing = [name for name, value in expected.items() if recorded.get(name) != value]
    if differing:
        what = differing[0].removesuffix("_hash").removesuffix("_sha256")
        raise ValueError(
            f"{path} was generated with another {what}; choose another output folder, or remove its videos"
        )
