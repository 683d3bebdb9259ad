"""Vocabulary of a small model, and notes about prompts outside it.

A model trained on a closed set of words stores them in its `model_index.json`. Other models store none and get no
notes. A note never stops a generation.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

EMPTY_PROMPT_NOTE = "the prompt is empty, so the content is random"
_NUM_SUGGESTIONS = 5


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


def prompt_notes(prompt: str, knowledge: Knowledge) -> list[str]:
    """Return notes about a prompt, one line each: that it is empty, or that its subject is unknown."""
    if not prompt.strip():
        return [EMPTY_PROMPT_NOTE]
    if not knowledge.subjects or _mentions_any(prompt, knowledge.subjects):
        return []
    close = close_subjects(prompt, knowledge)
    if close:
        return [f"the model was not trained on any subject of {prompt!r}; the closest: {', '.join(close)}"]
    some = ", ".join(_plain(name) for name in knowledge.subjects[:_NUM_SUGGESTIONS])
    more = ", …" if len(knowledge.subjects) > _NUM_SUGGESTIONS else ""
    return [
        f"the model was not trained on any subject of {prompt!r}; it knows {some}{more} (see: videocrafter models)"
    ]


def close_subjects(prompt: str, knowledge: Knowledge) -> list[str]:
    """Return known subjects whose spelling is close to one or two adjacent words of the prompt; best first."""
    names = [_plain(name) for name in knowledge.subjects]
    other_names = {word for name in (*knowledge.scenes, *knowledge.motions) for word in _words(name)}
    words = [word for word in _words(prompt) if word not in other_names and len(word) > 2]
    phrases = [*words, *(" ".join(pair) for pair in itertools.pairwise(words))]
    scored: dict[str, float] = {}
    for phrase in phrases:
        for name in difflib.get_close_matches(phrase, names, n=_NUM_SUGGESTIONS, cutoff=0.65):
            ratio = difflib.SequenceMatcher(None, phrase, name).ratio()
            scored[name] = max(ratio, scored.get(name, 0.0))
        for name in names:
            # "sports car" is close to "car" although their spellings differ in length.
            if len(words) and phrase in _words(name):
                scored[name] = max(0.9, scored.get(name, 0.0))
    return sorted(scored, key=lambda name: -scored[name])[:_NUM_SUGGESTIONS]


def _mentions_any(prompt: str, names: Sequence[str]) -> bool:
    text = " ".join(_words(prompt))
    return any(re.search(rf"\b{re.escape(_plain(name))}(s|es)?\b", text) for name in names)


def _plain(name: str) -> str:
    return " ".join(_words(name))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
