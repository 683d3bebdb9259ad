"""Vocabulary of a small model, and notes about prompts outside it.

A model trained on a closed set of words stores them in its `model_index.json`. Other models store none and get no
notes. A note never stops a generation.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from videocrafter.pipelines.spelling import find_known

EMPTY_PROMPT_NOTE = "the prompt is empty, so the content is random"
_NUM_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Words that the model was trained on, by kind. An empty tuple means that they are not known."""

    subjects: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    speeds: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Knowledge:
        """Build from the `knowledge` entry of a `model_index.json`; wrong keys or values raise ValueError."""
        config = config or {}
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ValueError(f"unknown keys in a model's knowledge: {unknown}; allowed are {sorted(known)}")
        for key, words in config.items():
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                raise ValueError(f"{key} in a model's knowledge is {str(words)[:80]}; expected a list of words")
        return cls(**{key: tuple(words) for key, words in config.items()})

    def to_config(self) -> dict[str, list[str]]:
        """Return the JSON form, which `from_config` reads."""
        return {one.name: list(getattr(self, one.name)) for one in fields(self)}


def prompt_notes(
    prompt: str,
    knowledge: Knowledge,
    unknown: Sequence[str] = (),
    vocabulary: Collection[str] = (),
    *,
    needs_subject: bool = True,
) -> list[str]:
    """Return notes about a prompt, one line each: that it is empty, has unknown words, or has no known subject.

    Args:
        unknown: words of the prompt that the model's tokenizer does not know, in lower case.
        vocabulary: words that it knows.
        needs_subject: False if an image shows the subject.
    """
    if not prompt.strip():
        return [EMPTY_PROMPT_NOTE] if needs_subject else []
    if not knowledge.subjects:
        return []
    notes = []
    replacements = _replacements(_words(prompt), unknown, vocabulary, knowledge)
    if replacements:
        shown = [_with_hint(word, known) for word, known in list(replacements.items())[:_NUM_SHOWN]]
        shown += [f"{len(replacements) - _NUM_SHOWN} other words"] if len(replacements) > _NUM_SHOWN else []
        pronoun = "it" if len(replacements) == 1 else "them"
        notes.append(f"the model does not know {_listed(shown)} and ignores {pronoun}")
    meant = " ".join([prompt, *(known for one in replacements.values() for known in one)])
    if needs_subject and not _mentions_any(meant, knowledge.subjects):
        some, num_more = knowledge.subjects[:_NUM_SHOWN], len(knowledge.subjects) - _NUM_SHOWN
        more = [f"{num_more} more (`videocrafter models NAME` lists all)"] if num_more > 0 else []
        notes.append(f"the prompt names no subject that the model knows; it knows {_listed([*some, *more])}")
    return notes


def _replacements(
    words: Sequence[str], unknown: Sequence[str], vocabulary: Collection[str], knowledge: Knowledge
) -> dict[str, list[str]]:
    """Return what to write instead of each unknown word, or of two words that are one; an empty list if unknown."""
    names = {part for name in (*knowledge.subjects, *knowledge.scenes) for part in _words(name)}
    found: dict[str, list[str]] = {}
    remaining = dict.fromkeys(unknown)
    following = list(itertools.pairwise(words))
    for first, second in following:
        if first + second in vocabulary and (first in remaining or second in remaining):
            found[f"{first} {second}"] = [first + second]
            remaining.pop(first, None)
            remaining.pop(second, None)
    for word in remaining:
        known = find_known(word, vocabulary, names)
        # "violet wall" is like other walls.
        ends = {f" {second}" for first, second in following if first == word}
        found[word] = (
            [scene for scene in knowledge.scenes if scene.endswith(tuple(ends))] if known is None else [known]
        )
    return found


def _with_hint(word: str, known: Sequence[str]) -> str:
    return f"{word!r} (did you mean {' or '.join(map(repr, known))}?)" if known else repr(word)


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def _mentions_any(prompt: str, names: Sequence[str]) -> bool:
    text = f" {' '.join(_words(prompt))} "
    return any(f" {' '.join(_words(name))} " in text for name in names)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())
