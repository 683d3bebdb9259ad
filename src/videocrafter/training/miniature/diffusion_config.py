"""What the training of the miniature's video network is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.training.miniature.gauges import gauge_names, gauge_scripts
from videocrafter.training.miniature.networks import MiniatureNetwork, NoiseConfig
from videocrafter.training.video.phases import Phase

if TYPE_CHECKING:
    import torch

    from videocrafter.training.miniature.diffusion import VideoDiffusionTask

_VALIDATION_SEED = 3_000_017


@dataclass(frozen=True, kw_only=True)
class VideoDiffusionTaskConfig:
    """How the video network is built and trained.

    Attributes:
        phase: "text_to_video"; "temporal_only" trains what only clips use; "image_alignment" trains the projector
            alone, to say of a picture what the text tower says of its caption; "image_mapping" trains the projector
            and W'k, W'v with all else frozen; "image_to_video" freezes the mappings of text and image and trains the
            rest.
        world: the clips; its height and width are the stage's resolution.
        timestep_power: timesteps are uniform numbers to this power; above 1, little noise is trained on more often.
        autoencoder, towers: folders with `vae/`, and with `tokenizer/`, `text_encoder/` and `image_encoder/`, or
            the name of a model that the package brings; used for what the stage's start does not hold.
        num_clips, num_images: how many different ones are shown; each is encoded once and kept.
        batch_size: clips per batch of clips.
        image_batch_size, image_share: images per batch of images, and the share of batches that are images.
        text_dropout, image_dropout, both_dropout: share of samples without caption, image, or either.
        motion_captions: share of captions that name only the motion, where an image is given.
        alignment_weight: in "image_mapping", weight of the share that the projector leaves unexplained of what the
            text tower says of the image; without it the projector forgets subjects.
        num_gauged, num_samples: clips of any kind in the validation, and videos on a sample sheet.
        block_size: clips that are encoded together; see `LatentClipSource`.
        sampling_steps, guidance_scale, guidance_rescale, fps: of the sample sheets, and what the finished pipeline
            recommends.
    """

    phase: Phase = "text_to_video"
    network: MiniatureNetwork = field(default_factory=MiniatureNetwork)
    world: SpriteWorldConfig = field(default_factory=SpriteWorldConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    timestep_power: float = 1.0
    autoencoder: str = "tiny-i2v"
    towers: str = "tiny-i2v"
    num_clips: int = 32_768
    num_images: int = 16_384
    batch_size: int = 32
    image_batch_size: int = 64
    image_share: float = 0.15
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    both_dropout: float = 0.0
    motion_captions: float = 0.0
    alignment_weight: float = 0.0
    num_gauged: int = 72
    num_samples: int = 10
    block_size: int = 8
    sampling_steps: int = 25
    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    fps: float = 8.0

    def __post_init__(self) -> None:
        if self.phase == "temporal_only" and self.image_share:
            raise ValueError(f"image_share is {self.image_share}; images teach temporal layers nothing: set it to 0")
        if self.alignment_weight < 0 or (self.alignment_weight and self.phase != "image_mapping"):
            raise ValueError(
                f"alignment_weight is {self.alignment_weight} in phase {self.phase!r}; it must be 0 or more, and 0 in"
                " all phases but 'image_mapping'"
            )
        if self.timestep_power <= 0:
            raise ValueError(f"timestep_power is {self.timestep_power}; it must be above 0")
        for name in ("batch_size", "image_batch_size"):
            if getattr(self, name) % self.block_size:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be a multiple of block_size ({self.block_size})"
                )

    @property
    def uses_image(self) -> bool:
        """Whether the network is given images."""
        return self.phase not in ("text_to_video", "temporal_only")

    def build(self, start: Path | None, seed: int, stage_index: int, device: torch.device) -> VideoDiffusionTask:
        """Make the task; `start` is a pipeline folder to go on from."""
        from videocrafter.training.miniature.diffusion import VideoDiffusionTask

        return VideoDiffusionTask(self, start, seed, stage_index, device)

    def validation_metrics(self) -> list[str]:
        """The loss, and the gauges that this world has."""
        world = self.gauged_world()
        names = gauge_names(world, gauge_scripts(world, self.num_gauged), self.num_gauged)
        return [*names, "gauge_image", "reading_accuracy"] if self.uses_image else names

    def gauged_world(self) -> SpriteWorld:
        """The clips of the validation, held-out ones among them."""
        return SpriteWorld(replace(self.world, split="all", seed=_VALIDATION_SEED))
