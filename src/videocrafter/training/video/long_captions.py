"""Count captions that are longer than the text encoder, whose end has no effect in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import CLIPTextModel, PreTrainedTokenizerBase

from videocrafter.models.text_encoder import num_readable_tokens, unread_texts

_MOST_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class LongCaptions:
    """Counts of captions; sums of them are counts, too.

    Attributes:
        encoded: captions that were encoded.
        long: those of them that are longer than the text encoder.
        limit: tokens of a caption that the encoder reads; 0 before the first caption.
        example: the end of a long caption that the encoder does not read.
    """

    encoded: int = 0
    long: int = 0
    limit: int = 0
    example: str = ""

    @classmethod
    def among(
        cls, captions: Sequence[str], tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel
    ) -> LongCaptions:
        """Count captions. Empty ones are not counted, since dropped captions are empty."""
        counted = [caption for caption in captions if caption]
        if not counted:
            return cls()
        unread = [text for text in unread_texts(tokenizer, text_encoder, counted) if text]
        return cls(
            encoded=len(counted),
            long=len(unread),
            limit=num_readable_tokens(tokenizer, text_encoder),
            example=unread[0] if unread else "",
        )

    def __add__(self, other: LongCaptions) -> LongCaptions:
        return LongCaptions(
            encoded=self.encoded + other.encoded,
            long=self.long + other.long,
            limit=max(self.limit, other.limit),
            example=self.example or other.example,
        )

    def note(self) -> str | None:
        """Return one line about the long captions; None if there are none."""
        if not self.long:
            return None
        text = " ".join(self.example.split())
        shown = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
        return (
            f"{self.long} of {self.encoded} encoded captions are longer than the {self.limit} tokens that the text"
            f" encoder reads; their end has no effect, such as {shown!r}"
        )
