"""Reuse deep features of the denoiser between steps (DeepCache, Ma et al. 2023, arXiv 2312.00858). Approximate.

Neighbouring steps change the features of the inner levels little. A full step runs the whole network and keeps the
input of the last layers of the way up; a cached step computes only the outer layers, on these features.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from videocrafter.diffusion.guidance import check_number
from videocrafter.models.blocks import DownStage, UpStage, run_layer
from videocrafter.models.unet import VideoUNet

FEWEST_STEPS = 9
"""With fewer steps, neighbouring steps differ too much."""
_DISTILLED = ("LCMScheduler", "TCDScheduler", "FewStepScheduler")


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """Choice of the steps and layers that are computed. Raises ValueError for a value that is not allowed.

    Attributes:
        layers: outer layers on the way up that every step computes, at least 1.
        every: one of so many steps is full; 1 reuses nothing.
        full_first, full_last: shares of the steps at the beginning and at the end that are full.
    """

    layers: int = 1
    every: int = 2
    full_first: float = 0.2
    full_last: float = 0.15

    def __post_init__(self) -> None:
        check_number("layers", self.layers, 1)
        check_number("every", self.every, 1)
        check_number("full_first", self.full_first, 0, 1)
        check_number("full_last", self.full_last, 0, 1)

    def full_steps(self, num_steps: int) -> frozenset[int]:
        """Return the steps that run the whole network."""
        begin, end = max(1, round(self.full_first * num_steps)), num_steps - round(self.full_last * num_steps)
        return frozenset({*range(begin), *range(begin - 1, end, self.every), *range(end, num_steps)})

    def check_steps(self, num_steps: int, scheduler: Any) -> None:
        """Raise ValueError for samplers and numbers of steps with which reused features do harm."""
        name = type(scheduler).__name__
        if name in _DISTILLED:
            raise ValueError(
                f"feature_cache cannot be used with {name}, whose few steps are too far apart; turn it off"
            )
        if getattr(scheduler, "order", 1) > 1:
            raise ValueError(
                f"feature_cache cannot be used with {name}, which visits steps twice; use dpm++2m or ddim"
            )
        if num_steps < FEWEST_STEPS:
            raise ValueError(
                f"feature_cache needs at least {FEWEST_STEPS} num_inference_steps, but there are {num_steps};"
                " use more steps or turn it off"
            )


class CachedUNet:
    """Same call as `VideoUNet`, for one sampling; announce each step with `begin_step`.

    Features belong to a call of a step: its number within the step, its number of texts, and whether it runs temporal
    layers. A call without features runs the whole network. Where guidance begins or ends, the calls have other
    meanings, so features are dropped.

    Args:
        unet: the network.
        cache: layers and steps.
        num_steps: steps of the sampling.
    """

    takes_branches = True

    def __init__(self, unet: VideoUNet, cache: FeatureCache, num_steps: int) -> None:
        self.unet = unet
        self.layers = cache.layers
        self._full = cache.full_steps(num_steps)
        self._features: dict[tuple[int, int, bool], Tensor] = {}
        self._step, self._call, self._guided = 0, 0, True

    @property
    def _last_stage(self) -> UpStage:
        stage = self.unet.up_stages[-1]
        assert isinstance(stage, UpStage)
        return stage

    def begin_step(self, index: int, *, guided: bool = True) -> None:
        """Announce the calls of step `index`, and whether guidance acts at it."""
        if guided != self._guided:
            self.forget()
        self._step, self._call, self._guided = index, 0, guided

    def forget(self) -> None:
        """Drop all features, because the conditions of the calls have changed."""
        self._features.clear()

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        fps: Tensor | None = None,
        image: Tensor | None = None,
        image_scale: float = 1.0,
        temporal: bool = True,
    ) -> Tensor:
        """Predict as `VideoUNet.forward`, exactly in full steps and approximately in the others."""
        key = (self._call, len(text), temporal)
        self._call += 1
        given = (sample, timestep, text, fps, image, image_scale, temporal)
        if self._step not in self._full and key in self._features:
            return self._outer_layers(self._features[key], *given)

        thread = threading.get_ident()

        def keep(_: Any, inputs: tuple[Tensor, ...]) -> None:
            # Other threads may call the same network meanwhile.
            if threading.get_ident() == thread:
                self._features[key] = inputs[0]

        hook = self._last_stage.layers[-self.layers].register_forward_pre_hook(keep)
        try:
            # Not the network itself: a hook is not part of a graph that was compiled before.
            return self.unet.forward(*given)
        finally:
            hook.remove()

    def _outer_layers(self, features: Tensor, sample: Tensor, *conditions: Any) -> Tensor:
        x, shared = self.unet.begin(sample, *conditions)
        skips = [x]
        down, up = self.unet.down_stages[0], self._last_stage
        assert isinstance(down, DownStage)
        for layer in down.layers[: self.layers - 1]:
            skips.append(run_layer(down, layer, skips[-1], shared))
        for layer, skip in zip(up.layers[-self.layers :], reversed(skips), strict=True):
            features = run_layer(up, layer, features, shared, skip)
        return self.unet.finish(features, shared.num_frames)


class FeatureCacheMixin:
    """Mixin for a `DiffusionPipeline` with the network `unet` and the `denoiser` that shares its work, or is it."""

    unet: Any
    denoiser: Any
    feature_cache: FeatureCache | None = None
    """Reuse of deep features; see `use_feature_cache`."""

    def use_feature_cache(self, cache: FeatureCache | None) -> None:
        """Reuse deep features in later calls, which is approximate, or stop with None.

        A compiled network then runs uncompiled.

        Raises ValueError if the network has fewer outer layers, or if its weights are offloaded.
        """
        if cache is not None:
            most = len(self.unet.up_stages[-1].layers)
            if cache.layers > most:
                raise ValueError(f"feature_cache has {cache.layers} layers, but the network's last stage has {most}")
            if self.is_offloaded():  # type: ignore[attr-defined]
                raise ValueError("feature_cache cannot be used while weights are offloaded; use one or the other")
        self.feature_cache = cache

    def sampled_network(self, unet: Any, num_steps: int) -> Any:
        """Return the network that one sampling calls; `unet` is that of a derived pipeline, or None.

        Raises ValueError if features cannot be reused with it.
        """
        if self.feature_cache is None:
            return self.denoiser if unet is None else unet
        if unet is not None or self.denoiser is not self.unet:
            raise ValueError(
                "feature_cache reuses features of whole videos on one device, so windows, input clips and several"
                " devices cannot be combined with it; turn it off with use_feature_cache(None)"
            )
        return CachedUNet(self.unet, self.feature_cache, num_steps)
