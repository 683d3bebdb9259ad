"""Recognise a prompt whose quotes were forgotten on the command line, and text that is not UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

_WORDS_IN_SENTENCES = ("a", "an", "the", "of", "in", "on", "over", "at", "with", "and", "is", "are", "to", "through")
"""Words that nobody uses as a whole prompt."""


def check_quotes(prompts: Sequence[str]) -> None:
    """Raise ValueError if a sentence was given without quotes, which makes every word a prompt of its own."""
    if splits_sentence(prompts) and any(word.lower() in _WORDS_IN_SENTENCES for word in prompts):
        raise ValueError(f'the prompt was split into {len(prompts)} words; put it in quotes: "{" ".join(prompts)}"')


def splits_sentence(prompts: Sequence[str]) -> bool:
    """Return whether several prompts have one word each, as if the quotes around a sentence were missing."""
    return len(prompts) > 1 and all(len(prompt.split()) == 1 for prompt in prompts)


def clean_text(text: str) -> str:
    """Replace bytes of a command-line argument that are not valid UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
