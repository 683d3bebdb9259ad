"""Decide which raters' answers are left out, by rules that the design fixed before the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from videocrafter.evaluation.study.design import StudyDesign
from videocrafter.evaluation.study.votes import GivenAnswer

_HIGHEST_FOR_DAMAGED = 2
_SAME_RATING = 1


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Attention checks of one rater: how many were answered, and how many failed."""

    answered: int
    failed: int


def check_results(design: StudyDesign, answers: Sequence[GivenAnswer]) -> Checks:
    """Judge the attention checks among the answers of one rater.

    A check fails if most aspects were answered unexpectedly: the same video twice must be "equal", a damaged copy
    must lose (or get 1 or 2 points), and a repeated question must not get the opposite answer (or one more than a
    point away).
    """
    first = {given.item: given for given in answers if given.role == "vote"}
    failed = answered = 0
    for given in answers:
        if given.role != "check":
            continue
        kind = design.items[given.item].kind
        earlier = first.get(given.item) if kind == "vote" else None
        if kind == "vote" and earlier is None:
            continue
        answered += 1
        wrong = sum(not _is_expected(design, given, kind, earlier, aspect) for aspect in design.aspects)
        failed += wrong * 2 > len(design.aspects)
    return Checks(answered=answered, failed=failed)


def _is_expected(
    design: StudyDesign, given: GivenAnswer, kind: str, earlier: GivenAnswer | None, aspect: str
) -> bool:
    if design.kind == "ratings":
        if earlier is None:
            return bool(given.values[aspect] <= _HIGHEST_FOR_DAMAGED)
        return abs(given.values[aspect] - earlier.values[aspect]) <= _SAME_RATING
    score = given.score(aspect)
    if earlier is not None:
        # From a win to "equal" is hesitation; from a win to a loss follows the side, not the video.
        return abs(score - earlier.score(aspect)) <= 0.5
    return score == (0.5 if kind == "same" else 1.0)


def excluded_raters(design: StudyDesign, answers: Sequence[GivenAnswer]) -> dict[int, str]:
    """Return the reason for each rater whose answers do not count."""
    by_rater: dict[int, list[GivenAnswer]] = {}
    for given in answers:
        by_rater.setdefault(given.rater, []).append(given)
    reasons = {rater: _reason(design, given) for rater, given in by_rater.items()}
    return {rater: reason for rater, reason in reasons.items() if reason}


def _reason(design: StudyDesign, answers: Sequence[GivenAnswer]) -> str:
    rules = design.exclusion
    votes = [given for given in answers if given.role == "vote"]
    if len(votes) < min(rules.min_answers, design.votes_per_rater):
        return f"answered {len(votes)} questions, fewer than {min(rules.min_answers, design.votes_per_rater)}"
    # Training teaches what to look for; the rest is asked for without help.
    asked = [given for given in answers if given.role != "training"]
    if reason := _same_key(asked, rules.same_key_share, rules.same_key_answers):
        return reason
    checks = check_results(design, answers)
    if checks.answered and checks.failed > rules.max_failed_checks * checks.answered:
        return f"failed {checks.failed} of {checks.answered} attention checks"
    seconds = median(given.seconds for given in votes)
    if seconds < rules.min_median_seconds:
        return f"took {seconds:.1f} s per question (median), less than {rules.min_median_seconds:g} s"
    return ""


def _same_key(answers: Sequence[GivenAnswer], share: float, least: int) -> str:
    keys: Mapping[object, int] = Counter(value for given in answers for value in given.values.values())
    total = sum(keys.values())
    if total < least:
        return ""
    key, count = max(keys.items(), key=lambda pair: pair[1])
    return f"chose {key!r} in {count} of {total} answers" if count >= share * total else ""
