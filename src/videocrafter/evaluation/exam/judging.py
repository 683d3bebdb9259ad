"""Classification of videos by the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.model_folder import tensor_names

SHIPPED_JUDGE = Path(__file__).parents[2] / "assets" / "models" / "judge"


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """The judge's labels of N videos of T frames.

    Attributes:
        subjects, motions, scenes: N names each.
        centers: [N, T, 2] position of the sprite in half-widths of the frame.
        features: [N, T, D] features of each frame.
    """

    subjects: tuple[str, ...]
    motions: tuple[str, ...]
    scenes: tuple[str, ...]
    centers: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.subjects)


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


@torch.no_grad()
def judge_videos(judge: VideoJudge, videos: Tensor, batch_size: int = 32) -> Verdicts:
    """Classify videos [N, T, 3, H, W] in [-1, 1]. The judge has no other input."""
    device = next(judge.parameters()).device
    readings = [judge(part.to(device)) for part in videos.split(batch_size)]

    def names(known: Sequence[str], logits: list[Tensor]) -> tuple[str, ...]:
        return tuple(known[index] for part in logits for index in part.argmax(dim=1).tolist())

    return Verdicts(
        subjects=names(judge.config.subjects, [reading.subject_logits for reading in readings]),
        motions=names(judge.config.motions, [reading.motion_logits for reading in readings]),
        scenes=names(judge.config.scenes, [reading.scene_logits for reading in readings]),
        centers=torch.cat([reading.centers for reading in readings]).cpu(),
        features=torch.cat([reading.features for reading in readings]).cpu(),
    )


def mark(verdicts: Verdicts, scripts: Sequence[SceneScript]) -> Marks:
    """Compare labels with the expected scripts."""
    expected = list(scripts)
    return Marks(
        subject=tuple(seen == script.subject for seen, script in zip(verdicts.subjects, expected, strict=True)),
        motion=tuple(seen == script.motion for seen, script in zip(verdicts.motions, expected, strict=True)),
        scene=tuple(seen == script.scene for seen, script in zip(verdicts.scenes, expected, strict=True)),
    )
