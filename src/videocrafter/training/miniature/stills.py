"""The task that trains a miniature Stable Diffusion: the video network's spatial layers, on images alone.

VideoCrafter1 starts from Stable Diffusion (paper §3.1, §4.1), which learned appearance from images, at a fraction of
the cost of clips. The trained folder has Stable Diffusion's format; `videocrafter init` makes a video model of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from videocrafter.checkpoints.stable_diffusion.image_network import image_network
from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld
from videocrafter.media.atomic_write import write_text
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.models.autoencoder import spatial_factor
from videocrafter.models.judge import VideoJudge, named_subjects
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork
from videocrafter.training.video.phases import Phase
from videocrafter.training.video.starting_weights import named_folder

_SAMPLES_SEED = 11
_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class StillsTaskConfig(VideoDiffusionTaskConfig):
    """Settings of `StillsTask`. Those of clips have no effect.

    The network has no part that only a video model has, apart from temporal layers, which images do not run.

    Attributes:
        judge: folder or training run of the judge that names the subjects of samples, or "judge" for the shipped one;
            None leaves this out.
    """

    phase: Phase = "images"
    network: MiniatureNetwork = field(
        default_factory=lambda: MiniatureNetwork(
            fps_condition=False, frame_text_condition=False, place_condition=False, initial_temporal_heads=0
        )
    )
    image_share: float = 1.0
    judge: str | None = "judge"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase != "images" or self.image_share != 1:
            raise ValueError(
                f"phase is {self.phase!r} and image_share {self.image_share}; a miniature Stable Diffusion is trained"
                " in phase 'images' with image_share 1"
            )

    def gauged_scripts(self, world: SpriteWorld) -> list[SceneScript]:
        """The validation images in this world."""
        return [world.image_script(index) for index in range(self.num_gauged)]


class StillsTask(VideoDiffusionTask):
    """Trains on images. Sample sheets show one still per subject; the result has Stable Diffusion's format."""

    config: StillsTaskConfig

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write a still of each subject, in combinations that training never shows, and what the judge sees in it."""
        world = SpriteWorld(replace(self.config.world, split="held_out", seed=_SAMPLES_SEED))
        scripts = sorted(balanced_stills(world, len(world.shown_subjects)), key=lambda script: script.subject)
        captions, subjects = [script.caption for script in scripts], [script.subject for script in scripts]
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        frames = pipeline(captions, num_frames=1, seeds=list(range(len(captions))), output_type="uint8").frames
        rows = [slice(first, first + _COLUMNS) for first in range(0, len(subjects), _COLUMNS)]
        pictures, labels = [frames[row, 0] for row in rows], [", ".join(subjects[row]) for row in rows]
        write_image(folder / "stills.png", contact_sheet(pictures, labels, scale=1), overwrite=True)
        if self.config.judge is not None:
            judge = VideoJudge.from_pretrained(named_folder(self.config.judge), torch_dtype=torch.float32).eval()
            seen = named_subjects(judge, torch.from_numpy(frames).movedim(-1, 2).float() / 127.5 - 1)
            answers = [{"asked": one, "seen": other} for one, other in zip(subjects, seen, strict=True)]
            share = sum(one["asked"] == one["seen"] for one in answers) / len(answers)
            text = json.dumps({"recognised": share, "stills": answers}, indent=1) + "\n"
            write_text(folder / "stills.json", text)

    def save_pipeline(self, folder: Path) -> None:
        """Write `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and `scheduler/` in diffusers' format."""
        latent_size = self.config.world.height // spatial_factor(self.vae)
        image_network(self.unet, sample_size=latent_size).save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.config.noise.scheduler().save_pretrained(folder / "scheduler")
