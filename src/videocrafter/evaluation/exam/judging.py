"""Classification of videos by the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript
from videocrafter.evaluation.exam.clips import Clips, in_batches
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.model_folder import tensor_names
from videocrafter.presets import SHIPPED_JUDGE, is_run_folder, result_of_run


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """The judge's labels of N videos of T frames.

    Attributes:
        subjects, motions, scenes: N names each.
        centers: [N, T, 2] position of the sprite in half-widths of the frame.
        features: [N, T, D] features of each frame.
        logits: [N, K] of all subjects, motions and scenes: features of a video for Fréchet distances, as the logits
            of an action classifier are for FVD.
    """

    subjects: tuple[str, ...]
    motions: tuple[str, ...]
    scenes: tuple[str, ...]
    centers: Tensor
    features: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.subjects)

    @classmethod
    def joined(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """Return the labels of several batches as one."""
        subjects, motions, scenes = (
            tuple(name for part in parts for name in getattr(part, kind))
            for kind in ("subjects", "motions", "scenes")
        )
        centers, features, logits = (
            torch.cat([getattr(part, kind) for part in parts]) for kind in ("centers", "features", "logits")
        )
        return cls(
            subjects=subjects, motions=motions, scenes=scenes, centers=centers, features=features, logits=logits
        )


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Correctness of the subject, motion and scene of N videos."""

    subject: tuple[bool, ...]
    motion: tuple[bool, ...]
    scene: tuple[bool, ...]

    @property
    def all(self) -> tuple[bool, ...]:
        """Whether all three are correct."""
        return tuple(map(all, zip(self.subject, self.motion, self.scene, strict=True)))


def judge_folder(given: Path | None) -> Path | None:
    """Return the folder of a judge, or of the one that a training run has produced; None stays None.

    Raises:
        ValueError: the training run has no result yet.
    """
    return given if given is None or not is_run_folder(given) else result_of_run(given)


def load_judge(folder: Path | None = None) -> VideoJudge:
    """Load a judge from a folder, or the shipped one, in float32 and evaluation mode.

    Raises:
        FileNotFoundError: the folder contains no judge.
        ModelFolderError: the weights are damaged.
    """
    folder = SHIPPED_JUDGE if folder is None else Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} contains no judge; pass the folder of one, or train it with videocrafter train tiny-judge"
        )
    for weights in folder.glob("*.safetensors"):
        tensor_names(weights)
    judge: VideoJudge = VideoJudge.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    return judge.eval()


def judge_videos(judge: VideoJudge, videos: Clips, batch_size: int = 32) -> Verdicts:
    """Classify videos [N, T, 3, H, W] in [-1, 1]. The judge has no other input."""
    return Verdicts.joined([_verdicts(judge, part) for part in in_batches(videos, batch_size)])


@torch.no_grad()
def _verdicts(judge: VideoJudge, videos: Tensor) -> Verdicts:
    reading = judge(videos.to(next(judge.parameters()).device))

    def names(known: Sequence[str], logits: Tensor) -> tuple[str, ...]:
        return tuple(known[index] for index in logits.argmax(dim=1).tolist())

    return Verdicts(
        subjects=names(judge.config.subjects, reading.subject_logits),
        motions=names(judge.config.motions, reading.motion_logits),
        scenes=names(judge.config.scenes, reading.scene_logits),
        centers=reading.centers.cpu(),
        features=reading.features.cpu(),
        logits=torch.cat((reading.subject_logits, reading.motion_logits, reading.scene_logits), dim=1).float().cpu(),
    )


def mark(verdicts: Verdicts, scripts: Sequence[SceneScript]) -> Marks:
    """Compare labels with the expected scripts."""
    expected = list(scripts)
    return Marks(
        subject=tuple(seen == script.subject for seen, script in zip(verdicts.subjects, expected, strict=True)),
        motion=tuple(seen == script.motion for seen, script in zip(verdicts.motions, expected, strict=True)),
        scene=tuple(seen == script.scene for seen, script in zip(verdicts.scenes, expected, strict=True)),
    )
