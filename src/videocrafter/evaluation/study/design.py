"""Design of a study: everything that is fixed before the first rater, in one file with a hash.

The design knows which system made each clip, so it never leaves the author's machine; raters see identifiers only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from videocrafter.media.json_file import read_json_object

DESIGN_FILE, MEDIA_FOLDER, INVITATIONS_FILE = "design.json", "media", "invitations.txt"
_FORMAT = 1

StudyKind = Literal["pairs", "ratings"]
ItemKind = Literal["vote", "same", "broken"]
Entry = Literal["open", "invited"]


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One aspect of quality: its title, and the questions of a pair and of a rating."""

    title: str
    pair_question: str
    rating_question: str


ASPECTS: Mapping[str, Aspect] = {
    "visual_quality": Aspect(
        title="Visual quality",
        pair_question="Which video is sharper and cleaner?",
        rating_question="How sharp and clean is the picture?",
    ),
    "text_alignment": Aspect(
        title="Text-video alignment",
        pair_question="Which video matches the text better?",
        rating_question="How well does the video match the text?",
    ),
    "motion_quality": Aspect(
        title="Motion quality",
        pair_question="Which video moves more naturally?",
        rating_question="How natural is the motion?",
    ),
    "temporal_consistency": Aspect(
        title="Temporal consistency",
        pair_question="In which video do things keep their shape and colour better?",
        rating_question="How well do things keep their shape and colour?",
    ),
    "content_preservation": Aspect(
        title="Content preservation",
        pair_question="Which video keeps the content of the given image better?",
        rating_question="How well does the video keep the content of the given image?",
    ),
    "overall": Aspect(
        title="Overall", pair_question="Which video do you prefer?", rating_question="How good is the video overall?"
    ),
}
"""The four aspects of the paper's table 1, content preservation for image to video, and an overall preference."""

PAPER_ASPECTS = ("visual_quality", "text_alignment", "motion_quality", "temporal_consistency")
RATINGS = (1, 2, 3, 4, 5)
CHOICES = ("left", "right", "equal")

