"""The start of a stage that is planned: a pipeline as the configs of its parts, and its networks without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import nn

from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.model_folder import component_folder, read_model_index
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import MODEL_INDEX, PRESETS, SHIPPED_JUDGE, folder_hint
from videocrafter.training.video.meta_networks import META, NETWORK_PARTS, build_network, network_in
from videocrafter.training.video.starting_pipeline import AnyPipeline, load_start
from videocrafter.training.video.starting_weights import named_folder, part_folder

STABLE_DIFFUSION_START = "t2v-256"
"""The network that the paper's training starts from, initialised from Stable Diffusion 2.1."""
DISTILLED_START = "t2v-512"
"""The model that a plan of distillation assumes."""


class _OneToken:
    """Replaces a tokenizer: a prompt's length does not matter, because the text encoder pads it."""

    def __call__(self, prompts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0]] * len(prompts)}


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedStart:
    """A pipeline without weights; a `NetworkSource` of networks on the meta device.

    Attributes:
        described: for the user.
        networks: configs of the networks, by their names in a pipeline folder.
        scheduler: None if nothing reads it.
        settings: the other arguments of the pipeline: `defaults`, `knowledge`, `signal_scale`.
    """

    described: str
    networks: Mapping[str, Mapping[str, Any]]
    scheduler: SchedulerMixin | None = None
    settings: Mapping[str, Any]

    device = META

    @classmethod
    def of(cls, pipeline: AnyPipeline, described: str) -> PlannedStart:
        """Describe a pipeline by its configs."""
        parts = {part: network for part in NETWORK_PARTS if (network := getattr(pipeline, part, None)) is not None}
        return cls(
            described=described,
            networks={part: _config_of(network) for part, network in parts.items()},
            scheduler=pipeline.scheduler,
            settings={name: pipeline.config[name] for name in ("defaults", "knowledge", "signal_scale")},
        )

    def pipeline(self) -> AnyPipeline:
        """Build the pipeline, with new networks on the meta device."""
        parts: dict[str, Any] = {part: self.network(part) for part in self.networks}
        kind = ImageToVideoPipeline if self.has("image_projector") else TextToVideoPipeline
        return kind(**parts, tokenizer=self.tokenizer(), scheduler=self.scheduler, **self.settings)

    def has(self, part: str) -> bool:
        """Whether the pipeline has a network."""
        return part in self.networks

    def network(self, part: str, elsewhere: str | None = None) -> nn.Module:
        """Build a network, or the one that a folder elsewhere describes if the pipeline has none."""
        if part in self.networks or elsewhere is None:
            return build_network(part, self.networks[part])
        return network_in(part, part_folder(None, elsewhere, part))

    def tokenizer(self, elsewhere: str | None = None) -> Any:
        """Return a replacement of the tokenizer that returns one token per prompt."""
        return _OneToken()


NO_START = PlannedStart(described="nothing", networks={}, settings={})
"""The start of a stage that begins with new networks."""


def named_start(name: str) -> PlannedStart:
    """Return the start that a recipe's `init` names: a pipeline folder, or a model of `PRESETS`. Load no weights.

    Raises:
        ValueError: the name is neither, or a config is damaged; one line.
    """
    preset = PRESETS.get(name)
    model = official_variant(name)
    if preset is not None and model is not None:
        is_initialised = name == STABLE_DIFFUSION_START
        what = "the network initialised from Stable Diffusion 2.1" if is_initialised else preset.description
        configs = {part: getattr(model, part) for part in NETWORK_PARTS}
        return PlannedStart(
            described=f"{name}: {what}",
            networks={part: config for part, config in configs.items() if config is not None},
            scheduler=OfficialDDIMScheduler(signal_scale=1.0 if model.signal_scale is None else model.signal_scale),
            settings={"defaults": dict(preset.defaults), "knowledge": None, "signal_scale": model.signal_scale},
        )
    try:
        folder = named_folder(name)
    except ValueError as error:
        raise ValueError(f"init is {name!r}, but {error}") from error
    if folder == SHIPPED_JUDGE:
        return replace(NO_START, described="the shipped judge")
    if not (folder / MODEL_INDEX).is_file():
        hint = folder_hint(folder) or f"give a pipeline folder, a training run, or one of {', '.join(PRESETS)}"
        raise ValueError(f"init is {name!r}, which is neither a pipeline folder nor a model's name; {hint}")
    index = read_model_index(folder)
    parts = [part for part in NETWORK_PARTS if index.get(part, (None,))[0] is not None]
    networks = {part: network_in(part, component_folder(folder, part)) for part in parts}
    return PlannedStart.of(load_start(folder, networks), described=name)


def _config_of(network: nn.Module) -> Mapping[str, Any]:
    config = network.config
    found: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else dict(config)  # type: ignore[operator]
    return found
