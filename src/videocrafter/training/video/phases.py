"""What learns in each phase of the video network's training (paper §3.1 and §3.2)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Phase = Literal["text_to_video", "temporal_only", "image_alignment", "image_mapping", "image_to_video"]

_TEXT_MAPPING = ("cross_attention.to_k.", "cross_attention.to_v.")
_TEMPORAL = ("temporal", "temporal_in", "fps_embedding", "frame_text_embedding")
_IMAGE_MAPPING = ("cross_attention.to_k_image.", "cross_attention.to_v_image.")


def choose_trained(network: nn.Module, projector: nn.Module | None, phase: Phase) -> None:
    """Set `requires_grad` of every parameter.

    Args:
        network: the video network.
        projector: the image projector, where there is one.
        phase: "text_to_video" trains the whole network; "temporal_only" what only clips use:
            the temporal layers and the fps embedding; "image_alignment" the projector alone; "image_mapping" the
            projector and W'k, W'v; "image_to_video" all of the network but the mappings of text and image.
    """
    for name, parameter in network.named_parameters():
        is_image_mapping = any(part in name for part in _IMAGE_MAPPING)
        is_text_mapping = any(part in name for part in _TEXT_MAPPING)
        if phase == "text_to_video":
            learns = True
        elif phase == "temporal_only":
            learns = any(part in _TEMPORAL for part in name.split("."))
        elif phase == "image_alignment":
            learns = False
        elif phase == "image_mapping":
            learns = is_image_mapping
        else:
            learns = not (is_image_mapping or is_text_mapping)
        parameter.requires_grad_(learns)
    if projector is not None:
        projector.requires_grad_(phase in ("image_alignment", "image_mapping"))


def network_input(noisy: Tensor, phase: Phase) -> Tensor:
    """Noisy latents, made here, as the network takes them for training in a phase.

    On CPUs torch (2.13) crashes in the backward pass of a group norm that learns while its input needs no gradient
    and lies channels_last. In "temporal_only" the first layer that learns has such a norm.
    """
    return noisy.requires_grad_() if phase == "temporal_only" else noisy
