"""The prompts of a call: texts, or embeddings in their place, one per video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videocrafter.pipelines.plain_numbers import listed
from videocrafter.pipelines.settings import per_video

Prompts = str | Sequence[str]
"""One prompt, or a list of them (also an array or a pandas column)."""


@dataclass(frozen=True, kw_only=True)
class PromptInputs:
    """Prompts of N videos, all videos of the first prompt first.

    Attributes:
        num_prompts: prompts before they are repeated for several videos each.
        prompts, negative_prompts: texts; empty strings where embeddings are given.
        prompt_embeds, negative_prompt_embeds: [N, L, D] text tokens, or None to encode the texts.
    """

    num_prompts: int
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None


def check_prompts(
    prompt: Prompts | None,
    negative_prompt: Prompts | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
    *,
    num_videos_per_prompt: int,
    default_negative_prompt: str,
    shape: tuple[int, int],
) -> PromptInputs:
    """Check the prompts of a call and repeat them for every video.

    Args:
        prompt, negative_prompt, prompt_embeds, negative_prompt_embeds: arguments of the call.
        num_videos_per_prompt: repetitions.
        default_negative_prompt: used if neither of the negative ones is given.
        shape: (L, D) of the text encoder's tokens.

    Raises:
        ValueError: text and embeddings together, neither of them, or a wrong number, type or shape.
    """
    if (prompt is None) == (prompt_embeds is None):
        given = "neither is given" if prompt is None else "both are given"
        raise ValueError(f"pass either prompt or prompt_embeds, but {given}")
    if negative_prompt is not None and negative_prompt_embeds is not None:
        raise ValueError("pass either negative_prompt or negative_prompt_embeds, but both are given")
    if prompt_embeds is not None:
        _check_embeds("prompt_embeds", prompt_embeds, shape[1])
        texts: list[Any] = [""] * len(prompt_embeds)
    else:
        texts = [prompt] if isinstance(prompt, str) else listed(prompt)
        if not isinstance(texts, list):
            raise ValueError(f"prompt must be a string or a list of strings, but is {prompt!r}")
    if not texts:
        raise ValueError('prompt is an empty list; pass a string, or a list of at least one ("" is allowed)')
    length = shape[0] if prompt_embeds is None else prompt_embeds.shape[1]
    negatives = default_negative_prompt if negative_prompt is None else negative_prompt
    if negative_prompt_embeds is not None:
        _check_embeds("negative_prompt_embeds", negative_prompt_embeds, shape[1])
        if len(negative_prompt_embeds) not in (1, len(texts)):
            raise ValueError(
                f"negative_prompt_embeds has {len(negative_prompt_embeds)} rows for {len(texts)} prompts; pass one,"
                " or one per prompt"
            )
        negative_prompt_embeds = negative_prompt_embeds.expand(len(texts), -1, -1)
        negatives = ""
    other_length = shape[0] if negative_prompt_embeds is None else negative_prompt_embeds.shape[1]
    if length != other_length:
        raise ValueError(
            f"the prompts have {length} tokens and the negative prompts {other_length}; pass prompt_embeds and"
            f" negative_prompt_embeds of one length (encode_prompt returns {shape[0]} tokens)"
        )
    counts = (len(texts), num_videos_per_prompt)
    return PromptInputs(
        num_prompts=len(texts),
        prompts=tuple(per_video(texts, "prompt", *counts, str)),
        negative_prompts=tuple(per_video(listed(negatives), "negative_prompt", *counts, str)),
        prompt_embeds=_repeated(prompt_embeds, num_videos_per_prompt),
        negative_prompt_embeds=_repeated(negative_prompt_embeds, num_videos_per_prompt),
    )


def _check_embeds(name: str, embeds: Any, width: int) -> None:
    if (
        not isinstance(embeds, Tensor)
        or not embeds.is_floating_point()
        or embeds.ndim != 3
        or embeds.shape[2] != width
        or 0 in embeds.shape
    ):
        given = f"{embeds.dtype} {list(embeds.shape)}" if isinstance(embeds, Tensor) else type(embeds).__name__
        raise ValueError(f"{name} must be a float tensor [prompts, tokens, {width}], but is {given}")


def _repeated(embeds: Tensor | None, times: int) -> Tensor | None:
    return None if embeds is None else torch.repeat_interleave(embeds, times, dim=0)
