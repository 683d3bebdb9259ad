"""Votes of a study in terms of systems: read from the answers, written as a table."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videocrafter.evaluation.study.assignment import Role
from videocrafter.evaluation.study.design import ItemKind, StudyDesign
from videocrafter.evaluation.study.store import completion_code


@dataclass(frozen=True, kw_only=True)
class GivenAnswer:
    """One answered question as stored.

    Attributes:
        rater: number of the rater.
        item: index in the design.
        swapped: whether the item's second clip was on the left.
        role: of the question.
        values: choice or rating by aspect, as the rater saw it.
        seconds, plays: how long the rater took, and how often the clips were played.
    """

    rater: int
    item: int
    swapped: bool
    role: Role
    values: Mapping[str, Any]
    seconds: float
    plays: int

    def score(self, aspect: str) -> float:
        """Return the vote independent of sides: 1 for the item's first clip, 0 for its second, 0.5 for equal."""
        choice = self.values[aspect]
        if choice == "equal":
            return 0.5
        return float((choice == "left") != self.swapped)


@dataclass(frozen=True, kw_only=True)
class Rater:
    """A rater: number, state and completion code."""

    number: int
    state: str
    code: str


def read_answers(connection: sqlite3.Connection) -> tuple[list[Rater], list[GivenAnswer]]:
    """Return the raters and what they answered, in order."""
    raters = [
        Rater(number=number, state=state, code=completion_code(digest))
        for number, state, digest in connection.execute("SELECT id, state, token_hash FROM raters ORDER BY id")
    ]
    rows = connection.execute(
        "SELECT rater, item, swapped, role, answer, seconds, plays FROM answers JOIN tasks USING (rater, position)"
        " ORDER BY rater, position"
    )
    answers = [
        GivenAnswer(
            rater=rater,
            item=item,
            swapped=bool(swapped),
            role=role,
            values=json.loads(text),
            seconds=seconds,
            plays=plays,
        )
        for rater, item, swapped, role, text, seconds, plays in rows
    ]
    return raters, answers


def votes_table(design: StudyDesign, answers: Sequence[GivenAnswer], excluded: Mapping[int, str]) -> str:
    """Return all answers as CSV, one line per rater, question and aspect; nothing is left out.

    Columns: rater, role, kind, prompt, seed, aspect, first and second (systems), vote ("first", "second", "equal", or
    1 to 5), on_left (the system on the left), seconds, plays, excluded (the reason, if the rater is excluded).
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        (
            "rater",
            "role",
            "kind",
            "prompt",
            "seed",
            "aspect",
            "first",
            "second",
            "vote",
            "on_left",
            "seconds",
            "plays",
        )
        + ("excluded",)
    )
    for given in answers:
        item = design.items[given.item]
        names = [_system(design, clip) for clip in item.clips]
        prompt = design.prompts[item.prompt]
        for aspect in design.aspects:
            writer.writerow(
                (given.rater, given.role, _kind(given, item.kind), prompt.text, prompt.seed, aspect, names[0])
                + (
                    names[1] if len(names) > 1 else "",
                    _vote(design, given, aspect),
                    names[-1 if given.swapped else 0],
                )
                + (round(given.seconds, 3), given.plays, excluded.get(given.rater, ""))
            )
    return file.getvalue()


def _system(design: StudyDesign, clip: str) -> str:
    system = design.clips[clip].system
    return "damaged copy" if system < 0 else design.systems[system]


def _kind(given: GivenAnswer, kind: ItemKind) -> str:
    return "repeat" if kind == "vote" and given.role == "check" else kind


def _vote(design: StudyDesign, given: GivenAnswer, aspect: str) -> Any:
    if design.kind == "ratings":
        return given.values[aspect]
    return {1.0: "first", 0.5: "equal", 0.0: "second"}[given.score(aspect)]


def counted(answers: Iterable[GivenAnswer], excluded: Mapping[int, str]) -> list[GivenAnswer]:
    """Return the answers that count: votes of raters who are not excluded."""
    return [given for given in answers if given.role == "vote" and given.rater not in excluded]
