"""The settings of distillation, which the miniature and training on clips share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from videocrafter.diffusion.few_steps import SEGMENT_SNR
from videocrafter.training.video.diffusion_step import DiffusionConfig

_PHASES = ("text_to_video", "image_to_video")

DistillationMethod = Literal["consistency", "matching"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Settings of distilling a pipeline into one of few steps without guidance.

    Attributes:
        method: "consistency" is guided segment-consistency distillation (`segments.py`), the first stage; "matching"
            is trajectory distribution matching (`trajectory_matching.py`), the second.
        teacher: the pipeline to imitate, a folder or the name of a model; None takes the stage's start, which is then
            both teacher and beginning of the student. "matching" needs it, because it starts from a student; the
            command line then takes the recipe's `init`.
        guidance_scale: scale of the teacher's guidance, which becomes part of the student; None takes the teacher's
            recommendation. It is the scale of `generate`, where 1 turns guidance off.
        segment_snr: signal-to-noise ratios at which the segments after the first begin; one sampling step each.
        grid_size: points of the teacher's path, and noise levels of "matching".
        target_decay: in "consistency", decay of the averaged student that gives the targets; 0 takes the student
            itself.
        student_every: in "matching", the fake score is trained in every step and the student in every n-th.
    """

    method: DistillationMethod = "consistency"
    teacher: str | None = None
    guidance_scale: float | None = None
    segment_snr: tuple[float, ...] = SEGMENT_SNR
    grid_size: int = 50
    target_decay: float = 0.0
    student_every: int = 1

    def __post_init__(self) -> None:
        if self.method not in get_args(DistillationMethod):
            raise ValueError(f"distillation.method is {self.method!r}, expected 'consistency' or 'matching'")
        if self.guidance_scale is not None and self.guidance_scale < 1:
            raise ValueError(
                f"distillation.guidance_scale is {self.guidance_scale}; it must be 1 (no guidance) or more, or none"
            )
        ascending = all(one < other for one, other in zip(self.segment_snr, self.segment_snr[1:], strict=False))
        if not ascending or any(snr <= 0 for snr in self.segment_snr):
            raise ValueError(
                f"distillation.segment_snr is {self.segment_snr}; expected numbers above 0, in ascending order"
            )
        if self.grid_size <= len(self.segment_snr):
            raise ValueError(
                f"distillation.grid_size is {self.grid_size}; it must be at least {len(self.segment_snr) + 1}, the "
                "number of segments"
            )
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"distillation.target_decay is {self.target_decay}; expected a number in [0, 1)")
        if self.student_every < 1:
            raise ValueError(f"distillation.student_every is {self.student_every}; it must be 1 or more")

    def check_teacher(self) -> None:
        """Raise ValueError if the method needs a teacher that is not named."""
        if self.teacher is None and self.method == "matching":
            raise ValueError(
                "distillation.teacher is none, but 'matching' starts from a student; name the model that the student "
                "was distilled from, with --init or task.distillation.teacher"
            )

    @property
    def num_steps(self) -> int:
        """Sampling steps of the student, one per segment."""
        return len(self.segment_snr) + 1


def check_distilled(config: DiffusionConfig) -> None:
    """Raise ValueError for settings of a task that a student cannot have.

    No condition is dropped in training, because a student is sampled without guidance.
    """
    dropout = (config.text_dropout, config.image_dropout, config.both_dropout)
    if any(dropout):
        raise ValueError(
            f"text_dropout, image_dropout and both_dropout are {dropout}; a student never samples without its "
            "conditions: set them to 0"
        )
    if config.phase not in _PHASES:
        raise ValueError(f"phase is {config.phase!r}; distillation takes {' or '.join(_PHASES)}")
