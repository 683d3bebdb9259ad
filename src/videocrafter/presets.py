"""All models known by name: where their weights are, what they need, and their recommended settings.

Importing this module is cheap, so `videocrafter models` responds instantly. Write a variant as a `replace()` of
another preset with only the differences.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from videocrafter.media.home_folder import expand_home

Task = Literal["t2v", "i2v"]

TASK_NAMES: Mapping[str, str] = MappingProxyType({"t2v": "text to video", "i2v": "image to video"})
DEFAULT_MODEL = "tiny"
MODEL_INDEX = "model_index.json"
"""File that marks a folder as a pipeline folder."""
LORA_FILE = "pytorch_lora_weights.safetensors"
"""File name of a LoRA in a folder saved by diffusers."""
CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Suffixes of files that may hold a whole model in the official format."""

_RUN_FOLDERS = ("final", "stages", "checkpoints")
_ASSETS = Path(__file__).parent / "assets" / "models"
SHIPPED_JUDGE = _ASSETS / "judge"
"""Folder of the exam's judge that ships with the package."""


@dataclass(frozen=True, kw_only=True)
class ModelPreset:
    """A known model.

    Attributes:
        name: value of `--model`.
        task: "t2v" (takes a prompt) or "i2v" (takes an image and a prompt).
        description: one line for listings.
        weights_licence: licence of the weights, which may differ from the licence of the code.
        asset: folder inside the package that holds the weights; None for a model that does not ship.
        hub_id: repository on the Hugging Face hub that holds the weights, or None.
        hub_file: the checkpoint in that repository, in the official format.
        download_bytes: size of that file as listed on the hub; None without a `hub_id`.
        source: where to get weights that neither ship nor can be downloaded. One phrase.
        num_parameters: total over all networks of the pipeline; None for models that ship.
        memory_bytes: peak memory for one video of the default size, in bfloat16, with both guidance branches in one
            batch and weights included; None for models that ship. Computed (`runs/estimate_memory.py`), not measured,
            and without the framework's own memory.
        unet: `unet_config.params` of the official config file; None for models that ship.
        signal_scale: b of a signal-scaled schedule: the clean latent is multiplied by a factor that falls linearly
            from 1 to b over the first 400 steps, then stays at b. None for a schedule without signal scale.
        signal_scale_length: entries of `scale_arr` in the released checkpoint; None without a signal scale.
        defaults: recommended settings, as in `GenerationDefaults`. Official models have no `fps_range`, because the
            frame rates of their training data were not published.
        video_parts: arguments of `VideoUNet` for the parts that its image model lacks; None for a model that has a
            `unet`, or that does not start from an image model.
    """

    name: str
    task: Task
    description: str
    weights_licence: str
    asset: str | None = None
    hub_id: str | None = None
    hub_file: str = "model.ckpt"
    download_bytes: int | None = None
    source: str = ""
    num_parameters: int | None = None
    memory_bytes: int | None = None
    unet: Mapping[str, Any] | None = None
    signal_scale: float | None = None
    signal_scale_length: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    video_parts: Mapping[str, Any] | None = None

    @property
    def folder(self) -> Path | None:
        """Path of the pipeline folder, whether it exists or not; None for a model that does not ship."""
        return _ASSETS / self.asset if self.asset else None

    @property
    def is_installed(self) -> bool:
        """Whether this installation contains the weights."""
        return self.folder is not None and (self.folder / MODEL_INDEX).is_file()

    @property
    def hub_url(self) -> str | None:
        """Page of the weights on the hub, with their licence."""
        return f"https://huggingface.co/{self.hub_id}" if self.hub_id else None

    @property
    def has_fps_condition(self) -> bool:
        """Whether the network takes the fps; if not, `fps` has no effect."""
        return self.unet is None or bool(self.unet["fps_cond"])


# What `MiniatureNetwork` adds to the image network of the recipe `tiny-sd`.
_MINIATURE_VIDEO_PARTS: Mapping[str, Any] = MappingProxyType(
    {
        "temporal_length": 16,
        "relative_position": True,
        "initial_temporal_heads": 2,
        "fps_condition": True,
        "frame_text_condition": True,
        "place_condition": True,
        "temporal_dropout": 0.0,
    }
)
_TINY_T2V = ModelPreset(
    name="tiny-t2v",
    task="t2v",
    description="the paper's text-to-video system in miniature, trained with this package: moving emoji",
    weights_licence="Apache-2.0",
    asset="tiny-t2v",
    video_parts=_MINIATURE_VIDEO_PARTS,
)
_TINY_T2V_FAST = replace(
    _TINY_T2V,
    name="tiny-t2v-fast",
    description="the miniature distilled: four steps without guidance",
    asset="tiny-t2v-fast",
    video_parts=None,
)
_TINY_I2V = replace(
    _TINY_T2V,
    name="tiny-i2v",
    task="i2v",
    description="the miniature with an image branch: animates the content of an image",
    asset="tiny-i2v",
    video_parts=None,
)

