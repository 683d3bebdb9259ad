"""The sprite world: an endless, seeded supply of captioned videos in which sprites move over scenes.

A clip is a pure function of the world's seed and the clip's index. Displacement per frame is the motion's speed
divided by fps, as in real footage, so a model can learn what fps means (paper section 3.1.2). Some combinations of
subject, motion and scene are held out of training, to measure generalisation to new combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.data.sample import VideoBatch
from videocrafter.data.sprite_world.captions import (
    SUBJECTS,
    Attribute,
    motion_caption,
    vocabulary,
    worded_caption,
    worded_image_caption,
)
from videocrafter.data.sprite_world.motions import (
    DIAMETER,
    LARGEST_DIAMETER,
    MOTIONS,
    OPPOSITES,
    SMALLEST_DIAMETER,
    SPEEDS,
    Trajectories,
    trajectories,
)
from videocrafter.data.sprite_world.renderer import SpriteRenderer, load_sprite
from videocrafter.data.sprite_world.scenes import NUM_VARIANTS, PLAIN_SCENES, SCENES
from videocrafter.data.sprite_world.scripts import (
    SceneScript,
    counterfactual_caption,
    held_out_combinations,
    is_held_out,
)

__all__ = [
    "MOTIONS",
    "OPPOSITES",
    "PLAIN_SCENES",
    "SCENES",
    "SPEEDS",
    "SUBJECTS",
    "SceneScript",
    "SpriteWorld",
    "SpriteWorldConfig",
    "held_out_combinations",
    "is_held_out",
    "motion_caption",
    "vocabulary",
]

Split = Literal["train", "held_out", "all"]

# Largest deviation of diameters, as a fraction, and of starting angles, in radians.
_SIZE_JITTER = 0.08
_ANGLE_JITTER = math.radians(10)
# Random numbers per script: more than are used, so that a later addition does not change existing scripts.
_NUM_DRAWS = 24
# Clips and images draw from different streams.
_CLIP_STREAM, _IMAGE_STREAM = 0, 1


def _check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    if not given:
        raise ValueError(f"{what} is empty, expected at least one of {', '.join(known)}")
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(map(repr, unknown))}, expected some of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class SpriteWorldConfig:
    """Content and format of the clips.

    Attributes:
        height, width: frame size in pixels.
        num_frames: frames per clip.
        fps_range: lowest and highest frames per second of clips; whole numbers, log-uniform.
        subjects: names to use.
        motions: names to use; one that is named twice occurs twice as often.
        scenes: names of scenes to use. PLAIN_SCENES are plain colours, which are easier to learn.
        diameter: mean diameter of the sprites, in widths of the frame.
        position_jitter: largest offset of a path's centre from the frame's centre in x and in y, in half-widths.
        split: "train" excludes held-out combinations, "held_out" contains only those, "all" contains both.
        seed: at least 0; each seed yields different clips.
    """

    height: int = 64
    width: int = 64
    num_frames: int = 8
    fps_range: tuple[float, float] = (4.0, 24.0)
    subjects: tuple[str, ...] = SUBJECTS
    motions: tuple[str, ...] = MOTIONS
    scenes: tuple[str, ...] = SCENES
    diameter: float = DIAMETER
    position_jitter: float = 0.12
    split: Split = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_names("subjects", self.subjects, SUBJECTS)
        _check_names("motions", self.motions, MOTIONS)
        _check_names("scenes", self.scenes, SCENES + PLAIN_SCENES)
        if min(self.height, self.width, self.num_frames) < 1:
            raise ValueError(
                f"height, width and num_frames are {self.height}, {self.width} and {self.num_frames}, "
                "expected 1 or more"
            )
        low, high = self.fps_range
        if not 1 <= low <= high:
            raise ValueError(f"fps_range is {self.fps_range}, expected (low, high) with 1 <= low <= high")
        if not SMALLEST_DIAMETER <= self.diameter <= LARGEST_DIAMETER:
            raise ValueError(
                f"diameter is {self.diameter}, expected {SMALLEST_DIAMETER} to {LARGEST_DIAMETER} widths of the frame"
            )
        if self.position_jitter < 0:
            raise ValueError(f"position_jitter is {self.position_jitter}, expected 0 or more")
        if self.split not in ("train", "held_out", "all"):
            raise ValueError(f"split is {self.split!r}, expected 'train', 'held_out' or 'all'")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")

    def evenly(self) -> SpriteWorldConfig:
        """Return the same world with each motion named once."""
        return replace(self, motions=tuple(dict.fromkeys(self.motions)))


MINIATURE_WORLD = SpriteWorldConfig(height=128, width=128, num_frames=16, fps_range=(8.0, 24.0), diameter=0.56)
"""The world of the models that ship."""


class SpriteWorld:
    """An endless supply of captioned clips and images: `script(i)` describes clip i, `render` draws it.

    Args:
        picture: returns the picture of a subject; other pictures than the packaged ones are for experiments.
    """

    def __init__(
        self, config: SpriteWorldConfig | None = None, *, picture: Callable[[str], Tensor] = load_sprite
    ) -> None:
        self.config = config = config or SpriteWorldConfig()
        self.subjects, self.motions, self.scenes = config.subjects, config.motions, config.scenes
        wanted = {"train": (False,), "held_out": (True,), "all": (False, True)}[config.split]
        self._combinations = [
            (subject, motion, scene)
            for subject in self.subjects
            for motion in self.motions
            for scene in self.scenes
            if is_held_out(subject, motion, scene) in wanted
        ]
        if not self._combinations:
            raise ValueError(
                f"split {config.split!r} has no combination of these subjects, motions and scenes; add more of them"
            )
        self._renderer = SpriteRenderer(
            height=config.height, width=config.width, subjects=self.subjects, scenes=self.scenes, picture=picture
        )

    @property
    def shown_subjects(self) -> frozenset[str]:
        """Subjects that occur in the clips of this split."""
        return frozenset(subject for subject, _, _ in self._combinations)

    def _draw(self, index: int, stream: int) -> list[float]:
        """Return the uniform random numbers in [0, 1) that script `index` is made from."""
        if index < 0:
            raise ValueError(f"index is {index}, expected 0 or more")
        bits = np.random.Philox(key=np.array([self.config.seed, index], np.uint64), counter=[0, 0, 0, stream])
        numbers: list[float] = np.random.Generator(bits).random(_NUM_DRAWS).tolist()
        return numbers

    def _script(self, index: int, stream: int) -> SceneScript:
        draws = iter(self._draw(index, stream))

        def pick(number: int) -> int:
            return int(next(draws) * number)

        def spread(largest: float) -> float:
            return (2 * next(draws) - 1) * largest

        config = self.config
        subject, motion, scene = self._combinations[pick(len(self._combinations))]
        speed = SPEEDS[pick(len(SPEEDS))]
        low, high = (math.log(value) for value in config.fps_range)
        fps = float(round(math.exp(low + (high - low) * next(draws))))
        script = SceneScript(
            subject=subject,
            motion=motion,
            scene=scene,
            speed="medium" if motion == "still" else speed,
            fps=fps,
            middle_x=spread(config.position_jitter),
            middle_y=spread(config.position_jitter),
            diameter=config.diameter * (1 + spread(_SIZE_JITTER)),
            angle=spread(_ANGLE_JITTER),
            variant=pick(NUM_VARIANTS),
            wording=(pick(2**16), pick(2**16), pick(2**16), pick(2**16)),
            caption="",
        )
        if stream == _IMAGE_STREAM:
            words = worded_image_caption(subject, scene, script.wording)
            return replace(script, caption=words, image_frame=next(draws) * (config.num_frames - 1))
        return replace(script, caption=worded_caption(subject, motion, scene, script.speed, script.wording))

    def script(self, index: int) -> SceneScript:
        """Return the script of clip `index` (at least 0), a pure function of the config and the index."""
        return self._script(index, _CLIP_STREAM)

    def image_script(self, index: int) -> SceneScript:
        """Return the script of image `index`: one moment of a clip, with a caption that does not mention motion."""
        return self._script(index, _IMAGE_STREAM)

    def _trajectories(self, scripts: Sequence[SceneScript], num_frames: int | None) -> Trajectories:
        """Return the sprites' trajectories. The path of an image is that of its clip, sampled at one moment."""
        images = {script.image_frame is not None for script in scripts}
        if len(images) != 1:
            raise ValueError("scripts are empty or mix clips and images, expected one or more of one kind")
        fps = np.array([script.fps for script in scripts])
        if images == {True}:
            if num_frames not in (None, 1):
                raise ValueError(f"num_frames is {num_frames}, expected 1 for images")
            frames = np.array([[script.image_frame] for script in scripts], dtype=np.float64)
            clip_frames = self.config.num_frames
        else:
            clip_frames = self.config.num_frames if num_frames is None else num_frames
            if clip_frames < 1:
                raise ValueError(f"num_frames is {clip_frames}, expected 1 or more")
            frames = np.broadcast_to(np.arange(clip_frames), (len(scripts), clip_frames))
        return trajectories(
            [script.motion for script in scripts],
            [script.speed for script in scripts],
            middles=np.array([[script.middle_x, script.middle_y] for script in scripts]),
            diameters=np.array([script.diameter for script in scripts]),
            angles=np.array([script.angle for script in scripts]),
            times=frames / fps[:, None],
            durations=(clip_frames - 1) / fps,
        )

    def centers(self, scripts: Sequence[SceneScript], num_frames: int | None = None) -> NDArray[np.float64]:
        """Return the sprites' centres [B, T, 2] in half-widths; (0, 0) is the middle, x points right, y down."""
        return self._trajectories(scripts, num_frames).centers

    def sizes(self, scripts: Sequence[SceneScript], num_frames: int | None = None) -> NDArray[np.float64]:
        """Return the sprites' diameters [B, T] in widths."""
        return self._trajectories(scripts, num_frames).sizes

    def render(self, scripts: Sequence[SceneScript], num_frames: int | None = None) -> Tensor:
        """Render either clips or images as floats [B, T, 3, H, W] in [-1, 1].

        Raises:
            ValueError: clips and images are mixed, a name is not part of this world, or num_frames < 1.
        """
        paths = self._trajectories(scripts, num_frames)
        for script in scripts:
            _check_names("subjects", [script.subject], self.subjects)
            _check_names("scenes", [script.scene], self.scenes)
        subjects = np.array([self.subjects.index(script.subject) for script in scripts])
        backgrounds = np.array(
            [self.scenes.index(script.scene) * NUM_VARIANTS + script.variant for script in scripts]
        )
        batch, frames = paths.sizes.shape
        rendered = self._renderer.render(
            subjects.repeat(frames),
            backgrounds.repeat(frames),
            centers=paths.centers.reshape(-1, 2),
            diameters=paths.sizes.reshape(-1),
            angles=paths.angles.reshape(-1),
        )
        return rendered.unflatten(0, (batch, frames))

    def batch(self, indices: Sequence[int], *, images: bool = False) -> VideoBatch:
        """Return the clips, or images, with these indices as a batch."""
        scripts = [self.image_script(index) if images else self.script(index) for index in indices]
        kind = "image" if images else "clip"
        return VideoBatch(
            pixels=self.render(scripts),
            captions=tuple(script.caption for script in scripts),
            fps=torch.tensor([script.fps for script in scripts], dtype=torch.float32),
            keys=tuple(f"sprite-world/{self.config.seed}/{kind}/{index}" for index in indices),
        )

    def counterfactual(self, script: SceneScript, attribute: Attribute, rng: np.random.Generator) -> str | None:
        """Return the caption with one attribute replaced by another name of this world, or None.

        See `scripts.counterfactual_caption`.
        """
        return counterfactual_caption(
            script, attribute, rng, subjects=self.subjects, motions=self.motions, scenes=self.scenes
        )
