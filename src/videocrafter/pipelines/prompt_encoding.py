"""Encode prompts to the text tokens that the network attends to, inside a call and by `encode_prompt`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from videocrafter.models.text_encoder import encode_text
from videocrafter.pipelines.plain_numbers import whole_number
from videocrafter.pipelines.prompt_inputs import Prompts, check_prompts
from videocrafter.pipelines.settings import VideoRequest


class PromptEncodingMixin:
    """Mixin for a pipeline with `text_encoder`, `tokenizer` and `unet`."""

    text_encoder: Any
    tokenizer: Any
    unet: Any
    generation_defaults: Any
    _execution_device: Any

    @property
    def text_token_shape(self) -> tuple[int, int]:
        """Number of text tokens per prompt, and their width."""
        return self.text_encoder.config.max_position_embeddings, self.unet.config["context_dim"]

    def encode_prompt(
        self,
        prompt: Prompts | None,
        device: torch.device | str | None = None,
        num_videos_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: Prompts | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return text tokens [N, L, D] of prompts and of negative prompts, for the arguments of the same names.

        Args:
            prompt, negative_prompt: one, or a list; a negative prompt of None is the recommended one.
            device: of the result; None means the device that the pipeline runs on.
            num_videos_per_prompt: the rows of a prompt are repeated so often.
            do_classifier_free_guidance: False returns None in place of the negative tokens.
            prompt_embeds, negative_prompt_embeds: tokens in place of the texts; they are only repeated.

        Raises ValueError for a wrong number, type or shape.
        """
        inputs = check_prompts(
            prompt,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            num_videos_per_prompt=whole_number("num_videos_per_prompt", num_videos_per_prompt),
            default_negative_prompt=self.generation_defaults.negative_prompt,
            shape=self.text_token_shape,
        )
        target = self._execution_device if device is None else device
        with torch.no_grad():
            positive = self._tokens(inputs.prompts, inputs.prompt_embeds).to(target)
            if not do_classifier_free_guidance:
                return positive, None
            return positive, self._tokens(inputs.negative_prompts, inputs.negative_prompt_embeds).to(target)

    def encode_branches(self, request: VideoRequest) -> tuple[Tensor, Tensor | None]:
        """Return text tokens [N, L, D] of both branches of a request; the second is None without guidance."""
        conditional = self._tokens(request.prompts, request.prompt_embeds)
        if not request.sampling.needs_unconditional:
            return conditional, None
        return conditional, self._tokens(request.negative_prompts, request.negative_prompt_embeds)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return text tokens [N, L, D] in the network's precision; equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        # One prompt at a time, so that a prompt's tokens do not depend on the other prompts, not even by rounding.
        device, dtype = self._execution_device, self.unet.dtype
        tokens = {
            prompt: encode_text(self.tokenizer, self.text_encoder, [prompt], device)[0].to(dtype)
            for prompt in distinct
        }
        return torch.stack([tokens[prompt] for prompt in prompts])

    def _tokens(self, prompts: Sequence[str], embeds: Tensor | None) -> Tensor:
        if embeds is None:
            return self.encode_prompts(prompts)
        return embeds.to(device=self._execution_device, dtype=self.unet.dtype)
