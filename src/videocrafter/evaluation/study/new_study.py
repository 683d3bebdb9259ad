"""Make a study: choose the questions, write blind copies of the videos, and fix everything in one design."""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from videocrafter.evaluation.comparison.matching import Row
from videocrafter.evaluation.study.blind_copies import CopyFormat, Frames, damaged, read_copy, shared_format
from videocrafter.evaluation.study.design import (
    CONSENT,
    DESIGN_FILE,
    INVITATIONS_FILE,
    MEDIA_FOLDER,
    PAPER_ASPECTS,
    Clip,
    Item,
    ItemKind,
    Prompt,
    StudyDesign,
    StudyKind,
)
from videocrafter.evaluation.study.store import token_hash
from videocrafter.media.atomic_write import whole_folder
from videocrafter.media.image_file import read_image
from videocrafter.media.video_encoding import encode_png, encode_video

# Places for raters who stop halfway or are excluded.
_SPARE = 1.25
_DAMAGED = -1
# More than raters see of an input image.
_IMAGE_SIDE = 512


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Choices of the author; see `StudyDesign` for those that it shares.

    Attributes:
        votes_per_item: how many raters should answer each question; decides how many raters are admitted.
        votes_per_rater: None for all questions, but at most 30, which take about ten minutes.
        invitations: number of personal links to prepare; 0 lets everybody with the address take part.
    """

    kind: StudyKind = "pairs"
    aspects: tuple[str, ...] = PAPER_ASPECTS
    title: str = "Video study"
    consent: str = CONSENT
    votes_per_item: int = 3
    votes_per_rater: int | None = None
    training_per_rater: int = 3
    checks_per_rater: int = 3
    invitations: int = 0
    seed: int = 0
    suffix: str = ".mp4"


@dataclass(frozen=True, kw_only=True)
class NewStudy:
    """A study that was made.

    Attributes:
        design: its design.
        notes: what the author should know about the copies.
        tokens: of the invitations.
    """

    design: StudyDesign
    notes: tuple[str, ...]
    tokens: tuple[str, ...]


def make_study(
    rows: Sequence[Row],
    systems: Sequence[str],
    folder: Path,
    settings: StudySettings,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> NewStudy:
    """Write the folder of a study, completely or not at all.

    Args:
        rows: one per prompt, with a video of every system.
        systems: names of the systems, in the order of the report.
        folder: must not exist: a study is never replaced, because it may hold answers.
        settings: see `StudySettings`.
        on_progress: called with the numbers of written and of all copies.

    Raises:
        ValueError: the settings contradict each other, there are no rows, or the folder exists.
        MediaError: a video or image cannot be read, or the folder cannot be written.
    """
    if folder.exists():
        raise ValueError(
            f"{folder} already exists; choose another folder: a study may hold answers and is not replaced"
        )
    if not rows:
        raise ValueError("no prompt has a video of every system; check that the folders share prompts and seeds")
    form, notes = shared_format([row.videos[system].path for row in rows for system in systems])
    with whole_folder(folder, overwrite=False) as temporary:
        (temporary / MEDIA_FOLDER).mkdir()
        making = _Making(rows=rows, systems=systems, folder=temporary, settings=settings, form=form)
        design, tokens = making.run(on_progress)
        (temporary / DESIGN_FILE).write_text(design.to_json(), encoding="utf-8")
        if tokens:
            lines = "".join(f"#{token}\n" for token in tokens)
            (temporary / INVITATIONS_FILE).write_text(lines, encoding="utf-8")
    shown = f"{settings.title} {settings.consent}".lower()
    notes += [
        f"the title or the consent text contains {name!r}, the name of a system; raters will see it"
        for name in systems
        if re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", shown)
    ]
    return NewStudy(design=design, notes=tuple(notes), tokens=tokens)


@dataclass(kw_only=True)
class _Making:
    """State while a study is made."""

    rows: Sequence[Row]
    systems: Sequence[str]
    folder: Path
    settings: StudySettings
    form: CopyFormat
    clips: dict[str, Clip] = field(default_factory=dict)

    def run(self, on_progress: Callable[[int, int], None]) -> tuple[StudyDesign, tuple[str, ...]]:
        settings, extras = self.settings, list(self._extras())
        total = len(self.rows) * len(self.systems) + len(extras)
        names = {}
        for prompt, row in enumerate(self.rows):
            for system, name in enumerate(self.systems):
                frames = read_copy(row.videos[name].path, self.form)
                names[prompt, system] = self._write(frames, system, prompt, row.videos[name].name)
                on_progress(len(self.clips), total)
        items = list(self._votes(names))
        for kind, prompt, system in extras:
            items.append(self._check(kind, prompt, system, names[prompt, system]))
            on_progress(len(self.clips), total)
        votes = sum(item.kind == "vote" for item in items)
        per_rater = min(30, votes) if settings.votes_per_rater is None else settings.votes_per_rater
        raters = math.ceil(_SPARE * votes * settings.votes_per_item / max(1, per_rater))
        tokens = tuple(secrets.token_urlsafe(16) for _ in range(settings.invitations))
        design = StudyDesign(
            title=settings.title,
            kind=settings.kind,
            aspects=settings.aspects,
            systems=tuple(self.systems),
            prompts=tuple(self._prompts()),
            clips=self.clips,
            items=tuple(items),
            votes_per_rater=per_rater,
            training_per_rater=settings.training_per_rater,
            checks_per_rater=settings.checks_per_rater,
            max_raters=max(raters, len(tokens)),
            entry="invited" if tokens else "open",
            invitations=tuple(token_hash(token) for token in tokens),
            consent=settings.consent,
            seed=settings.seed,
            suffix=settings.suffix,
        )
        return design, tokens

    def _votes(self, names: dict[tuple[int, int], str]) -> Iterator[Item]:
        systems = range(len(self.systems))
        for prompt in range(len(self.rows)):
            if self.settings.kind == "ratings":
                for system in systems:
                    yield Item(kind="vote", prompt=prompt, clips=(names[prompt, system],))
            else:
                for first, second in combinations(systems, 2):
                    yield Item(kind="vote", prompt=prompt, clips=(names[prompt, first], names[prompt, second]))

    def _extras(self) -> Iterator[tuple[ItemKind, int, int]]:
        """Yield kind, prompt and system of the questions for training and attention checks."""
        settings = self.settings
        if settings.training_per_rater + settings.checks_per_rater == 0:
            return
        number = settings.training_per_rater + settings.checks_per_rater // 2 + 2
        rng = random.Random(f"{settings.seed}/checks")
        for index in range(number):
            same = settings.kind == "pairs" and index % 2 == 1
            prompt, system = rng.randrange(len(self.rows)), rng.randrange(len(self.systems))
            yield ("same" if same else "broken", prompt, system)

    def _check(self, kind: ItemKind, prompt: int, system: int, name: str) -> Item:
        video = self.rows[prompt].videos[self.systems[system]]
        frames = read_copy(video.path, self.form)
        if kind == "same":
            # A file of its own: the same address twice would give the check away.
            return Item(kind=kind, prompt=prompt, clips=(name, self._write(frames, system, prompt, video.name)))
        broken = self._write(damaged(frames, len(self.clips)), _DAMAGED, prompt)
        return Item(kind=kind, prompt=prompt, clips=(name, broken) if self.settings.kind == "pairs" else (broken,))

    def _write(self, frames: Frames, system: int, prompt: int, source: str | None = None) -> str:
        name = secrets.token_hex(16)
        data = encode_video(frames, self.form.fps, suffix=self.settings.suffix)
        path = self.folder / MEDIA_FOLDER / f"{name}{self.settings.suffix}"
        path.write_bytes(data)
        # Times would show which system was copied first.
        os.utime(path, (0, 0))
        digest = hashlib.sha256(data).hexdigest()
        self.clips[name] = Clip(system=system, prompt=prompt, sha256=digest, source=source)
        return name

    def _prompts(self) -> Iterator[Prompt]:
        for row in self.rows:
            image = None
            if row.image is not None:
                image = f"{secrets.token_hex(16)}.png"
                (self.folder / MEDIA_FOLDER / image).write_bytes(
                    encode_png(read_image(row.image, min_side=_IMAGE_SIDE))
                )
            yield Prompt(text=row.prompt, seed=row.seed, image=image)
