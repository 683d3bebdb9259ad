"""Write the `model_index.json` that makes a folder a pipeline folder, and the file that lets diffusers open it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import SchedulerMixin
from torch import nn
from transformers import PreTrainedTokenizerBase

from videocrafter.checkpoints.pipeline_code import CODE_FILE, code_of
from videocrafter.presets import MODEL_INDEX


def write_index(
    folder: Path,
    networks: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    scheduler: SchedulerMixin,
    defaults: Mapping[str, Any],
    signal_scale: float | None,
) -> None:
    """Write the index of a pipeline, and its `CODE_FILE`.

    Args:
        folder: the pipeline folder; must exist.
        networks: by part name; an "image_encoder" makes it an image-to-video pipeline.
        tokenizer, scheduler: only their classes are written.
        defaults: recommended settings, as in `GenerationDefaults`.
        signal_scale: b of a signal-scaled model, or None.
    """
    index: dict[str, Any] = {
        "_class_name": "ImageToVideoPipeline" if "image_encoder" in networks else "TextToVideoPipeline",
        "_diffusers_version": diffusers.__version__,
        "defaults": dict(defaults),
        "knowledge": None,
        "scheduler": _library_and_class(scheduler),
        "signal_scale": signal_scale,
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
    for part, network in networks.items():
        index[part] = _library_and_class(network)
    text = json.dumps(dict(sorted(index.items())), indent=2) + "\n"
    (folder / MODEL_INDEX).write_text(text, encoding="utf-8")
    (folder / CODE_FILE).write_text(code_of(index["_class_name"]), encoding="utf-8")


def _library_and_class(part: object) -> list[str]:
    module = type(part).__module__
    library = module.split(".")[0]
    return [module if library == "videocrafter" else library, type(part).__name__]
