"""The settings of training the miniature's video network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld, SpriteWorldConfig
from videocrafter.training.miniature.gauges import gauge_names, gauge_scripts
from videocrafter.training.miniature.networks import MiniatureNetwork, NoiseConfig
from videocrafter.training.video.diffusion_step import DiffusionConfig
from videocrafter.training.video.phases import IMAGE_PHASES

_VALIDATION_SEED = 3_000_017


@dataclass(frozen=True, kw_only=True)
class VideoDiffusionTaskConfig(DiffusionConfig):
    """Architecture and training settings of the video network.

    Phase "image_alignment" teaches the projector alone to encode an image as the text encoder encodes its caption.

    Attributes:
        network: config of a new network.
        world: the clips; its height and width are the stage's resolution.
        noise: noise schedule and prediction type.
        autoencoder, towers: folders with `vae/`, and with `tokenizer/`, `text_encoder/` and `image_encoder/`, or
            the name of a shipped model; used for the parts that the stage's start lacks.
        num_clips, num_images: number of different clips and images; each is encoded once and kept.
        batch_size: clips per batch of clips.
        image_batch_size, image_share: images per batch of images, and the share of batches that are images.
        image_subjects: subjects that appear in images only, in addition to those of the clips.
        image_scale: how many times as high and wide images are as clips. While clips have a low resolution, images of
            the final one keep what the network has learned from them.
        motion_captions: share of captions that name only the motion, where an image is given.
        alignment_weight: in "image_mapping", weight of the alignment error, the share of the text encoder's variation
            between captions that the projector leaves unexplained; without it the projector forgets subjects.
        num_gauged, num_samples: clips of any kind in the validation, and videos on a sample sheet.
        block_size: clips that are encoded together; see `LatentClipSource`.
        sampling_steps, guidance_scale, guidance_rescale, fps: settings of the sample sheets, which the trained
            pipeline also recommends.
    """

    network: MiniatureNetwork = field(default_factory=MiniatureNetwork)
    world: SpriteWorldConfig = field(default_factory=SpriteWorldConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    autoencoder: str = "tiny-t2v"
    towers: str = "tiny-i2v"
    num_clips: int = 32_768
    num_images: int = 16_384
    batch_size: int = 32
    image_batch_size: int = 64
    image_share: float = 0.15
    image_subjects: tuple[str, ...] = ()
    image_scale: int = 1
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
        super().__post_init__()
        if self.phase == "temporal_only" and self.image_share:
            raise ValueError(f"image_share is {self.image_share}; images do not train temporal layers: set it to 0")
        if self.alignment_weight < 0 or (self.alignment_weight and self.phase != "image_mapping"):
            raise ValueError(
                f"alignment_weight is {self.alignment_weight} in phase {self.phase!r}; it must be 0 or more, and 0 in"
                " all phases except 'image_mapping'"
            )
        if both := set(self.image_subjects) & set(self.world.subjects):
            raise ValueError(
                f"image_subjects contains {', '.join(sorted(both))}, which clips show as well; remove them from"
                " image_subjects, or from world.subjects"
            )
        if self.image_scale < 1:
            raise ValueError(f"image_scale is {self.image_scale}; it must be 1 or more")
        for name in ("batch_size", "image_batch_size"):
            if getattr(self, name) % self.block_size:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be a multiple of block_size ({self.block_size})"
                )

    @property
    def uses_image(self) -> bool:
        """Whether the network is given images."""
        return self.phase in IMAGE_PHASES

    @property
    def image_world(self) -> SpriteWorldConfig:
        """The world of the images."""
        height, width = self.image_scale * self.world.height, self.image_scale * self.world.width
        subjects = (*self.world.subjects, *self.image_subjects)
        return replace(self.world, height=height, width=width, subjects=subjects)

    def validation_metrics(self) -> list[str]:
        """The loss, and the gauges of this world."""
        world = self.gauged_world()
        names = gauge_names(world, self.gauged_scripts(world), self.num_gauged)
        return [*names, "gauge_image", "reading_accuracy"] if self.uses_image else names

    def gauged_world(self) -> SpriteWorld:
        """The world of the validation clips: all motions equally often, with held-out combinations."""
        return SpriteWorld(replace(self.world.evenly(), split="all", seed=_VALIDATION_SEED))

    def gauged_scripts(self, world: SpriteWorld) -> list[SceneScript]:
        """The validation clips in this world."""
        return gauge_scripts(world, self.num_gauged)