_NO_CARD = "not stated on the hub page; the authors' code is for research and non-commercial use only"

_UNET: Mapping[str, Any] = MappingProxyType(
    {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "attention_resolutions": (4, 2, 1),
        "num_res_blocks": 2,
        "channel_mult": (1, 2, 4, 4),
        "num_head_channels": 64,
        "transformer_depth": 1,
        "context_dim": 1024,
        "use_linear": True,
        "temporal_length": 16,
        "addition_attention": True,
        "use_relative_position": True,
        "fps_cond": False,
    }
)
_UNET_WITH_TEMPORAL_CONVOLUTION: Mapping[str, Any] = MappingProxyType(
    {**_UNET, "use_relative_position": False, "temporal_conv": True, "fps_cond": True}
)

# fps 28 and 8, 50 steps, guidance 12 and eta 1 come from the authors' scripts.
_T2V_512 = ModelPreset(
    name="t2v-512",
    task="t2v",
    description="VideoCrafter1 text to video, 512x320, 16 frames, as published since December 2023",
    weights_licence=_NO_CARD,
    hub_id="VideoCrafter/Text2Video-512",
    download_bytes=6_330_000_000,
    num_parameters=1_568_527_659,
    memory_bytes=3_924_224_622,
    unet=_UNET,
    # The network takes no fps. The authors' script saves videos at 10 fps.
    defaults=MappingProxyType(
        {"num_frames": 16, "height": 320, "width": 512, "fps": 10.0, "num_inference_steps": 50}
        | {"guidance_scale": 12.0, "eta": 1.0}
    ),
)
_VC2_T2V_512 = replace(
    _T2V_512,
    name="vc2-t2v-512",
    description="VideoCrafter2 text to video, 512x320, 16 frames",
    weights_licence="Apache-2.0 by its model card; the authors' README: research and non-commercial use only",
    hub_id="VideoCrafter/VideoCrafter2",
    download_bytes=7_400_000_000,
    num_parameters=1_837_326_123,
    memory_bytes=4_461_821_550,
    unet=_UNET_WITH_TEMPORAL_CONVOLUTION,
    signal_scale=0.7,
    signal_scale_length=1000,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 28.0}),
)
_T2V_512_EARLY = replace(
    _VC2_T2V_512,
    name="t2v-512-early",
    description="VideoCrafter1 text to video, 512x320, 16 frames, as published before December 2023",
    weights_licence="not known for this file; the authors' code is for research and non-commercial use only",
    hub_id=None,
    download_bytes=None,
    source="the hub no longer lists this file; if you have a copy, pass its path: it is detected automatically",
    signal_scale_length=1400,
)
_T2V_1024 = replace(
    _T2V_512,
    name="t2v-1024",
    description="VideoCrafter1 text to video, 1024x576, 16 frames",
    hub_id="VideoCrafter/Text2Video-1024",
    download_bytes=6_340_000_000,
    num_parameters=1_570_578_219,
    memory_bytes=5_974_752_878,
    unet=MappingProxyType({**_UNET, "fps_cond": True}),
    signal_scale=0.3,
    signal_scale_length=1000,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 28.0, "height": 576, "width": 1024}),
)
_I2V_512 = replace(
    _VC2_T2V_512,
    name="i2v-512",
    task="i2v",
    description="VideoCrafter1 image to video, 512x320, 16 frames",
    weights_licence=_NO_CARD,
    hub_id="VideoCrafter/Image2Video-512",
    download_bytes=5_220_000_000,
    num_parameters=2_542_192_939,
    memory_bytes=5_871_555_182,
    unet=MappingProxyType({**_UNET_WITH_TEMPORAL_CONVOLUTION, "use_image_attention": True}),
    signal_scale_length=1400,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 8.0}),
)
_T2V_256 = replace(
    _T2V_512_EARLY,
    name="t2v-256",
    description="the paper's first stage, text to video, 256x256, 16 frames: the model to train",
    weights_licence="yours, because you train them (Stable Diffusion 2.1, if you start from it, has its own licence)",
    source="initialise it from Stable Diffusion 2.1 (videocrafter init), train it, and pass its folder",
    memory_bytes=3_989_569_134,
    signal_scale=None,
    signal_scale_length=None,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 8.0, "height": 256, "width": 256}),
)

PRESETS: Mapping[str, ModelPreset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _TINY_T2V,
            _TINY_T2V_FAST,
            _TINY_I2V,
            _T2V_512,
            _T2V_512_EARLY,
            _T2V_1024,
            _I2V_512,
            _VC2_T2V_512,
            _T2V_256,
        )
    }
)

FAMILIES: Mapping[str, Mapping[Task, str]] = MappingProxyType(
    {"tiny": MappingProxyType({"t2v": "tiny-t2v-fast", "i2v": "tiny-i2v"})}
)
"""Names that stand for one model per task; passing an image selects the image-to-video model.

The preset "quality" of `tiny-t2v-fast` takes `tiny-t2v`, from which it was distilled.
"""


