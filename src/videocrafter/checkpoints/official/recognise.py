"""Which VideoCrafter model a checkpoint is, from its keys, shapes and schedule alone; or what does not fit.

Every key is accounted for before anything is written: it is part of a network, or unused for a stated reason,
or the checkpoint is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.checkpoints.official.checkpoint_file import is_averaged
from videocrafter.checkpoints.official.foreign import describe_foreign, is_videocrafter
from videocrafter.checkpoints.official.layout import dropped, rules
from videocrafter.checkpoints.official.model import (
    SIGNAL_SCALE_KEY,
    OfficialModel,
    official_model_from_config,
    official_model_from_shapes,
)
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale
from videocrafter.presets import PRESETS

_SCHEDULE_KEY = "alphas_cumprod"
# What half precision leaves of numbers up to 1. A schedule that ends in pure noise is farther off.
_SCHEDULE_TOLERANCE = 2e-3
_SHOWN_KEYS = 10
_MODULES = (
    ("model.diffusion_model.", "denoiser"),
    ("first_stage_model.", "autoencoder"),
    ("cond_stage_model.", "text encoder"),
    ("embedder.", "image encoder"),
    ("image_proj_model.", "image projector"),
)

# What all released models have in common, as arguments of VideoUNet.
_RELEASED_SIZE: Mapping[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attention_levels": (0, 1, 2),
    "head_dim": 64,
    "transformer_depth": 1,
    "context_dim": 1024,
    "temporal_length": 16,
    "initial_temporal_heads": 8,
}


@dataclass(frozen=True, kw_only=True)
class _Traits:
    """What tells one released model from another."""

    relative_position: bool = False
    temporal_convolution: bool = True
    fps_condition: bool = True
    image_cross_attention: bool = False
    signal_scale: float | None = 0.7
    schedule_length: int | None = None
    """Entries of `scale_arr`; None where it tells nothing."""


_RELEASED: Mapping[str, _Traits] = {
    "t2v-512": _Traits(relative_position=True, temporal_convolution=False, fps_condition=False, signal_scale=None),
    "t2v-1024": _Traits(relative_position=True, temporal_convolution=False, signal_scale=0.3),
    "i2v-512": _Traits(image_cross_attention=True),
    # The same network with the same scale: only the length of the buffer tells them apart.
    "t2v-512-early": _Traits(schedule_length=1400),
    "vc2-t2v-512": _Traits(schedule_length=1000),
    "t2v-256": _Traits(signal_scale=None),
}


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a checkpoint is.

    Attributes:
        preset: name in `PRESETS`, or None for a model that was not released.
        description: one phrase.
        model: the configs of its parts.
        unused: the keys that no part holds, each with its reason.
    """

    preset: str | None
    description: str
    model: OfficialModel
    unused: Mapping[str, str]


