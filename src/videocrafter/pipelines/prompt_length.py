"""Notes about prompts that are longer than the text encoder, whose end has no effect."""

from __future__ import annotations

import logging
from typing import Any

from videocrafter.models.text_encoder import num_readable_tokens, unread_texts
from videocrafter.pipelines.settings import VideoRequest

_LOG = logging.getLogger(__name__)
_MOST_CHARACTERS = 100


def length_note(tokenizer: Any, text_encoder: Any, prompt: str, what: str = "prompt") -> str | None:
    """Return a note that names the words of a prompt that the text encoder does not read; None if it reads all.

    Args:
        what: term for the text, such as "negative prompt".
    """
    (unread,) = unread_texts(tokenizer, text_encoder, [prompt])
    if not unread:
        return None
    text = " ".join(unread.split())
    shown = repr(text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…")
    limit = num_readable_tokens(tokenizer, text_encoder)
    return (
        f"the {what} is too long: the model reads {limit} tokens (words or parts of words), and the rest has no"
        f" effect: {shown}"
    )


def warn_about_length(pipeline: Any, request: VideoRequest) -> None:
    """Log a warning for each prompt and negative prompt of a request whose end has no effect."""
    texts = dict.fromkeys((prompt, "prompt") for prompt in request.prompts if request.prompt_embeds is None)
    if request.sampling.needs_unconditional:
        texts |= dict.fromkeys((prompt, "negative prompt") for prompt in request.negative_prompts)
    for prompt, what in texts:
        note = length_note(pipeline.tokenizer, pipeline.text_encoder, prompt, what)
        if note is not None:
            _LOG.warning(note)