CONSENT = (
    "You will watch short videos made by computer programs and say which you prefer. Taking part is voluntary. "
    "We store your answers, how long you took for them and how often you played the videos. We store no name, no "
    "e-mail address and no network address. You can stop at any time, continue later with your personal link, and "
    "withdraw, which deletes your answers."
)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A served copy of a video.

    Attributes:
        system: index of the system that made it.
        prompt: index of its prompt.
        sha256: hash of the served file.
        source: name of the video in its set; None in studies that were made before it was recorded.
    """

    system: int
    prompt: int
    sha256: str
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt, its seed if known, and the file of the image given with it, if there was one."""

    text: str
    seed: int | None = None
    image: str | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question: a pair of clips, or one clip to rate.

    Attributes:
        kind: "vote" counts; "same" shows one video twice; "broken" shows a damaged copy, the last of `clips`.
        clips: one or two identifiers. Which one is on the left is decided per rater.
    """

    kind: ItemKind
    prompt: int
    clips: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExclusionRules:
    """When a rater's answers are left out. Fixed before the study starts, and reported with it.

    Attributes:
        max_failed_checks: largest share of attention checks that may fail.
        same_key_share: a rater who gave one answer at least this often, of at least `same_key_answers`, looked away.
        same_key_answers: see above.
        min_median_seconds: shortest median time per question.
        min_answers: fewest answered questions that count.
    """

    max_failed_checks: float = 0.5
    same_key_share: float = 0.95
    same_key_answers: int = 10
    min_median_seconds: float = 1.5
    min_answers: int = 5


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """A study.

    Attributes:
        title: heading of the page.
        kind: "pairs" asks A, B or equal; "ratings" asks for 1 to 5.
        aspects: names from `ASPECTS`, asked in this order.
        systems: names of what is compared; never shown to raters.
        prompts: what the videos were made from.
        clips: served copies by identifier.
        items: every question.
        votes_per_rater: questions of kind "vote" that a rater gets.
        training_per_rater: questions with an explanation first, whose answers do not count.
        checks_per_rater: attention checks among the questions.
        max_raters: how many may take part.
        entry: "open" gives everybody with the address a personal link; "invited" needs one of the prepared links.
        invitations: SHA-256 hashes of the prepared tokens.
        consent: shown before anything else.
        seed: decides order and sides.
        suffix: kind of the served files.
        exclusion: when answers are left out.
    """

    title: str
    kind: StudyKind
    aspects: tuple[str, ...]
    systems: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    clips: Mapping[str, Clip]
    items: tuple[Item, ...]
    votes_per_rater: int
    training_per_rater: int = 3
    checks_per_rater: int = 3
    max_raters: int = 100
    entry: Entry = "open"
    invitations: tuple[str, ...] = ()
    consent: str = CONSENT
    seed: int = 0
    suffix: str = ".mp4"
    exclusion: ExclusionRules = field(default_factory=ExclusionRules)

    def __post_init__(self) -> None:
        """Raise ValueError if the design contradicts itself."""
        if self.kind not in get_args(StudyKind):
            raise ValueError(f"kind is {self.kind!r}; expected {' or '.join(get_args(StudyKind))}")
        if not self.aspects or len(set(self.aspects)) < len(self.aspects) or not set(self.aspects) <= set(ASPECTS):
            raise ValueError(
                f"aspects are {', '.join(self.aspects) or 'none'}; name each at most once, from {', '.join(ASPECTS)}"
            )
        smallest = 2 if self.kind == "pairs" else 1
        if len(self.systems) < smallest or len(set(self.systems)) < len(self.systems):
            raise ValueError(
                f"systems are {', '.join(self.systems) or 'none'}; expected at least {smallest}, each with a name"
            )
        votes = sum(item.kind == "vote" for item in self.items)
        if not 1 <= self.votes_per_rater <= votes:
            raise ValueError(
                f"votes_per_rater is {self.votes_per_rater}; expected 1 to {votes}, the number of questions"
            )
        for name in ("training_per_rater", "checks_per_rater"):
            if not 0 <= getattr(self, name) <= 20:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 20")
        if not 1 <= self.max_raters <= 100_000:
            raise ValueError(f"max_raters is {self.max_raters}; expected 1 to 100000")
        known = set(self.clips)
        if not all(set(item.clips) <= known and item.prompt < len(self.prompts) for item in self.items):
            raise ValueError("an item names a clip or a prompt that the design does not contain")

    @property
    def hash(self) -> str:
        """SHA-256 of the design; every vote belongs to exactly one."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def minutes(self) -> int:
        """Estimated minutes per rater: six seconds to watch, and four per aspect."""
        questions = self.votes_per_rater + self.training_per_rater + self.checks_per_rater
        return max(1, round(questions * (6 + 4 * len(self.aspects)) / 60))

    def to_json(self) -> str:
        """Return the design as JSON text that `read_design` accepts."""
        content = {"format": _FORMAT, **asdict(self)}
        for clip in content["clips"].values():
            if clip["source"] is None:  # the hash of an older design stays what it was
                del clip["source"]
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_design(folder: Path) -> StudyDesign:
    """Read the design of a study folder.

    Raises:
        ValueError: there is no design, or it is damaged; one line that says so.
    """
    path = folder / DESIGN_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a study: it contains no {DESIGN_FILE}; make one with `videocrafter study new`"
        )
    data = read_json_object(path)
    if data.pop("format", None) != _FORMAT:
        raise ValueError(f"{path} is not a study design of format {_FORMAT}; make the study again with this version")
    try:
        unknown = set(data) - {one.name for one in fields(StudyDesign)}
        if unknown:
            raise ValueError(f"unknown key {min(unknown)!r}")
        data |= {
            "prompts": tuple(Prompt(**one) for one in data["prompts"]),
            "clips": {name: Clip(**one) for name, one in data["clips"].items()},
            "items": tuple(Item(**(one | {"clips": tuple(one["clips"])})) for one in data["items"]),
            "exclusion": ExclusionRules(**data["exclusion"]),
        }
        data |= {name: tuple(data[name]) for name in ("aspects", "systems", "invitations")}
        return StudyDesign(**data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; restore the original file") from error