def recognise(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Recognised:
    """Recognise the state dict of an official checkpoint.

    Args:
        tensors: under official keys, without wrappers.
        config: the `model` tree of an official config, for sizes that cannot be read from shapes.

    Raises:
        ValueError: it is something else, or its keys, shapes or noise schedule do not fit; one line that names
            what it seems to be, or the first keys at fault.
    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    if not is_videocrafter(shapes):
        raise ValueError(describe_foreign(shapes))
    _check_modules(shapes)
    if config is not None:
        model = _with_buffer_of_file(official_model_from_config(config, shapes), tensors.get(SIGNAL_SCALE_KEY))
    else:
        _check_says_its_scale(shapes)
        model = official_model_from_shapes(shapes, tensors.get(SIGNAL_SCALE_KEY))
    _check_schedule(tensors)
    unused = check_keys(model, shapes)
    preset = released_preset(model)
    return Recognised(preset=preset, description=describe_model(preset, model), model=model, unused=unused)


def released_preset(model: OfficialModel) -> str | None:
    """Name of the preset whose network, signal scale and schedule buffer a model has; None if there is none."""
    unet = model.unet
    if any(_plain(unet[name]) != value for name, value in _RELEASED_SIZE.items()):
        return None
    for name, traits in _RELEASED.items():
        flags = ("relative_position", "temporal_convolution", "fps_condition", "image_cross_attention")
        same_network = all(bool(unet[flag]) == getattr(traits, flag) for flag in flags)
        same_length = traits.schedule_length in (None, model.signal_scale_length)
        if same_network and same_length and _same_scale(traits.signal_scale, model.signal_scale):
            return name
    return None


def describe_model(preset: str | None, model: OfficialModel) -> str:
    """One phrase that says what a model is."""
    if preset is not None:
        return f"{PRESETS[preset].description} ({preset})"
    task = "image to video" if model.image_encoder else "text to video"
    width, levels = model.unet["model_channels"], len(model.unet["channel_mult"])
    same_size = all(_plain(model.unet[name]) == value for name, value in _RELEASED_SIZE.items())
    kind = "with other options than any release" if same_size else "of another size"
    scale = "no signal scale" if model.signal_scale is None else f"signal scale {model.signal_scale:g}"
    return f"a VideoCrafter1-format checkpoint {kind} ({task}, width {width}, levels {levels}, {scale})"


def check_keys(model: OfficialModel, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, str]:
    """Account for every key; return the unused ones with their reasons.

    Raises ValueError that lists, by module, the keys that are missing and those that have no place.
    """
    expected = {rule.official for part in rules(model).values() for rule in part}
    averages = {key: "the trainer's averaged weights" for key in shapes if is_averaged(key)}
    unused = {**dropped(model, shapes.keys() - expected), **averages}
    complaints = [
        complaint
        for complaint in (
            list_keys("it lacks", expected - shapes.keys()),
            list_keys("it has", shapes.keys() - expected - unused.keys(), "that fit nothing"),
        )
        if complaint
    ]
    if complaints:
        raise ValueError(
            f"it is a checkpoint in the official format, but {' and '.join(complaints)}; is it whole, and is this the"
            " right --config?"
        )
    return unused


def list_keys(beginning: str, keys: Iterable[str], ending: str = "") -> str:
    """The number of keys and the first ten of them by module, as a phrase; empty without keys."""
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
    """In words, which part of the official model a key belongs to."""
    if "." not in key:
        return "noise schedule"
    return next((name for prefix, name in _MODULES if key.startswith(prefix)), key.split(".")[0])


def _check_modules(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Name whole parts that are missing, before anything is read from their shapes."""
    has = {name: any(key.startswith(prefix) for key in shapes) for prefix, name in _MODULES}
    image_branch = has["image encoder"] or has["image projector"] or any(".to_k_ip." in key for key in shapes)
    needed = _MODULES if image_branch else _MODULES[:3]
    missing = [f"its {name} ({prefix}*)" for prefix, name in needed if not has[name]]
    if missing:
        raise ValueError(
            f"it is a VideoCrafter checkpoint without {' and '.join(missing)}; give the whole model.ckpt"
        )


def _with_buffer_of_file(model: OfficialModel, scale_arr: Tensor | None) -> OfficialModel:
    """The model with the length of the buffer in the file, whose values must be those that the config promises."""
    if scale_arr is None:
        return model
    expected = signal_scale(1.0 if model.signal_scale is None else model.signal_scale, max(2, scale_arr.numel()))
    fits = scale_arr.shape == expected.shape and torch.allclose(scale_arr.double(), expected, rtol=0, atol=5e-3)
    if model.signal_scale is None or not fits:
        config = "no signal scale" if model.signal_scale is None else f"a signal scale of {model.signal_scale:g}"
        found = f"ends at {float(scale_arr.flatten()[-1]):g}" if scale_arr.numel() else "is empty"
        raise ValueError(
            f"its {SIGNAL_SCALE_KEY} {found}, but the config says {config}"
            " (use_scale, scale_b); give the config of this checkpoint"
        )
    return replace(model, signal_scale_length=len(scale_arr))


def _check_says_its_scale(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A file without its schedule buffers does not say whether its signal is scaled, and guessing ruins videos."""
    if _SCHEDULE_KEY not in shapes and SIGNAL_SCALE_KEY not in shapes:
        raise ValueError(
            "it is a VideoCrafter checkpoint from which the noise schedule was removed, so that its signal scale is"
            " not known; give the official yaml of this model with --config"
        )


def _check_schedule(tensors: Mapping[str, Tensor]) -> None:
    given = tensors.get(_SCHEDULE_KEY)
    if given is None:
        return
    wanted = alphas_cumprod(linear_betas(max(2, len(given) if given.ndim == 1 else 2)))
    if given.shape != wanted.shape or not torch.allclose(given.double(), wanted, rtol=0, atol=_SCHEDULE_TOLERANCE):
        end = f"{float(given[-1]):.5f}" if given.ndim == 1 and len(given) else f"shape {tuple(given.shape)}"
        raise ValueError(
            f"it was trained on another noise schedule than VideoCrafter's: {_SCHEDULE_KEY} ends at {end}, expected"
            f" {float(wanted[-1]):.5f}; such models are not supported"
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _same_scale(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-3
