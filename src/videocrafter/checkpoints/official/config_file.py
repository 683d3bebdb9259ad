"""Read an official config file (yaml) and the default video size in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from videocrafter.checkpoints.official.config_values import is_whole
from videocrafter.checkpoints.official.official_model import OfficialModel

_LARGEST_FILE = 2**16
_ADVICE = "pass the yaml file that the official code uses with this checkpoint, such as inference_t2v_512_v2.0.yaml"


def read_official_config(path: Path) -> Mapping[str, Any]:
    """Return the `model` tree of an official yaml file, loaded safely: plain values only.

    Raises:
        ValueError: the file is missing, too large, not yaml, or has no model tree; one line.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"the config {path} does not exist; {_ADVICE}")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, too many for a config; {_ADVICE}")
    try:
        # From bytes, yaml decodes strictly: by byte order mark, else as UTF-8.
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be read as yaml ({reason}); {_ADVICE}") from None
    tree = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("params"), Mapping):
        raise ValueError(f"{path} holds no model.params; {_ADVICE}")
    return tree


def defaults_from_config(model: OfficialModel, tree: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the recommended settings of an unreleased model: frames from the network, size from the config.

    The config's `image_size` is the size of the latents.
    """
    settings: dict[str, Any] = {"num_frames": model.unet["temporal_length"], "eta": 1.0}
    image_size = tree["params"].get("image_size") if tree is not None else None
    factor = 2 ** (len(model.vae["block_out_channels"]) - 1)
    if isinstance(image_size, list) and len(image_size) == 2 and all(is_whole(side) for side in image_size):
        settings |= {"height": image_size[0] * factor, "width": image_size[1] * factor}
    return settings
