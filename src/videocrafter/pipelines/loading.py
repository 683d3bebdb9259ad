"""Load a pipeline by model name or folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, overload

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from videocrafter.checkpoints.hub.download import Notify
from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.media.home_folder import expand_home
from videocrafter.pipelines.component_loading import DtypeChoice, resolve_dtypes
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.model_folder import PIPELINE_TASKS, ModelFolderError, components_of, read_model_index
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import FAMILIES, PRESETS, Task, is_run_folder

_CLASSES: dict[str, type[TextToVideoPipeline] | type[ImageToVideoPipeline]] = {
    "t2v": TextToVideoPipeline,
    "i2v": ImageToVideoPipeline,
}


LOADING_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    StrictDataclassError,
)
"""Errors of diffusers and transformers for damaged configs and files."""

AnyPipeline = TypeVar("AnyPipeline", TextToVideoPipeline, ImageToVideoPipeline)


@overload
def load_pipeline(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: DtypeChoice = torch.float32,
    variant: str | None = None,
    expect: type[AnyPipeline],
    notify: Notify | None = None,
    given: Mapping[str, nn.Module] | None = None,
) -> AnyPipeline: ...


@overload
def load_pipeline(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: DtypeChoice = torch.float32,
    variant: str | None = None,
    expect: None = None,
    notify: Notify | None = None,
    given: Mapping[str, nn.Module] | None = None,
) -> TextToVideoPipeline | ImageToVideoPipeline: ...


def load_pipeline(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: DtypeChoice = torch.float32,
    variant: str | None = None,
    expect: type[TextToVideoPipeline] | type[ImageToVideoPipeline] | None = None,
    notify: Notify | None = None,
    given: Mapping[str, nn.Module] | None = None,
) -> TextToVideoPipeline | ImageToVideoPipeline:
    """Load a pipeline onto a device, in a precision.

    Args:
        model: a pipeline folder, the folder of a finished training run, a preset ("t2v-512"), a family ("tiny") or an
            official checkpoint file. Presets and checkpoints are downloaded and converted on first use.
        device: where the networks run.
        dtype: precision of the networks: a dtype or its name ("bfloat16"), or a mapping by component with "default"
            for the others.
        variant: weights to load where a folder has several, such as "fp16"; None prefers the plain ones.
        expect: the pipeline class to load; None accepts either, and loads the text-to-video model of a family.
        notify: called with one line about each download (size, source, licence) and conversion.
        given: networks by name to use instead of those in the folder; they are not moved.

    Raises:
        ModelFolderError: the folder is missing, incomplete or damaged, or holds another pipeline than expected.
        ValueError: the model cannot be downloaded or converted, or the dtype is unknown.
    """
    folder = expand_home(model)
    if str(model) in {*FAMILIES, *PRESETS} or not folder.is_dir() or is_run_folder(folder):
        folder = obtain_model(model, _task(model, expect), notify=notify)
    index = read_model_index(folder)
    resolve_dtypes(dtype, components_of(index))
    name = index["_class_name"]
    pipeline_class = _CLASSES[PIPELINE_TASKS[name]]
    if expect is not None and pipeline_class is not expect:
        raise ModelFolderError(f"{folder} contains a {name}, but a {expect.__name__} is needed")
    try:
        pipeline = pipeline_class.from_pretrained(
            folder, dtype=dtype, variant=variant, local_files_only=True, **(given or {})
        )
    except ModelFolderError:
        raise
    except LOADING_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ModelFolderError(f"the model in {folder} cannot be loaded: {reason[:300]}") from error
    if not given:
        try:
            return pipeline.to(device)
        except NotImplementedError as error:
            # Weights that no file holds stay on the meta device.
            raise ModelFolderError(f"the model in {folder} lacks weights: {error}") from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and name not in given:
            part.to(device)
    return pipeline


def _task(model: str | Path, expect: type[TextToVideoPipeline] | type[ImageToVideoPipeline] | None) -> Task:
    """Return the task that the caller expects, otherwise that of the model."""
    if expect is not None:
        return "i2v" if expect is ImageToVideoPipeline else "t2v"
    preset = PRESETS.get(str(model))
    return preset.task if preset is not None else "t2v"
