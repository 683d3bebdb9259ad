"""Read how a folder of weights was trained from the JSON files of its run, for model cards.

`config.json` of a run is the recipe; `training.json` in a folder of weights describes the stage that produced them.
Both are read leniently, because they may come from another version: missing and malformed entries count as unknown.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videocrafter.checkpoints.publishing.local_paths import recipe_without_paths, without_local_paths
from videocrafter.media.json_file import read_json_object
from videocrafter.presets import MODEL_INDEX, PRESETS, ModelPreset, is_run_folder

RECORD_FILE = "training.json"
_CHECKPOINT = re.compile(r"(?P<stage>.+)-step-(?P<step>\d{8,})")
_SPRITES = "videocrafter's sprite world: synthetic clips of images (Noto Emoji, Apache-2.0) moving over drawn scenes"
DATA_FORMATS: Mapping[str, tuple[str, str]] = {
    "webvid": ("WebVidConfig", "WebVid"),
    "openvid": ("OpenVidConfig", "OpenVid-1M"),
    "panda70m": ("Panda70MConfig", "Panda-70M"),
    "manifest": ("ManifestConfig", "captioned files listed in"),
    "folder": ("PairedFolderConfig", "captioned files in"),
    "metadata": ("MetadataFolderConfig", "captioned files in"),
    "webdataset": ("WebDatasetConfig", "captioned files in the shards"),
    "sprites": ("SpriteClipsConfig", _SPRITES),
}
"""Data formats by the prefix of a source in a recipe: the config's type, and a readable name."""
_HUB_DATASET = re.compile(r"\bhf://datasets/([\w.-]+/[\w.-]+)")
_NOT_TRAINED_ON = ("validation", "samples")
_LONGEST_CHAIN = 8


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A training stage of the weights.

    Attributes:
        name: name of the stage.
        steps: number of completed steps.
        planned_steps: number of steps in the recipe.
        settings: the stage's part of the recipe.
    """

    name: str
    steps: int | None
    planned_steps: int | None
    settings: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """Whether the stage completed all planned steps; True if unknown."""
        return self.steps is None or self.planned_steps is None or self.steps >= self.planned_steps

    def find(self, name: str) -> Any:
        """Return the first value of this name in the settings, searched breadth-first; None if there is none."""
        waiting: deque[Any] = deque([self.settings])
        while waiting:
            value = waiting.popleft()
            if isinstance(value, Mapping):
                if value.get(name) is not None:
                    return value[name]
                waiting.extend(one for key, one in value.items() if key not in _NOT_TRAINED_ON)
            elif isinstance(value, list):
                waiting.extend(value)
        return None

    def number(self, name: str) -> int | float | None:
        """Return the value that `find` returns if it is a number, else None."""
        found = self.find(name)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """The known facts about the training of some weights.

    Attributes:
        recipe: the configuration as JSON data, without local paths; empty if unknown.
        start: the recipe's `init`, without local paths; None for training from scratch, or if unknown.
        start_class: class of the pipeline in the `init` folder; None if the folder is not available.
        stages: the stages of the training, in order.
        versions: versions of this package and its libraries during training; empty if unknown.
        before: training of the weights in the `init` folder; None if the folder is not available.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    start_class: str | None = None
    stages: tuple[StageRecord, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    before: TrainingRecord | None = None

    @property
    def name(self) -> str | None:
        """The recipe's name."""
        name = self.recipe.get("name")
        return name if isinstance(name, str) and name else None

    @property
    def sources(self) -> tuple[str, ...]:
        """The training data, one phrase per source, without local paths."""
        return tuple(dict.fromkeys(text for stage in self.stages for text in _sources(stage.settings)))

    @property
    def hub_datasets(self) -> tuple[str, ...]:
        """Datasets on the Hugging Face hub (`OWNER/NAME`) that the stages read."""
        found = (name for stage in self.stages for name in _HUB_DATASET.findall(json.dumps(stage.settings)))
        return tuple(dict.fromkeys(found))

    @property
    def base(self) -> ModelPreset | None:
        """The preset at the start of the chain of trainings; None if there is none."""
        if self.start is not None and self.start in PRESETS:
            return PRESETS[self.start]
        return self.before.base if self.before is not None else None

    def to_json(self) -> str:
        """Return the `training.json` of a published folder; `read_training_record` can read it."""
        last = self.stages[-1] if self.stages else None
        data = {
            "num_steps": last.steps if last else None,
            "stage": recipe_without_paths(last.settings) if last else None,
            "versions": dict(self.versions),
            "recipe": self.recipe,
        }
        return json.dumps({key: value for key, value in data.items() if value}, indent=2) + "\n"


def run_of(folder: Path) -> Path | None:
    """Return the run of a folder of weights (`RUN/final`, `RUN/stages/NAME`, `RUN/checkpoints/NAME`), or None."""
    path = folder.resolve()
    if path.name == "final" and is_run_folder(path.parent):
        return path.parent
    if path.parent.name in ("stages", "checkpoints") and is_run_folder(path.parent.parent):
        return path.parent.parent
    return None


def read_training_record(folder: Path, *, longest_chain: int = _LONGEST_CHAIN) -> TrainingRecord | None:
    """Read the training record of a folder of weights and of the run that contains it; None if there is none.

    Raises:
        ValueError: one of the files is not a JSON object.
    """
    own, run = _read(folder / RECORD_FILE), run_of(folder)
    recipe = _object(own.get("recipe")) or (_read(run / "config.json") if run else {})
    last = _object(own.get("stage"))
    steps = own.get("num_steps")
    name = last.get("name")
    saved = _CHECKPOINT.fullmatch(folder.resolve().name)
    if saved is not None and not own:
        name, steps = saved["stage"], int(saved["step"])
    if not recipe and not own:
        return None
    start = recipe.get("init")
    before, start_class = None, None
    if isinstance(start, str) and start not in PRESETS and Path(start).is_dir() and longest_chain:
        before = read_training_record(Path(start), longest_chain=longest_chain - 1)
        start_class = str(_read(Path(start) / MODEL_INDEX).get("_class_name"))
    return TrainingRecord(
        recipe=recipe_without_paths(recipe),
        start=without_local_paths(start) if isinstance(start, str) else None,
        start_class=start_class,
        stages=_stages(recipe, last, name, steps),
        versions={str(key): str(value) for key, value in _object(own.get("versions")).items()},
        before=before,
    )


def _stages(recipe: dict[str, Any], last: dict[str, Any], name: Any, steps: Any) -> tuple[StageRecord, ...]:
    """Return the recipe's stages up to the one that produced the weights; only that one if the recipe is unknown."""
    planned = recipe.get("stages")
    stages = [_object(one) for one in planned] if isinstance(planned, list) else []
    names = [stage.get("name") for stage in stages]
    stages = stages[: names.index(name) + 1] if name in names else [last] if last else stages
    records = [
        StageRecord(
            name=str(stage.get("name", "")),
            steps=_whole(stage.get("num_steps")),
            planned_steps=_whole(stage.get("num_steps")),
            settings=stage,
        )
        for stage in stages
    ]
    if records and _whole(steps) is not None:
        records[-1] = replace(records[-1], steps=_whole(steps))
    return tuple(records)


def _sources(value: Any, is_source: bool = False) -> Iterator[str]:
    """Yield a phrase for every data source in a stage's settings; a string counts only where a source is expected."""
    if isinstance(value, str) and is_source:
        yield _source_of_text(value)
    elif isinstance(value, list):
        for one in value:
            yield from _sources(one, is_source)
    elif isinstance(value, Mapping):
        kind = value.get("type")
        word = next((word for word, (config, _) in DATA_FORMATS.items() if config == kind), None)
        if word is not None or kind == "SpriteWorldConfig":
            yield _source(word or "sprites", str(value.get("path", "")))
            return
        if is_source:
            yield _source(None, str(value.get("path", "")))
            return
        for key, one in value.items():
            if key not in _NOT_TRAINED_ON:
                yield from _sources(one, key in ("source", "sources"))


def _source_of_text(text: str) -> str:
    """Return the phrase for a source written as `FORMAT:PATH?OPTIONS`."""
    place = text if "://" in text else text.partition("?")[0]
    word, colon, path = place.partition(":")
    return _source(word, path) if colon and word in DATA_FORMATS else _source(None, place)


def _source(word: str | None, path: str) -> str:
    called = DATA_FORMATS[word][1] if word is not None else "captioned files in"
    place = without_local_paths(path).strip() if word != "sprites" else ""
    return f"{called} {place}" if place else called.removesuffix(" in").removesuffix(" listed")


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
