"""LoRAs of a pipeline: load, set weights, fuse, unload and save, through peft."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from videocrafter.checkpoints.lora.lora_file import ADAPTER_METADATA, LoraLayer, read_lora
from videocrafter.checkpoints.lora.target_layers import NETWORKS, fit_lora
from videocrafter.media.atomic_write import whole_file
from videocrafter.presets import LORA_FILE


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


class VideoLoraMixin(StableDiffusionLoraLoaderMixin):
    """LoRA support for a pipeline with a VideoUNet and a text encoder; method names are those of diffusers.

    diffusers also provides `disable_lora`, `enable_lora`, `get_active_adapters` and `get_list_adapters`. Unloading
    after fusing keeps the fused weights: to save a model with a LoRA in it, fuse, unload, then call
    `save_pretrained`.
    """

    unet: Any
    text_encoder: Any

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, Tensor],
        adapter_name: str | None = None,
    ) -> LoadedLora:
        """Load a LoRA for VideoUNet or for Stable Diffusion 2 and activate it at weight 1, next to the active ones.

        Args:
            pretrained_model_name_or_path_or_dict: a file, a folder that contains one, or a state dict; in diffusers'
                layout, old or new, or in kohya's.
            adapter_name: name for `set_adapters`; None selects `default_0`, `default_1`, …

        Raises:
            ValueError: the source is not a LoRA or is for another model; the name is taken or invalid; or the
                networks are fused or offloaded layer by layer.
        """
        self._check_changeable("load a LoRA")
        name = self._free_name(adapter_name)
        lora = read_lora(pretrained_model_name_or_path_or_dict)
        networks = {part: getattr(self, part) for part in NETWORKS}
        fitted = fit_lora(lora, self.unet.config, {part: _shapes(network) for part, network in networks.items()})
        for part, layers in fitted.layers.items():
            _add_adapter(networks[part], layers, name)
        return LoadedLora(
            adapter_name=name,
            num_layers={part: len(layers) for part, layers in fitted.layers.items()},
            note=fitted.note,
        )

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None
    ) -> None:
        """Activate these LoRAs, each with its weight (1 if None), and deactivate all others.

        Raises ValueError for an unknown name, a number of weights that differs from that of names, or fused networks.
        """
        self._check_changeable("set adapters")
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._check_known(names)
        if adapter_weights is None or isinstance(adapter_weights, (int, float)):
            weights = [1.0 if adapter_weights is None else adapter_weights] * len(names)
        else:
            weights = list(adapter_weights)
        if len(weights) != len(names):
            raise ValueError(f"got {len(weights)} weights for {len(names)} LoRAs; pass one weight for each")
        super().set_adapters(names, weights)

    def fuse_lora(self, lora_scale: float = 1.0, *, safe_fusing: bool = False) -> None:
        """Add the active LoRAs, times `lora_scale`, to the weights, so that sampling is as fast as without them.

        Args:
            safe_fusing: raise an error if a weight would become NaN.

        Raises:
            ValueError: the networks are already fused, or no LoRA is loaded.
        """
        self._check_changeable("fuse")
        if not self._adapter_names():
            raise ValueError("no LoRA is loaded; load one with load_lora_weights(...) before fusing")
        # Fusing changes the scaling of the layers; `unfuse_lora` restores it.
        self._scales_before_fusing = [(layer, dict(layer.scaling)) for layer in self._lora_layers()]
        super().fuse_lora(list(NETWORKS), lora_scale, safe_fusing=safe_fusing)

    def unfuse_lora(self) -> None:
        """Subtract the LoRAs from the weights (exact up to rounding); they stay loaded and active."""
        super().unfuse_lora(list(NETWORKS))
        for layer, scaling in getattr(self, "_scales_before_fusing", []):
            layer.scaling.update(scaling)
        self._scales_before_fusing = []

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Remove LoRAs from memory. Raises ValueError for an unknown name, or fused networks."""
        self._check_changeable("delete a LoRA")
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._check_known(names)
        # peft would activate another LoRA in a layer that loses its last active one.
        active = [
            (layer, [one for one in layer.active_adapters if one not in names]) for layer in self._lora_layers()
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
            super().delete_adapters(names)
        for layer, kept in active:
            layer.set_adapter(kept)

    def unload_lora_weights(self) -> None:
        """Remove all LoRAs. Fused weights stay."""
        super().unload_lora_weights()
        self._scales_before_fusing = []

    def save_lora_weights(
        self, save_directory: str | os.PathLike[str], adapter_name: str | None = None, *, overwrite: bool = False
    ) -> Path:
        """Write one LoRA as `pytorch_lora_weights.safetensors` in diffusers' layout; return the file.

        Keys are `unet.LAYER.lora_A.weight` and so on, with the layer names of VideoUNet, whatever layout the LoRA was
        loaded from. As in diffusers, alpha is stored in the header.

        Args:
            save_directory: created if it does not exist.
            adapter_name: may be None if only one LoRA is loaded.

        Raises:
            ValueError: the name is unknown, or missing with several LoRAs; or the file exists and `overwrite` is
                False.
        """
        known = self._adapter_names()
        if adapter_name is None and len(known) != 1:
            raise ValueError(f"adapter_name must be one of the loaded LoRAs: {', '.join(known) or 'none'}")
        name = known[0] if adapter_name is None else adapter_name
        self._check_known([name])
        path = Path(save_directory) / LORA_FILE
        if path.exists() and not overwrite:
            raise ValueError(f"{path} already exists; choose another folder, or pass overwrite=True")
        tensors: dict[str, Tensor] = {}
        settings: dict[str, Any] = {}
        for part in NETWORKS:
            network = getattr(self, part)
            if name in getattr(network, "peft_config", {}):
                state = get_peft_model_state_dict(network, adapter_name=name)
                tensors |= {f"{part}.{key}": value.contiguous() for key, value in state.items()}
                settings |= _settings(network.peft_config[name], part, state)
        with whole_file(path, overwrite=overwrite) as hidden:
            save_file(tensors, hidden, metadata={"format": "pt", ADAPTER_METADATA: json.dumps(settings)})
        return path

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the pipeline. Raises ValueError while LoRAs are loaded; a pipeline folder cannot contain them."""
        if self._adapter_names():
            raise ValueError(
                f"LoRAs are loaded ({', '.join(self._adapter_names())}); call unload_lora_weights() to save the model"
                " without them, fuse_lora() first to save it with them, or save_lora_weights(...) to save one of them"
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    def _check_changeable(self, what: str) -> None:
        if any(layer.merged for layer in self._lora_layers()):
            raise ValueError(f"cannot {what}: LoRAs are fused into the weights; call unfuse_lora() first")
        for part in NETWORKS:
            modules = list(getattr(self, part).modules())
            # The hooks of layers that are offloaded one by one do not move a LoRA that is added later.
            if any(p.is_meta for p in getattr(self, part).parameters()) or any(
                hasattr(module, "_diffusers_hook") for module in modules
            ):
                raise ValueError(
                    f"cannot {what}: the layers of the {part} are offloaded one by one; load LoRAs before enabling"
                    " sequential or group offloading"
                )

    def _check_known(self, names: Sequence[str]) -> None:
        known = self._adapter_names()
        for name in names:
            if name not in known:
                raise ValueError(f"no LoRA is named {name!r}; loaded are {', '.join(known) or 'none'}")

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

    def _lora_layers(self) -> Iterator[Any]:
        for part in NETWORKS:
            yield from _tuners(getattr(self, part))


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the weight shape of every linear layer and convolution, by its name without LoRAs."""
    return {
        name.removesuffix(".base_layer"): tuple(module.weight.shape)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and ".lora_" not in name
    }


def _add_adapter(network: Any, layers: Mapping[str, LoraLayer], name: str) -> None:
    """Add a LoRA to a network and activate it next to the active ones."""
    loaded = getattr(network, "peft_config", {})
    active = dict.fromkeys(one for layer in _tuners(network) for one in layer.active_adapters if one in loaded)
    rank = Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers.values()).most_common(1)[0][0]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # floats work too
        rank_pattern={_exactly(key): layer.rank for key, layer in layers.items() if layer.rank != rank},
        alpha_pattern={_exactly(key): layer.alpha for key, layer in layers.items() if layer.alpha != alpha},
        target_modules=sorted(layers),
        inference_mode=True,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        network.add_adapter(config, adapter_name=name)
    state: dict[str, Tensor] = {}
    for key, layer in layers.items():
        state |= {f"{key}.lora_A.weight": layer.down, f"{key}.lora_B.weight": layer.up}
    with torch.no_grad():
        result: Any = set_peft_model_state_dict(network, state, adapter_name=name)
    if result.unexpected_keys:
        raise RuntimeError(f"peft rejected {len(result.unexpected_keys)} of a LoRA's tensors")
    network.set_adapter([*active, name])


def _exactly(layer: str) -> str:
    """Return a peft pattern that matches this layer only."""
    return f"^{layer}"


def _tuners(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]


def _settings(config: LoraConfig, part: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of an adapter in the form of diffusers' header."""
    names = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")
    settings = {f"{part}.{name}": getattr(config, name) for name in names}
    return {**settings, f"{part}.target_modules": sorted({key.rpartition(".lora_")[0] for key in state})}
