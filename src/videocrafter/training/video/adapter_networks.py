"""The networks of distilling into a LoRA: three states of one frozen network.

Without a LoRA the network is the teacher; with the first it is the student, with the second the fake score. Whole
copies of a network of a billion parameters would not fit on one GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videocrafter.models.unet import VideoUNet
from videocrafter.presets import LORA_FILE
from videocrafter.training.video.lora import LORA_NAME, LoraTraining, add_lora
from videocrafter.training.video.student_networks import WeightAverage, call_network
from videocrafter.training.video.work import Checkpoint

FAKE_NAME = "fake_score"
"""Name of the fake score's LoRA; the student's has the usual name."""


class AdapterNetworks:
    """Student, teacher and fake score as LoRAs on one frozen network.

    Args:
        network: with the student's LoRA, by `add_lora`.
        with_fake: settings of a LoRA to add for the fake score, zero at first; None for none.
    """

    def __init__(self, network: VideoUNet, *, with_fake: LoraTraining | None) -> None:
        self._network = network
        if with_fake is not None:
            add_lora(network, with_fake, FAKE_NAME)
        self._layers = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
        self._activate(LORA_NAME)
        self._now: str | None = LORA_NAME
        for name, parameter in network.named_parameters():
            # Activating one LoRA in peft's way freezes the others.
            parameter.requires_grad_(".lora_" in name)
        if network.is_gradient_checkpointing:
            network.enable_gradient_checkpointing(self.checkpointed(partial(checkpoint, use_reentrant=False)))

    def student(self, *inputs: Any) -> Tensor:
        """Call the student."""
        return call_network(self._network, *inputs)

    def teacher(self, *inputs: Any) -> Tensor:
        """Call the network without LoRA."""
        with self._using(None):
            return call_network(self._network, *inputs)

    def fake(self, *inputs: Any) -> Tensor:
        """Call the fake score."""
        with self._using(FAKE_NAME):
            return call_network(self._network, *inputs)

    def modules(self) -> Mapping[str, nn.Module]:
        """None: all of them are in the student's network."""
        return {}

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters of the student's LoRA by name."""
        return {name: one for name, one in self._network.named_parameters() if f".{LORA_NAME}." in name}

    def averaged(self, average: WeightAverage, *inputs: Any) -> Tensor:
        """Call the student with an averaged LoRA."""
        return call_network(self._network, *inputs, parameters=average.values())

    @contextmanager
    def _using(self, name: str | None) -> Iterator[None]:
        """Within the context, this LoRA alone is active; None for none. The student's is active otherwise."""
        before, self._now = self._now, name
        self._activate(name)
        try:
            yield
        finally:
            self._now = before
            self._activate(before)

    def _activate(self, name: str | None) -> None:
        # Not by peft's methods, which also change what is trained.
        for layer in self._layers:
            layer._disable_adapters = name is None
            layer._active_adapter = [] if name is None else [name]

    def checkpointed(self, function: Checkpoint) -> Checkpoint:
        """Return a function for gradient checkpointing that recomputes a layer with the LoRA of its forward pass."""

        def with_its_lora(layer: Any, *inputs: Any) -> Any:
            name = self._now

            def computed(*given: Any) -> Any:
                with self._using(name):
                    return layer(*given)

            return function(computed, *inputs)

        return with_its_lora


def load_student(network: VideoUNet, folder: Path) -> None:
    """Set the student's LoRA to one that an earlier stage left in a folder.

    Raises:
        ValueError: it does not have the same layers.
    """
    tensors = {name.removeprefix("unet."): value for name, value in load_file(folder / LORA_FILE).items()}
    own = {name.replace(f".{LORA_NAME}.", ".") for name, _ in network.named_parameters() if f".{LORA_NAME}." in name}
    if set(tensors) != own:
        raise ValueError(
            f"the LoRA in {folder} has {len(tensors)} tensors, but task.lora describes one with {len(own)}; give all "
            "stages the same task.lora"
        )
    try:
        set_peft_model_state_dict(network, tensors, adapter_name=LORA_NAME)
    except RuntimeError as error:
        raise ValueError(
            f"the LoRA in {folder} has another size than task.lora; give all stages the same task.lora ({error})"
        ) from error
