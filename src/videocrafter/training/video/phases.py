"""The trainable parameters of each phase of the video network's training (paper §3.1 and §3.2)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Phase = Literal["images", "text_to_video", "temporal_only", "image_alignment", "image_mapping", "image_to_video"]

IMAGE_PHASES: tuple[Phase, ...] = ("image_alignment", "image_mapping", "image_to_video")
"""Phases that need an image branch."""

_TEXT_MAPPING = ("cross_attention.to_k.", "cross_attention.to_v.")
_TEMPORAL = ("temporal", "temporal_in", "fps_embedding", "frame_text_embedding")
_IMAGE_MAPPING = ("cross_attention.to_k_image.", "cross_attention.to_v_image.")


def choose_trained(network: nn.Module, projector: nn.Module | None, phase: Phase) -> None:
    """Set `requires_grad` of every parameter.

    Args:
        network: the video network.
        projector: the image projector, where there is one.
        phase: "images" trains the layers that single images use; "text_to_video" the whole network; "temporal_only"
            the layers that only clips use: the temporal layers and the fps embedding; "image_alignment" the projector
            alone; "image_mapping" the projector and W'k, W'v; "image_to_video" all of the network but the mappings of
            text and image.
    """
    for name, parameter in network.named_parameters():
        is_image_mapping = any(part in name for part in _IMAGE_MAPPING)
        is_text_mapping = any(part in name for part in _TEXT_MAPPING)
        is_temporal = any(part in _TEMPORAL for part in name.split("."))
        if phase == "images":
            trainable = not is_temporal
        elif phase == "text_to_video":
            trainable = True
        elif phase == "temporal_only":
            trainable = is_temporal
        elif phase == "image_alignment":
            trainable = False
        elif phase == "image_mapping":
            trainable = is_image_mapping
        else:
            trainable = not (is_image_mapping or is_text_mapping)
        parameter.requires_grad_(trainable)
    if projector is not None:
        projector.requires_grad_(phase in ("image_alignment", "image_mapping"))


def network_input(noisy: Tensor, phase: Phase) -> Tensor:
    """Return noisy latents, created by the caller, as the network takes them for training in a phase.

    On CPUs, torch 2.13 crashes in the backward pass of a trainable group norm whose input is channels_last and needs
    no gradient. The first trainable layer of "temporal_only" has such a norm, so its input gets a gradient.
    """
    return noisy.requires_grad_() if phase == "temporal_only" else noisy