def member(name: str, task: Task) -> str:
    """Return the model that a family stands for in a task; other names as they are."""
    return FAMILIES[name][task] if name in FAMILIES else name


def preset_for(name: str, task: Task) -> ModelPreset | None:
    """Return the preset that a name stands for in a task, or None for an unknown name.

    Raises:
        ValueError: the preset is for the other task; one line that says what to do.
    """
    name = member(name, task)
    preset = PRESETS.get(name)
    if preset is not None and preset.task != task:
        need = "needs an image (--image)" if preset.task == "i2v" else "takes no image"
        other = FAMILIES[DEFAULT_MODEL][task]
        raise ValueError(f"model {name!r} is for {TASK_NAMES[preset.task]} and {need}; use {other!r}")
    return preset


def resolve_model(name_or_path: str | os.PathLike[str], task: Task) -> Path:
    """Return the local pipeline folder of a model name or a path. Downloads nothing.

    `checkpoints.hub.obtain.obtain_model` also downloads and converts models that are missing.

    Args:
        name_or_path: a preset ("tiny-t2v"), a family ("tiny"), the path of a pipeline folder, or the path of a
            finished training run, which stands for its `final` folder.
        task: selects the model of a family; a preset for the other task is an error.

    Raises:
        ValueError: an unknown name, a model that is not installed or is for the other task, or a path that is not a
            pipeline folder; one line that says what to do.
    """
    given = str(name_or_path)
    preset = preset_for(given, task)
    if preset is not None:
        return _installed_folder(preset)
    path = expand_home(given)
    if path.is_dir():
        return _pipeline_folder(path)
    if path.exists():
        raise ValueError(
            f"{path} is a file; expected a pipeline folder (with {MODEL_INDEX}). Convert a checkpoint first:"
            f" videocrafter convert {path} FOLDER"
        )
    raise ValueError(f"unknown model {given!r}; {_allowed(given)}")


def is_run_folder(path: Path) -> bool:
    """Return whether a folder is a training run: it holds a configuration next to saved weights."""
    return (path / "config.json").is_file() and any((path / name).is_dir() for name in _RUN_FOLDERS)


def result_of_run(run: Path) -> Path:
    """Return the `final` folder of a training run. Raises ValueError that names the newest checkpoint otherwise."""
    result = run / "final"
    if result.is_dir():
        return result
    saved = [file.parent for name in (MODEL_INDEX, LORA_FILE) for file in run.glob(f"checkpoints/*/{name}")]
    newest = max(saved, key=lambda folder: folder.stat().st_mtime, default=None)
    hint = f"use its newest checkpoint, {newest}" if newest else "it has not saved a checkpoint yet"
    raise ValueError(f"the training run {run} is not finished: {result} does not exist; {hint}")


def folder_hint(path: Path) -> str:
    """Return what to pass instead of a folder that is not a pipeline folder; empty if nothing suggests itself."""
    if is_run_folder(path):
        try:
            return f"it is a training run; pass its result, {result_of_run(path)}"
        except ValueError as error:
            return str(error)
    if (path / LORA_FILE).is_file() or (path / "adapter_config.json").is_file():
        return (
            "it holds a LoRA, not a whole model; pass the model that it was trained on with --model and the LoRA with"
            f" --lora {path}"
        )
    for parent in (path.parent, path.parent.parent):
        if (parent / MODEL_INDEX).is_file():
            return f"it is a part of the pipeline folder {parent}; pass that folder"
        if is_run_folder(parent):
            return f"it is a part of the training run {parent}; pass that folder, or a checkpoint in it"
    inner = sorted(file.parent for file in path.glob(f"*/{MODEL_INDEX}")) if path.is_dir() else []
    if inner:
        newest = max(inner, key=lambda folder: folder.stat().st_mtime)
        return f"it holds pipeline folders; pass one of them, such as {newest}"
    return ""


def _pipeline_folder(path: Path) -> Path:
    """Return the folder itself if it is a pipeline, or the result of the run in it."""
    result = result_of_run(path) if is_run_folder(path) else path
    if (result / MODEL_INDEX).is_file():
        return result
    hint = folder_hint(result)
    raise ValueError(f"{result} is not a pipeline folder: it has no {MODEL_INDEX}; {hint or _allowed(str(path))}")


def _installed_folder(preset: ModelPreset) -> Path:
    if preset.is_installed and preset.folder is not None:
        return preset.folder
    if preset.folder is not None:
        raise ValueError(
            f"model {preset.name!r} is missing from this installation (expected in {preset.folder}); reinstall the"
            " package, or train the model with runs/tiny.sh and pass its folder"
        )
    where = preset.source or f"its weights are on {preset.hub_url}, and the first command that uses it downloads them"
    raise ValueError(f"model {preset.name!r} does not ship with the package: {where}")


def _allowed(given: str) -> str:
    names = [*FAMILIES, *PRESETS]
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known models are {', '.join(names)}; or pass the path of a pipeline folder or a checkpoint file"
