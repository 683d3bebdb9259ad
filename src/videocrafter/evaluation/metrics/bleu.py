"""BLEU of a caption against the prompt (Papineni et al., 2002), for captions by another model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence


def bleu(candidate: str, reference: str, order: int = 4) -> float:
    """Return the geometric mean of clipped n-gram precisions up to `order`, times the brevity penalty.

    Words are lower case; punctuation separates words and is dropped. No smoothing: without any common n-gram of some
    order the score is 0.
    """
    words, wanted = _words(candidate), _words(reference)
    precisions = [_precision(words, wanted, n) for n in range(1, order + 1)]
    if min(precisions) == 0:
        return 0.0
    penalty = math.exp(min(0.0, 1 - len(wanted) / len(words)))
    return penalty * math.exp(sum(map(math.log, precisions)) / order)


def mean_bleu(candidates: Sequence[str], reference: str) -> float:
    """Return the mean of BLEU over captions: EvalCrafter's definition."""
    return sum(bleu(candidate, reference) for candidate in candidates) / len(candidates)


def highest_bleu(candidates: Sequence[str], reference: str) -> float:
    """Return the largest BLEU over captions and over orders 1 to 4: what EvalCrafter's released code computes."""
    return max(bleu(candidate, reference, order) for candidate in candidates for order in range(1, 5))


def _precision(words: Sequence[str], wanted: Sequence[str], n: int) -> float:
    given = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    known = Counter(tuple(wanted[i : i + n]) for i in range(len(wanted) - n + 1))
    total = sum(given.values())
    return sum(min(count, known[gram]) for gram, count in given.items()) / total if total else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
