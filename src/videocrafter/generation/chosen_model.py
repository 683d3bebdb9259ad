"""The model of a run, which its preset may replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from videocrafter.generation.errors import GenerationError
from videocrafter.generation.loras import holds_student
from videocrafter.generation.request import GenerateOptions, with_preset
from videocrafter.pipelines.model_folder import PIPELINE_TASKS, check_model_folder
from videocrafter.presets import MODEL_INDEX, PRESETS, Task


def chosen_model(options: GenerateOptions, obtain: Callable[[str, Task], Path]) -> tuple[GenerateOptions, Path]:
    """Return the options with the settings of their preset, and the folder of the model that makes the videos.

    Args:
        obtain: returns the folder of a model by name or path.

    Raises:
        GenerationError: the model does not fit the inputs.
        ValueError: the model, or the one that its preset takes, is missing or damaged.
    """
    folder = obtain(options.model_name, options.task)
    index = check_model_folder(folder)
    task = PIPELINE_TASKS[index["_class_name"]]
    _check_task(options, task)
    if options.preset is None or holds_student(options.loras):
        return options, folder
    chosen = with_preset(options, index.get("defaults"))
    if chosen.model == options.model:
        return chosen, folder
    return _with_model_of_preset(chosen, folder, task)


def _with_model_of_preset(chosen: GenerateOptions, folder: Path, task: Task) -> tuple[GenerateOptions, Path]:
    """Find the model that the preset of `folder` names: one that ships, or a folder next to this one.

    Nothing else is accepted, so that a model from elsewhere cannot start a download or name any path.
    """
    name = chosen.model_name
    preset, sibling = PRESETS.get(name), folder.parent / name
    if preset is not None and preset.folder is not None and preset.is_installed:
        found = preset.folder
    elif Path(name).name == name and (sibling / MODEL_INDEX).is_file():
        found, chosen = sibling, replace(chosen, model=str(sibling))
    else:
        raise ValueError(
            f"the preset {chosen.preset} of {folder} takes the model {name!r}, which neither ships with the package"
            " nor is a folder next to it; leave out the preset"
        )
    if PIPELINE_TASKS[check_model_folder(found)["_class_name"]] != task:
        raise ValueError(
            f"the preset {chosen.preset} of {folder} takes the model {name!r}, which is for another task; leave out"
            " the preset"
        )
    return chosen, found


def _check_task(options: GenerateOptions, task: Task) -> None:
    """Raise GenerationError if the model and the options differ in whether they take an image."""
    # A frame of the input video can replace the image, and any model can interpolate between two images.
    if task == options.task or (task == "i2v" and options.clip is not None):
        return
    if task == "t2v" and options.image_end is not None:
        return
    problem = "needs an image; give one with `image`" if task == "i2v" else "takes no image; leave out `image`"
    raise GenerationError(f"the model {options.model_name} {problem}")
