"""The judge at work: load it, let it look at videos, read its verdicts as names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.model_folder import tensor_names

SHIPPED_JUDGE = Path(__file__).parent.parent / "assets" / "models" / "judge"


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What the judge saw in N videos of T frames.

    Attributes:
        subjects, motions, scenes: N names each.
        centers: [N, T, 2] the sprite's place in half-widths of the frame.
        features: [N, T, D] what each frame shows.
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
    """Which of N videos show the subject, the motion, the scene that were asked for."""

    subject: tuple[bool, ...]
    motion: tuple[bool, ...]
    scene: tuple[bool, ...]

    @property
    def all(self) -> tuple[bool, ...]:
        """Which show all three."""
        return tuple(map(all, zip(self.subject, self.motion, self.scene, strict=True)))


def load_judge(folder: Path | None = None) -> VideoJudge:
    """The judge from a folder, or the shipped one, ready to look (float32, evaluation mode).

    Raises:
        FileNotFoundError: there is no judge.
        ModelFolderError: its weights are damaged.
    """
    folder = SHIPPED_JUDGE if folder is None else Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"there is no judge in {folder}; give the folder of one, or train it: videocrafter train tiny-judge"
        )
    for weights in folder.glob("*.safetensors"):
        tensor_names(weights)
    judge: VideoJudge = VideoJudge.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    return judge.eval()


@torch.no_grad()
def judge_videos(judge: VideoJudge, videos: Tensor, batch_size: int = 32) -> Verdicts:
    """The judge's verdicts on videos [N, T, 3, H, W] in [-1, 1]. It is told nothing else."""
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
    """Compare verdicts with what was asked for."""
    asked = list(scripts)
    return Marks(
        subject=tuple(seen == one.subject for seen, one in zip(verdicts.subjects, asked, strict=True)),
        motion=tuple(seen == one.motion for seen, one in zip(verdicts.motions, asked, strict=True)),
        scene=tuple(seen == one.scene for seen, one in zip(verdicts.scenes, asked, strict=True)),
    )
