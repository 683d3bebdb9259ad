"""Find the known word that an unknown one stands for: a synonym, another form, or a misspelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

_SYNONYMS = {
    "airplane": "plane aeroplane aircraft airliner jet",
    "car": "auto automobile vehicle taxi",
    "cat": "kitty kitten tomcat",
    "cactus": "cacti",
    "eggplant": "aubergine",
    "frog": "toad",
    "ghost": "phantom spectre specter spirit",
    "ladybug": "ladybird",
    "mushroom": "toadstool",
    "octopus": "octopi",
    "pig": "piglet hog swine",
    "robot": "android droid",
    "rocket": "spaceship spacecraft",
    "umbrella": "brolly parasol",
    "watermelon": "melon",
    "checkered floor": "chequered chessboard checkerboard",
    "city": "town",
    "desert": "dunes",
    "forest": "woods wood jungle",
    "green meadow": "grass lawn grassland",
    "ocean": "sea",
    "outer space": "cosmos universe",
    "sandy beach": "seaside shore",
    "snowy field": "snow",
    "sunset": "dusk sundown",
    "drifting": "floating gliding",
    "falling": "descending sinking dropping",
    "growing": "expanding enlarging",
    "jumping": "leaping",
    "rising": "ascending climbing",
    "spinning": "twirling revolving",
    "up": "upward upwards",
    "down": "downward downwards",
    "quickly": "swiftly speedily",
    "gray": "grey",
}
_KNOWN_AS = {word: known for known, words in _SYNONYMS.items() for word in words.split()}
_SHORT, _LONG = 4, 8
"""Longest word in which only doubled and swapped letters count as misspellings; shortest with two mistakes."""


def find_known(word: str, vocabulary: Collection[str], names: Collection[str]) -> str | None:
    """Return the known word or name that `word` most likely stands for, or None.

    Args:
        word: a lower-case word that is not in `vocabulary`.
        vocabulary: all words that the model knows.
        names: words that are worth guessing even if they are short, such as those of subjects. Among all others,
            only words of 6 letters or more are guessed from a misspelling.
    """
    plain = _without_accents(word)
    synonym = _KNOWN_AS.get(plain) or _KNOWN_AS.get(plain.removesuffix("s"))
    if synonym is not None and all(part in vocabulary for part in synonym.split()):
        return synonym
    for known in sorted(vocabulary):
        if plain == known or plain in _forms(known):
            return known
    candidates = sorted({*names, *(known for known in vocabulary if len(known) >= 6)})
    close = [(distance, known) for known in candidates if (distance := _mistakes(plain, known)) is not None]
    return min(close)[1] if close else None


def _without_accents(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def _forms(word: str) -> Iterable[str]:
    """Return the plurals of a noun, and the other forms of a verb in -ing."""
    stems = [word]
    if word.endswith("ing"):
        stem = word.removesuffix("ing")
        stems = [stem, f"{stem}e"] + ([stem[:-1]] if stem[-2:-1] == stem[-1:] else [])
    forms = [form for stem in stems for form in (stem, f"{stem}s", f"{stem}es")]
    return forms + [f"{stem[:-1]}ies" for stem in stems if stem.endswith("y")]


def _mistakes(word: str, known: str) -> int | None:
    """Return the number of spelling mistakes between two words; None if they are more than a misspelling apart.

    The first letter is rarely wrong, and short words are close to too many others.
    """
    if word[:1] != known[:1] and word[:2] != known[1::-1]:
        return None
    shorter = min(len(word), len(known))
    distance = edit_distance(word, known)
    if shorter <= _SHORT:
        is_swapped = len(word) == len(known) and sorted(word) == sorted(known) and word[:1] == known[:1]
        return distance if distance == 1 and (is_swapped or _undoubled(word) == _undoubled(known)) else None
    return distance if distance <= (2 if shorter >= _LONG else 1) else None


def _undoubled(word: str) -> str:
    return "".join(letter for index, letter in enumerate(word) if letter != word[index - 1 : index])


def edit_distance(first: str, second: str) -> int:
    """Return the insertions, deletions, substitutions and swaps of neighbouring letters between two words."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        before, above, row = row, before, [i]
        for j, other in enumerate(second, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
