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
        hub_id: where the authors publish the weights, or None.
        needs: what has to be there before the model can be used; empty if it ships.
        defaults: recommended settings, for models whose folder is not there to be asked.
    """

    name: str
    task: Task
    description: str
    weights_licence: str
    asset: str | None = None
    hub_id: str | None = None
    needs: str = ""
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def folder(self) -> Path | None:
        """Where the pipeline folder is or would be; None for weights that do not ship."""
        return _ASSETS / self.asset if self.asset else None

    @property
    def is_installed(self) -> bool:
        """Whether the model can be used now."""
        return self.folder is not None and (self.folder / MODEL_INDEX).is_file()

    @property
    def status(self) -> str:
        """One phrase for listings."""
        if self.is_installed:
            return "installed"
        return "not in this installation" if self.asset else "weights not supported yet"


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

_T2V_512 = ModelPreset(
    name="t2v-512",
    task="t2v",
    description="VideoCrafter1 text to video, 512x320, 16 frames",
    weights_licence="see the authors' model card (released for research)",
    hub_id="VideoCrafter/Text2Video-512",
    needs="the official checkpoint (several GB) and a GPU",
    defaults=MappingProxyType(
        {"num_frames": 16, "height": 320, "width": 512, "fps": 28, "num_inference_steps": 50}
        | {"guidance_scale": 12.0, "eta": 1.0}
    ),
)
_T2V_1024 = replace(
    _T2V_512,
    name="t2v-1024",
    description="VideoCrafter1 text to video, 1024x576, 16 frames",
    hub_id="VideoCrafter/Text2Video-1024",
    defaults=MappingProxyType({**_T2V_512.defaults, "height": 576, "width": 1024}),
)
_VC2_T2V_512 = replace(
    _T2V_512,
    name="vc2-t2v-512",
    description="VideoCrafter2 text to video, 512x320, 16 frames",
    hub_id="VideoCrafter/VideoCrafter2",
)
_I2V_512 = replace(
    _T2V_512,
    name="i2v-512",
    task="i2v",
    description="VideoCrafter1 image to video, 512x320, 16 frames",
    hub_id="VideoCrafter/Image2Video-512",
    defaults=MappingProxyType({**_T2V_512.defaults, "fps": 8}),
)

PRESETS: Mapping[str, ModelPreset] = MappingProxyType(
    {preset.name: preset for preset in (_TINY_T2V, _TINY_I2V, _T2V_512, _T2V_1024, _I2V_512, _VC2_T2V_512)}
)

FAMILIES: Mapping[str, Mapping[Task, str]] = MappingProxyType(
    {"tiny": MappingProxyType({"t2v": "tiny-t2v", "i2v": "tiny-i2v"})}
)
"""Names that stand for one model per task; which one is meant follows from whether an image is given."""


def resolve_model(name_or_path: str | os.PathLike[str], task: Task) -> Path:
    """Return the pipeline folder that a model name or a path means.

    Args:
        name_or_path: a preset ("tiny-t2v"), a family ("tiny") or the path of a pipeline folder.
        task: what the model is wanted for; chooses within a family, and a preset of another task is an error.

    Raises:
        ValueError: an unknown name, a model that is not installed or is for the other task, or a path that is
            no pipeline folder. The message is one line and says what to do.
    """
    given = str(name_or_path)
    name = FAMILIES[given][task] if given in FAMILIES else given
    if name in PRESETS:
        return _installed_folder(PRESETS[name], task)
    path = Path(given)
    if path.is_dir():
        if (path / MODEL_INDEX).is_file():
            return path
        raise ValueError(f"{path} is no pipeline folder: it has no {MODEL_INDEX}; {_allowed(given)}")
    if path.exists():
        raise ValueError(
            f"{path} is a file, but a model is a pipeline folder (with {MODEL_INDEX}); converting single-file"
            " checkpoints is not part of this release"
        )
    raise ValueError(f"unknown model {given!r}; {_allowed(given)}")


def _installed_folder(preset: ModelPreset, task: Task) -> Path:
    if preset.task != task:
        need = "needs an image (--image)" if preset.task == "i2v" else "takes no image"
        other = FAMILIES[DEFAULT_MODEL][task]
        raise ValueError(f"model {preset.name!r} is for {TASK_NAMES[preset.task]} and {need}; use {other!r}")
    if preset.is_installed and preset.folder is not None:
        return preset.folder
    if preset.folder is not None:
        raise ValueError(
            f"model {preset.name!r} is missing from this installation (expected in {preset.folder});"
            " reinstall the package, or train it with runs/tiny.sh and give its folder"
        )
    raise ValueError(
        f"model {preset.name!r} needs {preset.needs} from {preset.hub_id}, and converting it is not in this"
        f" release; use {DEFAULT_MODEL!r} or a pipeline folder"
    )


def _allowed(given: str) -> str:
    names = [*FAMILIES, *PRESETS]
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known models are {', '.join(names)}, or give the path of a pipeline folder"
