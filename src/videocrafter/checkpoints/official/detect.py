"""Detect which VideoCrafter model a checkpoint holds, from its keys, shapes and noise schedule.

Every key must belong to a network or be unused for a stated reason; otherwise the checkpoint is rejected before
anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part, unused_keys
from videocrafter.checkpoints.official.ema_weights import is_ema_key
from videocrafter.checkpoints.official.official_model import (
    SIGNAL_SCALE_KEY,
    OfficialModel,
    official_model_from_config,
    official_model_from_shapes,
)
from videocrafter.checkpoints.official.other_formats import describe_other_format, is_videocrafter
from videocrafter.checkpoints.official.variants import matching_preset
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale
from videocrafter.presets import PRESETS

_SCHEDULE_KEY = "alphas_cumprod"
# Rounding error of half precision for values up to 1. A schedule that ends in pure noise differs by more.
_SCHEDULE_TOLERANCE = 2e-3
_SHOWN_KEYS = 10
_MODULES = (
    ("model.diffusion_model.", "denoiser"),
    ("first_stage_model.", "autoencoder"),
    ("cond_stage_model.", "text encoder"),
    ("embedder.", "image encoder"),
    ("image_proj_model.", "image projector"),
)


@dataclass(frozen=True, kw_only=True)
class DetectedModel:
    """The model that a checkpoint holds.

    Attributes:
        preset: name in `PRESETS`, or None for an unreleased model.
        description: one phrase that says what it is.
        model: the configs of its networks.
        unused: keys that no network uses, each with the reason.
    """

    preset: str | None
    description: str
    model: OfficialModel
    unused: Mapping[str, str]


def detect_model(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> DetectedModel:
    """Detect the model in a state dict.

    Args:
        tensors: by official key, without wrapper prefixes.
        config: the `model` tree of an official config file, for sizes that shapes do not determine.

    Raises:
        ValueError: the state dict is of another format, or its keys, shapes or noise schedule do not fit; one line
            that names the likely format or the first wrong keys.
    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    if not is_videocrafter(shapes):
        raise ValueError(describe_other_format(shapes))
    _check_modules(shapes)
    if config is not None:
        model = _with_buffer_of_file(official_model_from_config(config, shapes), tensors.get(SIGNAL_SCALE_KEY))
    else:
        _check_schedule_is_present(shapes)
        model = official_model_from_shapes(shapes, tensors.get(SIGNAL_SCALE_KEY))
    _check_schedule(tensors)
    unused = check_keys(model, shapes)
    preset = matching_preset(model)
    return DetectedModel(preset=preset, description=describe_model(preset, model), model=model, unused=unused)


def describe_model(preset: str | None, model: OfficialModel) -> str:
    """Return one phrase that says what a model is."""
    if preset is not None:
        return f"{PRESETS[preset].description} ({preset})"
    task = "image to video" if model.image_encoder else "text to video"
    num_levels = len(model.unet["channel_mult"])
    levels = "1 level" if num_levels == 1 else f"{num_levels} levels"
    scale = "no signal scale" if model.signal_scale is None else f"signal scale {model.signal_scale:g}"
    return (
        f"an unreleased model in the VideoCrafter1 format ({task}, width {model.unet['model_channels']}, {levels},"
        f" {scale})"
    )


def check_keys(model: OfficialModel, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, str]:
    """Check that every key is expected or unused for a reason; return the unused keys with their reasons.

    Raises ValueError that lists the missing and the unexpected keys by module.
    """
    expected = {rule.official for part in rules_by_part(model).values() for rule in part}
    averages = {key: "the trainer's EMA weights" for key in shapes if is_ema_key(key)}
    unused = {**unused_keys(model, shapes.keys() - expected), **averages}
    complaints = [
        complaint
        for complaint in (
            list_keys("it lacks", expected - shapes.keys()),
            list_keys("it has", shapes.keys() - expected - unused.keys(), "that belong to no network"),
        )
        if complaint
    ]
    if complaints:
        raise ValueError(
            f"it is in the official format, but {' and '.join(complaints)}; check that the file is complete and that"
            " --config belongs to it"
        )
    return unused


