"""Choose clips by their stored scores. Nothing is decoded, so that another recipe takes seconds.

Hard floors come first, then near duplicates, then shares: thresholds do not transfer from one data set to another,
but shares do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from videocrafter.preparation.config import SelectConfig
from videocrafter.preparation.copies import find_copies

Row = dict[str, Any]

_FLOORS = (
    ("damaged", "damaged", "max_damaged"),
    ("few_frames", "frames", "min_frames"),
    ("low_bit_rate", "bits_per_pixel", "min_bits_per_pixel"),
    ("bars", "picture", "min_picture"),
    ("blank", "blank", "max_blank"),
    ("frozen", "frozen", "max_frozen"),
    ("dark", "luma", "min_luma"),
    ("overexposed", "luma", "max_luma"),
    ("jumps", "false_cuts_per_s", "max_false_cuts_per_s"),
    ("text", "text", "max_text"),
    ("nsfw", "nsfw", "max_nsfw"),
    ("watermark", "watermark", "max_watermark"),
)
"""Name, score and setting of each hard limit."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A filter of the recipe, and its effect.

    Attributes:
        name: reason in the manifest.
        setting: of the configuration, such as `select.floors.max_frozen`.
        score: column that it judges; empty for near duplicates.
        keeps: "above" or "below" the threshold.
        threshold: the limit; None if the filter was not applied.
        dropped: number of clips that this filter dropped.
        remaining, remaining_s: clips and seconds after it.
    """

    name: str
    setting: str
    score: str
    keeps: str
    threshold: float | None
    dropped: int
    remaining: int
    remaining_s: float

    @property
    def is_share(self) -> bool:
        """Whether the setting is a share of the clips rather than the threshold."""
        return self.setting.startswith("select.shares.")

    def drops(self, value: float) -> bool:
        """Return whether a score is beyond the threshold; never if the filter was not applied."""
        if self.threshold is None:
            return False
        return value < self.threshold if self.keeps == "above" else value > self.threshold


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Every clip with `kept`, `reason` and `split`, and the filters in order."""

    rows: list[Row]
    steps: list[Step]
    groups: list[list[str]] = field(default_factory=list)


def select(rows: Sequence[Mapping[str, Any]], config: SelectConfig, seed: int) -> Selection:
    """Apply a recipe.

    Args:
        rows: every clip with its scores, `id`, `source` and `seconds`.
        seed: for the validation split and where a part is drawn at random.
    """
    ordered = sorted((dict(row) for row in rows), key=lambda row: (row["source"], row["start_s"], row["id"]))
    for row in ordered:
        row["reason"], row["copy_of"] = "", ""
        row["split"] = "validation" if _draw(seed, "split", row["source"]) < config.validation else "train"
    recipe = _Recipe(ordered)
    for name, score, setting in _FLOORS:
        keeps = "above" if setting.startswith("min_") else "below"
        recipe.limit(name, f"select.floors.{setting}", score, keeps, getattr(config.floors, setting))
    groups = recipe.drop_copies(config.copy_distance)
    _apply_shares(recipe, config, seed)
    for row in ordered:
        row["kept"] = not row["reason"]
    return Selection(rows=ordered, steps=recipe.steps, groups=groups)


class _Recipe:
    """Clips that are still kept, and the filters so far."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows, self.steps = rows, list[Step]()

    @property
    def kept(self) -> list[Row]:
        return [row for row in self.rows if not row["reason"]]

    def limit(
        self,
        name: str,
        setting: str,
        score: str,
        keeps: str,
        threshold: float | None,
        is_drawn: Callable[[Row], bool] = lambda row: True,
    ) -> None:
        """Drop the clips beyond a threshold, or those of them that are drawn. Clips without the score stay."""
        if not any(row.get(score) is not None for row in self.rows):
            return
        step = Step(
            name=name, setting=setting, score=score, keeps=keeps, threshold=threshold,
            dropped=0, remaining=0, remaining_s=0.0,
        )  # fmt: skip
        self.drop(step, lambda row: row.get(score) is not None and step.drops(row[score]) and is_drawn(row))

    def drop(self, step: Step, is_dropped: Callable[[Row], bool]) -> None:
        """Drop clips, and store the step with its effect."""
        dropped = [row for row in self.kept if is_dropped(row)]
        for row in dropped:
            row["reason"] = step.name
        kept = self.kept
        seconds = sum(row["seconds"] for row in kept)
        self.steps.append(replace(step, dropped=len(dropped), remaining=len(kept), remaining_s=seconds))

    def share(self, name: str, setting: str, score: str, keeps: str, share: float, least: int) -> None:
        """Drop a share of the clips, from the worst end of a score."""
        values = [row[score] for row in self.kept if row.get(score) is not None]
        threshold = None
        if len(values) >= least and share > 0:
            threshold = float(np.quantile(values, share if keeps == "above" else 1 - share))
        self.limit(name, f"select.shares.{setting}", score, keeps, threshold)

    def drop_copies(self, max_distance: float) -> list[list[str]]:
        """Drop copies. The largest picture stays, then the smallest id. Returns each such clip and its copies."""
        ordered = sorted(self.kept, key=lambda row: (-_pixels(row), row["id"]))
        copies = find_copies(ordered, max_distance) if max_distance >= 0 else {}
        groups: dict[str, list[str]] = {}
        for row in ordered:
            row["copy_of"] = copies.get(row["id"], "")
            if row["copy_of"]:
                groups.setdefault(row["copy_of"], [row["copy_of"]]).append(row["id"])
        step = Step(
            name="copy", setting="select.copy_distance", score="", keeps="", threshold=max_distance,
            dropped=0, remaining=0, remaining_s=0.0,
        )  # fmt: skip
        self.drop(step, lambda row: bool(row["copy_of"]))
        return sorted(groups.values())


def _apply_shares(recipe: _Recipe, config: SelectConfig, seed: int) -> None:
    shares, strictness = config.shares, 2 if config.level == "finetune" else 1
    least = shares.min_clips
    # The thresholds of both motion classes refer to the same clips.
    motions = [row["motion"] for row in recipe.kept]
    recipe.share("static", "least_motion", "motion", "above", strictness * shares.least_motion, least)
    little = strictness * (shares.least_motion + shares.little_motion)
    threshold = None
    if len(motions) >= least and shares.little_motion > 0:
        threshold = float(np.quantile(motions, min(little, 1.0)))
    recipe.limit(
        "little_motion",
        "select.shares.little_motion",
        "motion",
        "above",
        threshold,
        lambda row: _draw(seed, "motion", row["id"]) < 0.5,
    )
    recipe.share("shaky", "most_shake", "shake", "below", strictness * shares.most_shake, least)
    recipe.share("blurred", "most_blur", "sharpness", "above", strictness * shares.most_blur, least)
    recipe.share("ugly", "least_aesthetics", "aesthetics", "above", strictness * shares.least_aesthetics, least)


def _pixels(row: Mapping[str, Any]) -> float:
    return float(row["source_width"] * row["source_height"] * row["picture"])


def _draw(seed: int, purpose: str, name: str) -> float:
    """Return a number from 0 to 1 that depends on its arguments only."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
