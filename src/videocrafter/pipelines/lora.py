"""LoRAs of a pipeline: load, set weights, fuse, unload and save, through peft."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from videocrafter.checkpoints.lora.adapter_settings import ADAPTER_METADATA
from videocrafter.checkpoints.lora.lora_file import read_lora
from videocrafter.checkpoints.lora.target_layers import NETWORKS, fit_lora
from videocrafter.media.atomic_write import whole_file
from videocrafter.pipelines.few_step_settings import Students, add_student, drop_students, few_step_header, lora_times
from videocrafter.pipelines.lora_layers import add_adapter, settings, shapes, tuners
from videocrafter.pipelines.lora_source import locate_lora
from videocrafter.pipelines.lora_weights import AdapterWeight, layer_weight, network_weight
from videocrafter.pipelines.network_use import using_network
from videocrafter.presets import LORA_FILE

_HUB_ARGUMENTS = {"revision", "cache_dir", "force_download", "local_files_only", "token"}


@dataclass(frozen=True, kw_only=True)
class LoadedLora:
    """Result of `load_lora_weights`.

    Attributes:
        adapter_name: name of the LoRA for `set_adapters` and `delete_adapters`.
        num_layers: number of changed layers of each network.
        note: one line about layers that do not fit, or None.
    """

    adapter_name: str
    num_layers: Mapping[str, int]
    note: str | None


class _SaveLoraWeights:
    """`save_lora_weights`: diffusers' class method, and on a pipeline without state dicts also `save_lora`."""

    def __get__(self, pipeline: VideoLoraMixin | None, owner: type[VideoLoraMixin]) -> Callable[..., Any]:
        of_state_dicts: Callable[..., Any] = StableDiffusionLoraLoaderMixin.save_lora_weights.__func__

        def save(save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Path | None:
            gives_layers = any(isinstance(one, (Mapping, nn.Module)) for one in (*args, *kwargs.values()))
            if pipeline is None or gives_layers:
                return of_state_dicts(owner, save_directory, *args, **kwargs)
            return pipeline.save_lora(save_directory, *args, **kwargs)

        return save


class VideoLoraMixin(StableDiffusionLoraLoaderMixin):
    """LoRA support for a pipeline with a VideoUNet and a text encoder; method names and arguments are diffusers'.

    diffusers also provides `disable_lora`, `enable_lora` and `get_list_adapters`. Unloading after fusing keeps the
    fused weights: to save a model with a LoRA in it, fuse, unload, then call `save_pretrained`.
    """

    unet: Any
    text_encoder: Any
    scheduler: Any
    _before_fusing: Mapping[str, list[tuple[Any, dict[str, float], list[str]]]] = MappingProxyType({})
    """Of each fused network: its LoRA layers, their scaling and active LoRAs."""

    _students: Students | None = None
    """The distilled LoRAs that are loaded."""

    save_lora_weights = _SaveLoraWeights()

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        low_cpu_mem_usage: bool | None = None,
        use_safetensors: bool | None = None,
        **hub: Any,
    ) -> LoadedLora:
        """Load a LoRA for VideoUNet or for Stable Diffusion 2 and activate it at weight 1, next to the active ones.

        A LoRA that was distilled also sets the pipeline's scheduler and recommended settings: its steps, no guidance.

        Args:
            pretrained_model_name_or_path_or_dict: a file, a folder that contains one, a repository on the hub, or a
                state dict; in diffusers' layout, old or new, in peft's or in kohya's. A training run stands for its
                result.
            adapter_name: name for `set_adapters`; None selects `default_0`, `default_1`, …
            hotswap: must be False; call `delete_adapters` before loading the next LoRA.
            weight_name, subfolder: where the file is in the folder or repository.
            low_cpu_mem_usage, use_safetensors: ignored. Loading initialises nothing that it then overwrites, and
                reads both kinds of files without executing their content.
            hub: `revision`, `cache_dir`, `force_download`, `local_files_only`, `token`; as in `hf_hub_download`.

        Raises:
            ValueError: the source is not a LoRA or is for another model; the name is taken or invalid; or the
                networks are fused or offloaded layer by layer.
            TypeError: an unknown argument.
        """
        if hotswap:
            raise ValueError("hotswap is not supported; call delete_adapters(...), then load the other LoRA")
        unknown = sorted(set(hub) - _HUB_ARGUMENTS)
        if unknown:
            raise TypeError(f"load_lora_weights got an unknown argument {unknown[0]!r}")
        self._check_changeable("load a LoRA")
        name = self._free_name(adapter_name)
        source = pretrained_model_name_or_path_or_dict
        if not isinstance(source, Mapping):
            given = {key: value for key, value in hub.items() if value is not None}
            source = locate_lora(source, weight_name, subfolder, **given)
        lora = read_lora(source)
        times = None if isinstance(source, Mapping) else lora_times(Path(source), self.scheduler)
        networks = {part: getattr(self, part) for part in NETWORKS}
        fitted = fit_lora(lora, self.unet.config, {part: shapes(network) for part, network in networks.items()})
        for part, layers in fitted.layers.items():
            add_adapter(networks[part], layers, name)
        if times is not None:
            self._students = add_student(self, self._students, name, times)
        return LoadedLora(
            adapter_name=name,
            num_layers={part: len(layers) for part, layers in fitted.layers.items()},
            note=fitted.note,
        )

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: AdapterWeight | Sequence[AdapterWeight] = None
    ) -> None:
        """Activate these LoRAs, each with its weight (1 if None), and deactivate all others.

        A weight is a number or a mapping from networks to numbers, such as `{"unet": 0.5, "text_encoder": 0.8}`. In
        place of the number for `unet`, a mapping sets the weight of the layers whose names begin with its keys, such
        as `{"down": 0.5, "mid": 1.0, "up": 0.8}`. What a mapping leaves out has weight 1.

        Raises ValueError for an unknown name, a number of weights that differs from that of names, or fused networks.
        """
        self._check_changeable("set adapters")
        names = self._known(adapter_names)
        if adapter_weights is None or isinstance(adapter_weights, (int, float, Real, Mapping)):
            weights = [adapter_weights] * len(names)
        else:
            weights = list(adapter_weights)
        if len(weights) != len(names):
            raise ValueError(f"got {len(weights)} weights for {len(names)} LoRAs; pass one weight for each")
        per_network = {part: [network_weight(weight, part) for weight in weights] for part in NETWORKS}
        for part in NETWORKS:
            for layer_name, layer in tuners(getattr(self, part)).items():
                layer.set_adapter(names)
                for name, weight in zip(names, per_network[part], strict=True):
                    layer.set_scale(name, layer_weight(weight, layer_name))

    def get_active_adapters(self) -> list[str]:
        """Return the names of the active LoRAs of all networks."""
        return list(dict.fromkeys(name for layer in self._lora_layers() for name in layer.active_adapters))

    def set_lora_device(self, adapter_names: str | Sequence[str], device: torch.device | str | int) -> None:
        """Move LoRAs to a device. Raises ValueError for an unknown name."""
        super().set_lora_device(self._known(adapter_names), device)

    def enable_lora_hotswap(self, **kwargs: Any) -> None:
        """Refuse; see `load_lora_weights`."""
        raise NotImplementedError("hotswap is not supported; call delete_adapters(...), then load the other LoRA")

    @contextmanager
    def lora_scaled(self, cross_attention_kwargs: Mapping[str, Any] | None) -> Iterator[None]:
        """Multiply the weights of the active LoRAs by `cross_attention_kwargs["scale"]` within the context.

        Calls in other threads, whose LoRAs must keep their weights, wait meanwhile.

        Raises ValueError for another key, or for a scale without effect: no LoRA is loaded, or they are fused.
        """
        options = dict(cross_attention_kwargs or {})
        scale = options.pop("scale", 1.0)
        if options:
            raise ValueError(f"cross_attention_kwargs takes only 'scale', but has {', '.join(map(repr, options))}")
        if scale == 1.0:
            yield
            return
        self._check_not_fused("scale LoRAs", NETWORKS)
        self._check_loaded("scale")
        with using_network(self.unet, alone=True):
            before = [(layer, dict(layer.scaling)) for layer in self._lora_layers()]
            try:
                for layer, scaling in before:
                    layer.scaling.update({name: value * scale for name, value in scaling.items()})
                yield
            finally:
                for layer, scaling in before:
                    layer.scaling.update(scaling)

    def fuse_lora(
        self,
        components: Sequence[str] | float = NETWORKS,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> None:
        """Add LoRAs, times `lora_scale`, to the weights, so that sampling is as fast as without them.

        While a network is fused, its other LoRAs have no effect.

        Args:
            components: networks to change; a number is taken as `lora_scale`.
            safe_fusing: raise an error if a weight would become NaN.
            adapter_names: the LoRAs; None means all active ones.

        Raises:
            ValueError: a network is already fused, no LoRA is loaded, a name is unknown, or a layer has no bias but
                its LoRA has one.
        """
        if isinstance(components, (int, float, Real)):
            lora_scale, components = float(components), NETWORKS
        components = _checked_components(components)
        self._check_changeable("fuse", components)
        self._check_loaded("fuse")
        names = None if adapter_names is None else self._known(adapter_names)
        # `unfuse_lora` restores what fusing changes: scaling and, with `adapter_names`, the active LoRAs.
        before = {
            part: [(layer, dict(layer.scaling), list(layer.active_adapters)) for layer in self._lora_layers([part])]
            for part in components
        }
        self._before_fusing = {**self._before_fusing, **before}
        if names is not None:
            for layer in self._lora_layers(components):
                layer.set_adapter(names)
        try:
            self._check_biases(components)
            super().fuse_lora(components, lora_scale, safe_fusing=safe_fusing)
        except ValueError:
            self.unfuse_lora(components)
            raise

    def unfuse_lora(self, components: Sequence[str] = NETWORKS) -> None:
        """Subtract the LoRAs from the weights (exact up to rounding); they stay loaded and active."""
        components = _checked_components(components)
        super().unfuse_lora(components)
        before = dict(self._before_fusing)
        for part in components:
            for layer, scaling, active in before.pop(part, []):
                layer.scaling.update(scaling)
                layer.set_adapter(active)
        self._before_fusing = before

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Remove LoRAs, and the steps of distilled ones. Raises ValueError for an unknown name, or fused networks."""
        self._check_changeable("delete a LoRA")
        names = self._known(adapter_names)
        # peft would activate another LoRA in a layer that loses its last active one.
        active = [
            (layer, [one for one in layer.active_adapters if one not in names]) for layer in self._lora_layers()
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
            super().delete_adapters(names)
        for layer, kept in active:
            layer.set_adapter(kept)
        self._students = drop_students(self, self._students, names)

    def unload_lora_weights(self) -> None:
        """Remove all LoRAs, and the steps and guidance that a distilled one brought. Fused weights stay."""
        super().unload_lora_weights()
        if self._students is not None and not self._before_fusing:
            drop_students(self, self._students, list(self._students.times))
        self._students, self._before_fusing = None, {}

    def save_lora(
        self,
        save_directory: str | os.PathLike[str],
        adapter_name: str | None = None,
        *,
        overwrite: bool = False,
        few_steps: bool = False,
    ) -> Path:
        """Write one LoRA as `pytorch_lora_weights.safetensors` in diffusers' layout; return the file.

        Keys are `unet.LAYER.lora_A.weight` and so on, with the layer names of VideoUNet, whatever layout the LoRA was
        loaded from. As in diffusers, alpha is stored in the header.

        Args:
            save_directory: created if it does not exist.
            adapter_name: may be None if only one LoRA is loaded.
            few_steps: also store the timesteps of this pipeline's `FewStepScheduler`, for which the LoRA was
                distilled. Loading it then sets the pipeline to these steps and no guidance.

        Raises:
            ValueError: the name is unknown, or missing with several LoRAs; or the file exists and `overwrite` is
                False.
        """
        known = self._adapter_names()
        if adapter_name is None and len(known) != 1:
            raise ValueError(f"adapter_name must be one of the loaded LoRAs: {', '.join(known) or 'none'}")
        name = known[0] if adapter_name is None else self._known(adapter_name)[0]
        path = Path(save_directory) / LORA_FILE
        if path.exists() and not overwrite:
            raise ValueError(f"{path} already exists; choose another folder, or pass overwrite=True")
        tensors: dict[str, Tensor] = {}
        header: dict[str, Any] = {}
        for part in NETWORKS:
            network = getattr(self, part)
            if name in getattr(network, "peft_config", {}):
                state = get_peft_model_state_dict(network, adapter_name=name)
                tensors |= {f"{part}.{key}": value.contiguous() for key, value in state.items()}
                header |= settings(network.peft_config[name], part, state)
        metadata = {"format": "pt", ADAPTER_METADATA: json.dumps(header)}
        if few_steps:
            metadata |= few_step_header(self.scheduler)
        with whole_file(path, overwrite=overwrite) as hidden:
            save_file(tensors, hidden, metadata=metadata)
        return path

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the pipeline. Raises ValueError while LoRAs are loaded; a pipeline folder cannot contain them."""
        if self._adapter_names():
            raise ValueError(
                f"LoRAs are loaded ({', '.join(self._adapter_names())}); call unload_lora_weights() to save the model"
                " without them, fuse_lora() first to save it with them, or save_lora(...) to save one of them"
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    def _check_not_fused(self, what: str, parts: Sequence[str]) -> None:
        if any(layer.merged for layer in self._lora_layers(parts)):
            raise ValueError(f"cannot {what}: LoRAs are fused into the weights; call unfuse_lora() first")

    def _check_changeable(self, what: str, parts: Sequence[str] = NETWORKS) -> None:
        self._check_not_fused(what, parts)
        for part in parts:
            modules = list(getattr(self, part).modules())
            # The hooks of layers that are offloaded one by one do not move a LoRA that is added later.
            if any(p.is_meta for p in getattr(self, part).parameters()) or any(
                hasattr(module, "_diffusers_hook") for module in modules
            ):
                raise ValueError(
                    f"cannot {what}: the layers of the {part} are offloaded one by one; load LoRAs before enabling"
                    " sequential or group offloading"
                )

    def _check_loaded(self, what: str) -> None:
        if not self._adapter_names():
            raise ValueError(f"cannot {what}: no LoRA is loaded; load one with load_lora_weights(...) first")

    def _known(self, adapter_names: str | Sequence[str]) -> list[str]:
        names, known = (
            [adapter_names] if isinstance(adapter_names, str) else list(adapter_names),
            self._adapter_names(),
        )
        for name in names:
            if name not in known:
                raise ValueError(f"no LoRA is named {name!r}; loaded are {', '.join(known) or 'none'}")
        return names

    def _free_name(self, given: str | None) -> str:
        known = self._adapter_names()
        name = given
        if name is None:
            name = next(f"default_{n}" for n in range(len(known) + 1) if f"default_{n}" not in known)
        if name in known:
            raise ValueError(
                f"a LoRA named {name!r} is already loaded; choose another adapter_name, or call delete_adapters first"
            )
        if not name or "." in name:
            raise ValueError(f"adapter_name must not be empty or contain dots, but is {name!r}")
        return name

    def _adapter_names(self) -> list[str]:
        """Return the names of all loaded LoRAs, in the order of loading."""
        return list(dict.fromkeys(name for names in self.get_list_adapters().values() for name in names))

    def _check_biases(self, parts: Sequence[str]) -> None:
        for layer in self._lora_layers(parts):
            biased = [name for name in layer.active_adapters if layer.lora_bias.get(name)]
            if biased and layer.get_base_layer().bias is None:
                raise ValueError(f"the LoRA {biased[0]!r} has a bias for a layer without one, so it cannot be fused")

    def _lora_layers(self, parts: Sequence[str] = NETWORKS) -> Iterator[Any]:
        for part in parts:
            yield from tuners(getattr(self, part)).values()


def _checked_components(components: Sequence[str]) -> list[str]:
    if isinstance(components, str) or not components or not set(components) <= set(NETWORKS):
        raise ValueError(f"components must be a list of {' and '.join(map(repr, NETWORKS))}, but is {components!r}")
    return list(components)
