"""Load the judge, apply it to videos, and compare its verdicts with the prompts."""

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
_BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """The judge's verdicts on N videos of T frames.

    Attributes:
        subjects, motions, scenes: N names each.
        centers: [N, T, 2] position of the sprite, from -1 to 1 within the frame.
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
    """Which of N videos show the subject, motion and scene of their prompt."""

    subject: tuple[bool, ...]
    motion: tuple[bool, ...]
    scene: tuple[bool, ...]

    @property
    def all(self) -> tuple[bool, ...]:
        """Which videos show all three."""
        return tuple(map(all, zip(self.subject, self.motion, self.scene, strict=True)))


def load_judge(folder: Path | None = None) -> VideoJudge:
    """Load the judge from a folder, or the shipped one, in float32 and evaluation mode.

    Raises:
        FileNotFoundError: the folder contains no judge.
        ModelFolderError: the judge's weights are damaged.
    """
    folder = SHIPPED_JUDGE if folder is None else Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"there is no judge in {folder}; pass the folder of one, or train one: videocrafter train tiny-judge"
        )
    for weights in folder.glob("*.safetensors"):
        tensor_names(weights)
    judge: VideoJudge = VideoJudge.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    return judge.eval()


@torch.no_grad()
def judge_videos(judge: VideoJudge, videos: Tensor) -> Verdicts:
    """Return the judge's verdicts on videos [N, T, 3, H, W] in [-1, 1], from their pixels alone."""
    device = next(judge.parameters()).device
    readings = [judge(part.to(device)) for part in videos.split(_BATCH_SIZE)]

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
    """Compare the verdicts with the scripts of the videos' prompts."""
    return Marks(
        subject=tuple(seen == one.subject for seen, one in zip(verdicts.subjects, scripts, strict=True)),
        motion=tuple(seen == one.motion for seen, one in zip(verdicts.motions, scripts, strict=True)),
        scene=tuple(seen == one.scene for seen, one in zip(verdicts.scenes, scripts, strict=True)),
    )
