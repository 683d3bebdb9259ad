"""Read an official config file (yaml): the `model` tree, and what it says of a model's usual size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from videocrafter.checkpoints.official.config_values import is_whole
from videocrafter.checkpoints.official.model import OfficialModel

_LARGEST_FILE = 2**16
_WHAT_WORKS = "give the yaml that the official code uses with this checkpoint, such as inference_t2v_512_v2.0.yaml"


def read_official_config(path: Path) -> Mapping[str, Any]:
    """The `model` tree of an official yaml file. Only plain values are read; nothing is constructed.

    Raises:
        ValueError: missing, too large for a config, not yaml, or without a model tree; one line.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"the config {path} does not exist; {_WHAT_WORKS}")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, which is no config; {_WHAT_WORKS}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be read as yaml ({reason}); {_WHAT_WORKS}") from None
    tree = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("params"), Mapping):
        raise ValueError(f"{path} holds no model.params; {_WHAT_WORKS}")
    return tree


def defaults_from_config(model: OfficialModel, tree: Mapping[str, Any] | None) -> dict[str, Any]:
    """Recommended settings of a model that was not released, as far as its config knows them.

    The number of frames is the network's; height and width are those of the config's latents, `image_size`.
    """
    settings: dict[str, Any] = {"num_frames": model.unet["temporal_length"], "eta": 1.0}
    image_size = tree["params"].get("image_size") if tree is not None else None
    factor = 2 ** (len(model.vae["block_out_channels"]) - 1)
    if isinstance(image_size, list) and len(image_size) == 2 and all(is_whole(side) for side in image_size):
        settings |= {"height": image_size[0] * factor, "width": image_size[1] * factor}
    return settings
