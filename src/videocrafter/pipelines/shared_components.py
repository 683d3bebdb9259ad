"""Pipelines from the components of others, in the ways of diffusers: `Class(**pipeline.components)` and `from_pipe`.

Three settings of a pipeline belong to its network, because it was trained with them: the recommended settings, the
vocabulary and the signal scale, without which a scaled network makes wrong videos. `components` holds networks only,
so the settings travel as an attribute of the denoiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn
from typing_extensions import Self

from videocrafter.pipelines.component_loading import DtypeChoice, resolve_dtypes
from videocrafter.pipelines.sampling_settings import IMAGE_SETTING_NAMES

SETTINGS = ("defaults", "knowledge", "signal_scale")
"""Arguments of a pipeline that belong to its network."""
_CARRIED = "pipeline_settings"
_OF_DIFFUSERS = ("custom_pipeline", "custom_revision", "trust_remote_code")


def carried_settings(unet: Any, takes_image: bool, **given: Any) -> dict[str, Any]:
    """Return the `SETTINGS` of a new pipeline, and leave them with its network.

    Those that are None are taken from the last pipeline with this network. Recommended image settings are left out
    for a pipeline that takes no image.
    """
    carried: Mapping[str, Any] = getattr(unet, _CARRIED, {})
    settings = {name: carried.get(name) if given[name] is None else given[name] for name in SETTINGS}
    if given["defaults"] is None and settings["defaults"] is not None and not takes_image:
        kept = {key: value for key, value in settings["defaults"].items() if key not in IMAGE_SETTING_NAMES}
        settings["defaults"] = kept
    _leave_settings(unet, settings)
    return settings


def _leave_settings(unet: Any, settings: Mapping[str, Any]) -> None:
    if isinstance(unet, nn.Module):
        setattr(unet, _CARRIED, {name: settings.get(name) for name in SETTINGS})


class SharedComponentsMixin(DiffusionPipeline):
    """Lets pipelines share their components, with the settings that belong to them."""

    takes_image: bool

    @property
    def components(self) -> dict[str, Any]:
        """The networks, tokenizer and scheduler by name: `Class(**pipeline.components)` builds an equal pipeline."""
        components: dict[str, Any] = super().components
        # Again, because the config may have changed, or another pipeline have been built with the network.
        _leave_settings(components.get("unet"), self.config)
        return components

    @classmethod
    def from_pipe(
        cls,
        pipeline: Any,
        *,
        dtype: DtypeChoice | None = None,
        torch_dtype: DtypeChoice | None = None,
        **given: Any,
    ) -> Self:
        """Return a pipeline of this class with the components and settings of another, without copying weights.

        A text-to-video pipeline leaves out the image parts of an image-to-video one. For the reverse, pass
        `image_encoder`, `image_projector` and a `unet` with an image branch.

        Args:
            pipeline: a pipeline with the same kinds of components.
            dtype, torch_dtype: convert the networks, which are those of the given pipeline too. None keeps their
                precision; diffusers would convert them to float32.
            given: components and settings to use instead of those of the pipeline.

        Raises:
            ValueError: a component is missing or of another kind.
            TypeError: an unknown argument.
        """
        if any(name in given for name in _OF_DIFFUSERS):
            raise TypeError(f"from_pipe takes no {', '.join(_OF_DIFFUSERS)}; call it on the class to build")
        needed, _ = cls._get_signature_keys(cls)
        unknown = sorted(given.keys() - {*needed, *SETTINGS})
        if unknown:
            raise TypeError(f"from_pipe got an unknown argument {unknown[0]!r}")
        parts = {**pipeline.components, **{name: given[name] for name in needed if name in given}}
        missing = [name for name in needed if parts.get(name) is None]
        if missing:
            raise ValueError(
                f"{cls.__name__} needs {' and '.join(missing)}, which {type(pipeline).__name__} does not have; pass"
                f" {'it' if len(missing) == 1 else 'them'}: from_pipe(pipeline, {missing[0]}=...)"
            )
        cls._check_networks(parts)
        if not hasattr(parts["unet"], _CARRIED):
            _leave_settings(parts["unet"], pipeline.config)
        settings = {name: given.get(name) for name in SETTINGS}
        made = cls(**{name: parts[name] for name in needed}, **settings)
        chosen = torch_dtype if dtype is None else dtype
        if chosen is not None:
            dtypes = resolve_dtypes(chosen, parts)
            for name in needed:
                if isinstance(parts[name], nn.Module):
                    parts[name].to(dtype=dtypes.get(name, dtypes["default"]))
        return made

    @classmethod
    def _check_networks(cls, parts: Mapping[str, Any]) -> None:
        """Raise ValueError for a denoiser of another kind, or without the image branch that the class needs."""
        unet = parts["unet"]
        types = cls._get_signature_types()["unet"]
        if not isinstance(unet, types):
            raise ValueError(
                f"unet is a {type(unet).__name__}; expected a {types[0].__name__}, pass from_pipe(unet=...)"
            )
        if cls.takes_image and not unet.config["image_cross_attention"]:
            raise ValueError(
                f"the unet has no image branch, which {cls.__name__} needs; pass one that was trained with images:"
                " from_pipe(pipeline, unet=...)"
            )
