"""Every model that is known by name: where its weights are, what it needs and how it is best used.

Reading a preset imports nothing heavy, so that `videocrafter models` answers at once. A variant is written as
a `replace()` of another preset and says only what differs.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Task = Literal["t2v", "i2v"]

TASK_NAMES: Mapping[str, str] = MappingProxyType({"t2v": "text to video", "i2v": "image to video"})
DEFAULT_MODEL = "tiny"
MODEL_INDEX = "model_index.json"
"""The file that makes a folder a pipeline folder."""
LORA_FILE = "pytorch_lora_weights.safetensors"
"""The name that diffusers gives a LoRA inside its folder."""
CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Of files that may hold a whole model in the official format."""

_RUN_FOLDERS = ("final", "stages", "checkpoints")
_ASSETS = Path(__file__).parent / "assets" / "models"


@dataclass(frozen=True, kw_only=True)
class ModelPreset:
    """One known model.

    Attributes:
        name: what `--model` takes.
        task: "t2v" (a prompt) or "i2v" (an image and a prompt).
        description: one line for listings.
        weights_licence: the licence of the weights, which need not be that of the code.
        asset: name of the folder inside the package that holds the weights, or None.
        hub_id: repository on the Hugging Face hub from which the weights are downloaded, or None.
        hub_file: the checkpoint in that repository, in the official format.
        download_bytes: size of that file, as the hub lists it; None without one.
        source: for weights that neither ship nor can be downloaded: where a user gets them. One phrase.
        num_parameters: of all networks of the pipeline together; None for models that ship.
        memory_bytes: what one video of the default size takes at its peak, weights included, in bfloat16, both
            branches of the guidance together; None for models that ship. Computed, not measured
            (`runs/estimate_memory.py`); what the framework itself takes comes on top.
        signal_scale: b of the schedule: the clean latent is scaled by a factor that falls from 1 to b during the
            first 400 steps and stays b. None if there is no such factor.
        has_fps_condition: whether the network is told the speed of the motion; if not, `fps` changes nothing.
        defaults: recommended settings, as in `GenerationDefaults`. `fps_range` is missing where the speeds seen
            in training were never published, which is true of all official models.
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
    signal_scale: float | None = None
    has_fps_condition: bool = True
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def folder(self) -> Path | None:
        """Where the pipeline folder is or would be; None for weights that do not ship."""
        return _ASSETS / self.asset if self.asset else None

    @property
    def is_installed(self) -> bool:
        """Whether the package brings the model, so that it can be used now."""
        return self.folder is not None and (self.folder / MODEL_INDEX).is_file()

    @property
    def hub_url(self) -> str | None:
        """The page of the weights, with their licence."""
        return f"https://huggingface.co/{self.hub_id}" if self.hub_id else None


_TINY_T2V = ModelPreset(
    name="tiny-t2v",
    task="t2v",
    description="the paper's text-to-video system in miniature, trained by this package: moving emoji",
    weights_licence="Apache-2.0",
    asset="tiny-t2v",
)
_TINY_I2V = replace(
    _TINY_T2V,
    name="tiny-i2v",
    task="i2v",
    description="the miniature with the image branch: keeps what a given picture shows and lets it move",
    asset="tiny-i2v",
)

_NO_CARD = "not stated on the hub page (read it); the authors' code is for research and non-commercial use only"

# fps 28 and 8, 50 steps, guidance 12 and eta 1 are those of the authors' scripts.
_T2V_512 = ModelPreset(
    name="t2v-512",
    task="t2v",
    description="VideoCrafter1 text to video, 512x320, 16 frames, as published since December 2023",
    weights_licence=_NO_CARD,
    hub_id="VideoCrafter/Text2Video-512",
    download_bytes=6_330_000_000,
    num_parameters=1_568_527_659,
    memory_bytes=5_151_304_278,
    has_fps_condition=False,
    # The network is not told the fps. 10 is the rate at which the authors' script saves videos.
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
    memory_bytes=5_688_901_206,
    signal_scale=0.7,
    has_fps_condition=True,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 28.0}),
)
_T2V_512_EARLY = replace(
    _VC2_T2V_512,
    name="t2v-512-early",
    description="VideoCrafter1 text to video, 512x320, 16 frames, as published before December 2023",
    weights_licence="not known for that file; the authors' code is for research and non-commercial use only",
    hub_id=None,
    download_bytes=None,
    source="the hub no longer lists that file; if you have a copy, give its path (it is recognised)",
)
_T2V_1024 = replace(
    _T2V_512,
    name="t2v-1024",
    description="VideoCrafter1 text to video, 1024x576, 16 frames",
    hub_id="VideoCrafter/Text2Video-1024",
    download_bytes=6_340_000_000,
    num_parameters=1_570_578_219,
    memory_bytes=10_392_452_694,
    signal_scale=0.3,
    has_fps_condition=True,
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
    memory_bytes=7_098_634_838,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 8.0}),
)
_T2V_256 = replace(
    _T2V_512_EARLY,
    name="t2v-256",
    description="the paper's first stage, text to video, 256x256, 16 frames: the size to train",
    weights_licence="yours: you train them (Stable Diffusion 2.1, if you start from it, has a licence of its own)",
    source="start it from Stable Diffusion 2.1 (videocrafter init), train it, and give its folder",
    memory_bytes=4_480_351_830,
    signal_scale=None,
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 8.0, "height": 256, "width": 256}),
)

PRESETS: Mapping[str, ModelPreset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _TINY_T2V,
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
    {"tiny": MappingProxyType({"t2v": "tiny-t2v", "i2v": "tiny-i2v"})}
)
"""Names that stand for one model per task; which one is meant follows from whether an image is given."""


def preset_for(name: str, task: Task) -> ModelPreset | None:
    """The preset that a name means for a task, or None if it is no known name.

    Raises:
        ValueError: the preset is for the other task. One line that says what to do.
    """
    name = FAMILIES[name][task] if name in FAMILIES else name
    preset = PRESETS.get(name)
    if preset is not None and preset.task != task:
        need = "needs an image (--image)" if preset.task == "i2v" else "takes no image"
        other = FAMILIES[DEFAULT_MODEL][task]
        raise ValueError(f"model {name!r} is for {TASK_NAMES[preset.task]} and {need}; use {other!r}")
    return preset


def resolve_model(name_or_path: str | os.PathLike[str], task: Task) -> Path:
    """Return the pipeline folder that a model name or a path means, of those that are there. Downloads nothing.

    `checkpoints.obtain.obtain_model` also fetches and converts what is not.

    Args:
        name_or_path: a preset ("tiny-t2v"), a family ("tiny") or the path of a pipeline folder, or of a finished
            training run, whose `final` is meant.
        task: what the model is wanted for; chooses within a family, and a preset of another task is an error.

    Raises:
        ValueError: an unknown name, a model that is not installed or is for the other task, or a path that is
            no pipeline folder. The message is one line and says what to do.
    """
    given = str(name_or_path)
    preset = preset_for(given, task)
    if preset is not None:
        return _installed_folder(preset)
    path = Path(given)
    if path.is_dir():
        return _pipeline_folder(path)
    if path.exists():
        raise ValueError(
            f"{path} is a file, but a model is a pipeline folder (with {MODEL_INDEX}); convert a checkpoint with:"
            f" videocrafter convert {path} FOLDER"
        )
    raise ValueError(f"unknown model {given!r}; {_allowed(given)}")


def is_run_folder(path: Path) -> bool:
    """Whether a folder is that of a training run: its configuration lies beside what it has saved."""
    return (path / "config.json").is_file() and any((path / name).is_dir() for name in _RUN_FOLDERS)


def _pipeline_folder(path: Path) -> Path:
    """A folder that is a pipeline, or the result of the run in it."""
    result = path / "final" if is_run_folder(path) else path
    if (result / MODEL_INDEX).is_file():
        return result
    if (result / LORA_FILE).is_file():
        raise ValueError(
            f"{result} holds a LoRA, which goes on top of a model: give the model that it was trained on with"
            f" --model, and the LoRA with --lora {result}"
        )
    if result.is_dir():
        raise ValueError(f"{result} is no pipeline folder: it has no {MODEL_INDEX}; {_allowed(str(path))}")
    saved = [file.parent for name in (MODEL_INDEX, LORA_FILE) for file in path.glob(f"checkpoints/*/{name}")]
    newest = max(saved, key=lambda folder: folder.stat().st_mtime, default=None)
    hint = f"its newest checkpoint is {newest}" if newest else "it has not saved a model yet"
    raise ValueError(f"{path} is a training run that is not finished: there is no {result}; {hint}")


def _installed_folder(preset: ModelPreset) -> Path:
    if preset.is_installed and preset.folder is not None:
        return preset.folder
    if preset.folder is not None:
        raise ValueError(
            f"model {preset.name!r} is missing from this installation (expected in {preset.folder});"
            " reinstall the package, or train it with runs/tiny.sh and give its folder"
        )
    where = preset.source or f"its weights are on {preset.hub_url}, and a command that names it downloads them"
    raise ValueError(f"model {preset.name!r} is not part of the package: {where}")


def _allowed(given: str) -> str:
    names = [*FAMILIES, *PRESETS]
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known models are {', '.join(names)}, or give the path of a pipeline folder or a checkpoint file"