def list_keys(beginning: str, keys: Iterable[str], ending: str = "") -> str:
    """Return a phrase with the number of keys and the first ten of them by module; empty without keys."""
    ordered = sorted(keys)
    if not ordered:
        return ""
    shown: dict[str, list[str]] = {}
    for key in ordered[:_SHOWN_KEYS]:
        shown.setdefault(module_of(key), []).append(key)
    counts: dict[str, int] = {}
    for key in ordered:
        counts[module_of(key)] = counts.get(module_of(key), 0) + 1
    groups = []
    for module, count in counts.items():
        names = shown.get(module, [])
        more = [] if len(names) == count else ["..."]
        groups.append(f"{module} {count}: {', '.join(names + more)}")
    noun = "key" if len(ordered) == 1 else "keys"
    return " ".join(f"{beginning} {len(ordered)} {noun} {ending}".split()) + f" ({'; '.join(groups)})"


def module_of(key: str) -> str:
    """Return the readable name of the official module that a key belongs to."""
    if "." not in key:
        return "noise schedule"
    return next((name for prefix, name in _MODULES if key.startswith(prefix)), key.split(".")[0])


def _check_modules(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Report missing networks before sizes are read from their shapes."""
    has = {name: any(key.startswith(prefix) for key in shapes) for prefix, name in _MODULES}
    image_branch = has["image encoder"] or has["image projector"] or any(".to_k_ip." in key for key in shapes)
    needed = _MODULES if image_branch else _MODULES[:3]
    missing = [f"its {name} ({prefix}*)" for prefix, name in needed if not has[name]]
    if missing:
        raise ValueError(
            f"it is a VideoCrafter checkpoint without {' and '.join(missing)}; pass the complete model.ckpt"
        )


def _with_buffer_of_file(model: OfficialModel, scale_arr: Tensor | None) -> OfficialModel:
    """Return the model with the length of the file's signal-scale buffer, after checking it against the config."""
    if scale_arr is None:
        return model
    expected = signal_scale(1.0 if model.signal_scale is None else model.signal_scale, max(2, scale_arr.numel()))
    fits = scale_arr.shape == expected.shape and torch.allclose(scale_arr.double(), expected, rtol=0, atol=5e-3)
    if model.signal_scale is None or not fits:
        config = "no signal scale" if model.signal_scale is None else f"a signal scale of {model.signal_scale:g}"
        found = f"ends at {float(scale_arr.flatten()[-1]):g}" if scale_arr.numel() else "is empty"
        raise ValueError(
            f"its {SIGNAL_SCALE_KEY} {found}, but the config specifies {config} (use_scale, scale_b); pass the config"
            " that belongs to this checkpoint"
        )
    return replace(model, signal_scale_length=len(scale_arr))


def _check_schedule_is_present(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Reject a file without schedule buffers: its signal scale is unknown, and a wrong one ruins the videos."""
    if _SCHEDULE_KEY not in shapes and SIGNAL_SCALE_KEY not in shapes:
        raise ValueError(
            "it is a VideoCrafter checkpoint without its noise schedule, so its signal scale is unknown; pass the"
            " official yaml file of this model with --config"
        )


def _check_schedule(tensors: Mapping[str, Tensor]) -> None:
    given = tensors.get(_SCHEDULE_KEY)
    if given is None:
        return
    wanted = alphas_cumprod(linear_betas(max(2, len(given) if given.ndim == 1 else 2)))
    if given.shape != wanted.shape or not torch.allclose(given.double(), wanted, rtol=0, atol=_SCHEDULE_TOLERANCE):
        end = f"{float(given[-1]):.5f}" if given.ndim == 1 and len(given) else f"shape {tuple(given.shape)}"
        raise ValueError(
            f"it was trained with a noise schedule other than VideoCrafter's, which is not supported: {_SCHEDULE_KEY}"
            f" ends at {end}, expected {float(wanted[-1]):.5f}"
        )
