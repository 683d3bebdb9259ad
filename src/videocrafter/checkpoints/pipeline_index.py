"""Write the `model_index.json` that makes a folder a pipeline folder, and the file that lets diffusers open it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from torch import nn
from transformers import PreTrainedTokenizerBase

from videocrafter.checkpoints.pipeline_code import CODE_FILE, code_of
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.presets import MODEL_INDEX


def write_index(
    folder: Path,
    networks: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    defaults: Mapping[str, Any],
    signal_scale: float | None,
) -> None:
    """Write the index of a pipeline with the official scheduler, and its `CODE_FILE`.

    Args:
        folder: the pipeline folder; must exist.
        networks: by part name; an "image_encoder" makes it an image-to-video pipeline.
        tokenizer: the pipeline's tokenizer; only its class is written.
        defaults: recommended settings, as in `GenerationDefaults`.
        signal_scale: b of a signal-scaled model, or None.
    """
    index: dict[str, Any] = {
        "_class_name": "ImageToVideoPipeline" if "image_encoder" in networks else "TextToVideoPipeline",
        "_diffusers_version": diffusers.__version__,
        "defaults": dict(defaults),
        "knowledge": None,
        "scheduler": [OfficialDDIMScheduler.__module__, OfficialDDIMScheduler.__name__],
        "signal_scale": signal_scale,
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
    for part, network in networks.items():
        module = type(network).__module__
        library = module.split(".")[0]
        index[part] = [module if library == "videocrafter" else library, type(network).__name__]
    text = json.dumps(dict(sorted(index.items())), indent=2) + "\n"
    (folder / MODEL_INDEX).write_text(text, encoding="utf-8")
    (folder / CODE_FILE).write_text(code_of(index["_class_name"]), encoding="utf-8")
