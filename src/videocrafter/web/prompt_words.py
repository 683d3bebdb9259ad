"""The words of a model's vocabulary as they stand in a prompt, for the page's buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from videocrafter.data.sprite_world.captions import MOTION_PHRASES, SCENE_PHRASES, SPEED_PHRASES


def prompt_words(knowledge: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return phrases by kind, for the `knowledge` of a `model_index.json`; unknown words stay as they are."""
    speeds = {speed: (phrases[0].replace("{}", "").strip(),) for speed, phrases in SPEED_PHRASES.items()}
    subjects = {word: (f"{_article(word)} {word}",) for word in knowledge.get("subjects", ())}
    phrases: dict[str, Mapping[str, Sequence[str]]] = {
        "subjects": subjects,
        "motions": MOTION_PHRASES,
        "speeds": speeds,
        "scenes": SCENE_PHRASES,
    }
    found = {
        kind: [known.get(word, (word,))[0] for word in knowledge.get(kind, ())] for kind, known in phrases.items()
    }
    return {kind: [word for word in words if word] for kind, words in found.items()}


def _article(word: str) -> str:
    return "an" if word[:1] in "aeiou" else "a"
