"""Check and tidy captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

# Longer captions are cut off by the text encoder, which reads 77 tokens with its start and end.
MAX_TOKENS = 75
_FEWEST_WORDS = 3
_MOST_REPEATS = 3
# A caption of more than this share of the clips says nothing about any of them.
_BOILERPLATE_SHARE = 0.001
_FEWEST_EQUAL = 5

_OPENING = re.compile(
    r"^(?:sure[,!.:]?\s+|here (?:is|are) [^:]{0,60}:\s*)?"
    r"(?:(?:in|throughout) (?:this|the) (?:short )?(?:video|clip|footage|sequence)(?: clip)?,?\s+"
    r"(?:there (?:is|are)\s+|we (?:can )?see\s+)?|"
    r"(?:this|the|these|a) (?:short )?(?:video|clip|footage|sequence|scene|images?|pictures?|frames?)"
    r"(?: clip| sequence)?\s+"
    r"(?:shows?|depicts?|features?|captures?|displays?|presents?|portrays?|is of|are of)\s+|"
    r"we (?:can )?see\s+|there (?:is|are)\s+)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?://|www\.|\b[\w-]+\.(?:com|org|net)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable)|as an ai|i can(?:not|'t) (?:see|view|help|provide|describe))", re.IGNORECASE
)
# CLIP's tokenizer begins with these parts: letters, single digits, runs of other signs.
_TOKENS = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_", re.UNICODE)
_LETTERS_PER_TOKEN = 10


def tidy(text: str) -> str:
    """Return a model's caption on one line, without quotation marks and openings such as "The video shows"."""
    text = " ".join(text.split()).strip("\"'“”*` ")
    stripped = _OPENING.sub("", text)
    return stripped[:1].upper() + stripped[1:] if stripped != text else text


def count_tokens(text: str) -> int:
    """Return about as many tokens as CLIP's tokenizer makes; long words have several."""
    return sum(
        1 + (len(part) - 1) // _LETTERS_PER_TOKEN if part[0].isalpha() else 1 for part in _TOKENS.findall(text)
    )


def problems(text: str, *, max_tokens: int = MAX_TOKENS) -> list[str]:
    """Return what is wrong with a caption: some of empty, address, refusal, short, repeated, long."""
    words = text.lower().split()
    if not words:
        return ["empty"]
    found = []
    if _ADDRESS.search(text):
        found.append("address")
    if _REFUSAL.search(text):
        found.append("refusal")
    if len(words) < _FEWEST_WORDS:
        found.append("short")
    if _repeats(words) > _MOST_REPEATS:
        found.append("repeated")
    if count_tokens(text) > max_tokens:
        found.append("long")
    return found


def boilerplate(captions: Iterable[str]) -> Mapping[str, int]:
    """Return the captions that too many clips share, with their number."""
    counts = Counter(caption for caption in captions if caption)
    least = max(_FEWEST_EQUAL, _BOILERPLATE_SHARE * counts.total())
    return {caption: count for caption, count in counts.items() if count > least}


def _repeats(words: list[str]) -> int:
    """Return how often a word or a group of up to four words follows itself."""
    most = 1
    for size in range(1, 5):
        for start in range(size):
            groups = [tuple(words[i : i + size]) for i in range(start, len(words) - size + 1, size)]
            run = 1
            for before, now in pairwise(groups):
                run = run + 1 if before == now else 1
                most = max(most, run)
    return most
