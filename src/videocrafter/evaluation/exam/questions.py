"""Questions of the exam: a balanced selection of held-out clips of the sprite world, and their captions.

Each question contains the script of a clip, so that the real clip can be rendered. It provides the judge's score on
real clips (the ceiling), the expected speed and the input images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from videocrafter.data.sprite_world.captions import motion_caption, worded_caption
from videocrafter.data.sprite_world.motions import DIRECTIONS
from videocrafter.data.sprite_world.scenes import NUM_VARIANTS
from videocrafter.data.sprite_world.world import (
    MINIATURE_WORLD,
    MOTIONS,
    SCENES,
    SPEEDS,
    SUBJECTS,
    SceneScript,
    SpriteWorld,
    SpriteWorldConfig,
    is_held_out,
)
from videocrafter.models.judge import VideoJudge

SPEED_FPS = (8.0, 12.0, 16.0, 24.0)
_PARTS = ("text", "speed", "image", "variety")


@dataclass(frozen=True, kw_only=True)
class ExamWorld:
    """Part of the sprite world to examine; by default everything in the miniature's, except plain scenes.

    Attributes:
        subjects, motions, scenes: names that the model was trained on.
        position_jitter: largest offset of the real clips' paths from the centre, in half-widths.
        diameter: mean diameter of the sprites, in widths of the frame.
        fps_range: lowest and highest fps that the model was trained on.
    """

    subjects: tuple[str, ...] = SUBJECTS
    motions: tuple[str, ...] = MOTIONS
    scenes: tuple[str, ...] = SCENES
    position_jitter: float = 0.12
    diameter: float = MINIATURE_WORLD.diameter
    fps_range: tuple[float, float] = MINIATURE_WORLD.fps_range

    @classmethod
    def of_judge(cls, judge: VideoJudge) -> ExamWorld:
        """Return the world that a judge was trained on, without plain scenes."""
        low, high = judge.config.fps_range
        return cls(diameter=judge.config.diameter, fps_range=(low, high))

    @property
    def speed_fps(self) -> tuple[float, ...]:
        """The fps at which speed is measured: those of `SPEED_FPS` within the range."""
        low, high = self.fps_range
        return tuple(fps for fps in SPEED_FPS if low <= fps <= high) or (low,)

    def world(self, *, num_frames: int, height: int, width: int, seed: int = 0) -> SpriteWorld:
        """Return the world that renders the real clips, with sizes in pixels."""
        return SpriteWorld(
            SpriteWorldConfig(
                height=height,
                width=width,
                num_frames=num_frames,
                subjects=self.subjects,
                motions=self.motions,
                scenes=self.scenes,
                fps_range=self.fps_range,
                diameter=self.diameter,
                position_jitter=self.position_jitter,
                split="held_out",
                seed=seed,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """One video to generate.

    Attributes:
        script: script of the real clip, including its fps.
        prompt: the prompt.
        seed: seed of the video.
    """

    script: SceneScript
    prompt: str
    seed: int


def other_takes(questions: Sequence[Question]) -> list[SceneScript]:
    """Return scripts of other real clips for the same prompts: at the mirrored position, before another variant."""
    scripts = (question.script for question in questions)
    return [
        replace(one, middle_x=-one.middle_x, middle_y=-one.middle_y, variant=(one.variant + 1) % NUM_VARIANTS)
        for one in scripts
    ]


def balanced_combinations(
    world: ExamWorld, motions: Sequence[str], count: int, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """Choose `count` held-out (subject, motion, scene): motions in turn, with the least used subjects and scenes.

    A combination is repeated only after all combinations of its motion were used.

    Raises:
        ValueError: a motion has no held-out combination with these subjects and scenes.
    """
    held_out = {
        motion: [(s, motion, p) for s in world.subjects for p in world.scenes if is_held_out(s, motion, p)]
        for motion in motions
    }
    for motion, combinations in held_out.items():
        if not combinations:
            raise ValueError(
                f"no combination of {motion!r} with these {len(world.subjects)} subjects and "
                f"{len(world.scenes)} scenes is held out; add subjects or scenes"
            )
    used: Counter[tuple[str, str, str]] = Counter()
    subjects: Counter[str] = Counter()
    scenes: Counter[str] = Counter()
    chosen = []
    for number in range(count):
        candidates = held_out[motions[number % len(motions)]]
        ties = rng.random(len(candidates))
        _, combination = min(
            ((used[c], subjects[c[0]], scenes[c[2]], tie), c)
            for c, tie in zip(candidates, ties.tolist(), strict=True)
        )
        used[combination] += 1
        subjects[combination[0]] += 1
        scenes[combination[2]] += 1
        chosen.append(combination)
    return chosen


class Questions:
    """The questions of one exam, as pure functions of the world and the seed."""

    def __init__(self, world: ExamWorld, seed: int) -> None:
        self.world, self.seed = world, seed
        # The size and length of clips do not affect their scripts.
        self._scripts = world.world(num_frames=8, height=16, width=16, seed=seed)

    def text(self, count: int, fps: float) -> list[Question]:
        """Return balanced held-out combinations, at varied speeds and one fps."""
        rng = self._rng("text")
        combinations = balanced_combinations(self.world, self.world.motions, count, rng)
        return [
            self._question("text", number, combination, _speed(combination[1], rng), fps)
            for number, combination in enumerate(combinations)
        ]

    def speed(self, count: int) -> list[Question]:
        """Return straight motions, with each of the world's `speed_fps` and each speed equally often.

        The list is empty if the world has no straight motion.
        """
        rng = self._rng("speed")
        motions = [motion for motion in self.world.motions if motion in DIRECTIONS]
        if not motions:
            return []
        cells = [(fps, speed) for fps in self.world.speed_fps for speed in SPEEDS]
        combinations = balanced_combinations(self.world, motions, count, rng)
        # Shuffle, so that a direction is not always combined with the same fps.
        order = rng.permutation(len(combinations))
        return [
            self._question(
                "speed",
                number,
                combinations[place],
                cells[number % len(cells)][1],
                cells[number % len(cells)][0],
            )
            for number, place in enumerate(order)
        ]

    def image(self, count: int, fps: float) -> tuple[list[Question], list[Question]]:
        """Return the same clips twice: with prompts that name only the motion, and with full captions."""
        rng = self._rng("image")
        combinations = balanced_combinations(self.world, self.world.motions, count, rng)
        full = [
            self._question("image", number, combination, _speed(combination[1], rng), fps)
            for number, combination in enumerate(combinations)
        ]
        motion_only = [replace(one, prompt=motion_caption(one.script.motion, one.script.speed, rng)) for one in full]
        return motion_only, full

    def variety(self, count: int, seeds_per_prompt: int, fps: float) -> list[Question]:
        """Return `count` prompts, each `seeds_per_prompt` times in a row with different seeds and real clips."""
        rng = self._rng("variety")
        questions = []
        for number, combination in enumerate(balanced_combinations(self.world, self.world.motions, count, rng)):
            first = self._question("variety", number * seeds_per_prompt, combination, "medium", fps)
            for copy in range(seeds_per_prompt):
                own = self._question("variety", number * seeds_per_prompt + copy, combination, "medium", fps)
                questions.append(replace(own, prompt=first.prompt))
        return questions

    def _rng(self, part: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, _PARTS.index(part)])

    def _question(
        self, part: str, number: int, combination: tuple[str, str, str], speed: str, fps: float
    ) -> Question:
        """Return a question for a combination, with random draws of its own."""
        index = number * len(_PARTS) + _PARTS.index(part)
        subject, motion, scene = combination
        speed = "medium" if motion == "still" else speed
        drawn = self._scripts.script(index)
        words = worded_caption(subject, motion, scene, speed, drawn.wording)
        script = replace(drawn, subject=subject, motion=motion, scene=scene, speed=speed, fps=fps, caption=words)
        return Question(script=script, prompt=words, seed=self.seed * 1_000_000 + index)


def _speed(motion: str, rng: np.random.Generator) -> str:
    return "medium" if motion == "still" else SPEEDS[int(rng.integers(len(SPEEDS)))]
