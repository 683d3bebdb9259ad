"""Load whichever pipeline a folder holds, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, overload

import torch

from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.model_folder import PIPELINE_TASKS, ModelFolderError, check_model_folder
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

_CLASSES: dict[str, type[TextToVideoPipeline] | type[ImageToVideoPipeline]] = {
    "t2v": TextToVideoPipeline,
    "i2v": ImageToVideoPipeline,
}


AnyPipeline = TypeVar("AnyPipeline", TextToVideoPipeline, ImageToVideoPipeline)


@overload
def load_pipeline(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expect: type[AnyPipeline],
) -> AnyPipeline: ...


@overload
def load_pipeline(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expect: None = None,
) -> TextToVideoPipeline | ImageToVideoPipeline: ...


def load_pipeline(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expect: type[TextToVideoPipeline] | type[ImageToVideoPipeline] | None = None,
) -> TextToVideoPipeline | ImageToVideoPipeline:
    """Load the pipeline that a folder holds, for use, onto a device and in a precision.

    Args:
        folder: a pipeline folder.
        device, dtype: where and in which precision the networks run.
        expect: the class that it must be; None takes either.

    Raises:
        ModelFolderError: the folder is missing, incomplete, damaged, or holds another pipeline than expected.
    """
    folder = Path(folder)
    name = check_model_folder(folder)["_class_name"]
    pipeline_class = _CLASSES[PIPELINE_TASKS[name]]
    if expect is not None and pipeline_class is not expect:
        raise ModelFolderError(f"{folder} holds a {name}, but a {expect.__name__} is needed")
    try:
        pipeline = pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except ModelFolderError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFolderError(f"the model in {folder} cannot be loaded: {reason[:300]}") from error
    return pipeline.to(device=device, dtype=dtype)
