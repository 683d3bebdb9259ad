"""The task that trains the miniature's video network: text to video, and image to video in the paper's two phases.

Text to video (paper §3.1) learns from images and videos jointly. Image to video (§3.2) starts from it, trains the
image projector and the new W'k, W'v first, then freezes both mappings and trains the video model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld, motion_caption
from videocrafter.diffusion.schedule import alphas_cumprod
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.models.image_encoder import encode_image, null_image
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.text_encoder import encode_text
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.knowledge import Knowledge
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.gauges import wrong_image_gauge, wrong_word_gauges
from videocrafter.training.miniature.image_alignment import alignment_error, plain_caption, reading_accuracy
from videocrafter.training.miniature.latent_clips import LatentClips, LatentClipSource
from videocrafter.training.randomness import derive_seed, make_generator
from videocrafter.training.video.diffusion_step import draw_dropped
from videocrafter.training.video.diffusion_task import DiffusionTask
from videocrafter.training.video.phases import choose_trained
from videocrafter.training.video.starting_weights import FolderNetworks, NetworkSource, check_fit, starting_network

_GAUGED_SNR = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
GAUGED_AT_ONCE = 48
"""Clips in the network at once during validation."""
_SAMPLES_SEED = 7


class VideoDiffusionTask(DiffusionTask):
    """Trains a `VideoUNet` in latent space (see `training/task.py` for the contract of each method).

    Args:
        source: the stage's start; may hold networks without weights, for a plan.

    Raises:
        ValueError: a part is missing, or the networks and the size of the world do not fit together.
    """

    def __init__(
        self,
        config: VideoDiffusionTaskConfig,
        source: NetworkSource,
        seed: int,
        stage_index: int,
        device: torch.device,
    ) -> None:
        self.config, self.seed, self.stage_index = config, seed, stage_index
        self.vae = source.network("vae", config.autoencoder).to(device)
        self.tokenizer = source.tokenizer(config.towers)
        self.text_encoder = source.network("text_encoder", config.towers).to(device)
        unet = starting_network(source, asdict(config.network), image_branch=config.uses_image)
        check_fit(unet, self.vae, self.text_encoder, config.world.height, config.world.width)
        self.image_encoder: CLIPVisionModel | None = None
        projector: ImageProjector | None = None
        if config.uses_image:
            self.image_encoder = source.network("image_encoder", config.towers).to(device)
            projector = self._projector(source, self.image_encoder.config.hidden_size).to(device)
            with torch.no_grad():
                self._null_tokens = encode_image(self.image_encoder, null_image(1, self.image_encoder))
        for frozen in self.frozen_networks.values():
            frozen.requires_grad_(False).eval()
        super().__init__(
            config,
            unet.to(device, memory_format=torch.channels_last),
            projector,
            alphas_cumprod=alphas_cumprod(config.noise.betas()),
            prediction_type=config.noise.prediction_type,
            device=device,
        )
        choose_trained(self.unet, self.projector, config.phase)
        self.clips = self._source(config.num_clips, images=False)
        self.images = self._source(config.num_images, images=True)

    @classmethod
    def build(
        cls, config: VideoDiffusionTaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device
    ) -> VideoDiffusionTask:
        """Build the task from the folder of the stage before, if any; see `training/registry.py`."""
        return cls(config, FolderNetworks(start), seed, stage_index, device)

    @property
    def frozen_networks(self) -> dict[str, nn.Module]:
        """The frozen encoders by their name in a pipeline folder."""
        found: dict[str, nn.Module] = {"vae": self.vae, "text_encoder": self.text_encoder}
        if self.image_encoder is not None:
            found["image_encoder"] = self.image_encoder
        return found

    def batch(self, step: int, micro_step: int = 0) -> LatentClips:
        """A batch of clips or, for a share of the steps, of images."""
        config = self.config
        # One kind per step: processes that share a step would wait for each other otherwise.
        generator = make_generator(torch.device("cpu"), self.seed, self.stage_index, "kind", step)
        is_images = float(torch.rand((), generator=generator)) < config.image_share
        source = self.images if is_images else self.clips
        num_blocks = (config.image_batch_size if is_images else config.batch_size) // config.block_size
        seed = derive_seed(self.seed, self.stage_index, "order")
        # Micro steps go through orders of their own, far away from each other.
        return source.batch(step * num_blocks + micro_step * 2**40, num_blocks, seed)

    def loss(self, batch: LatentClips, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The denoising loss at one noise level per clip; in phase "image_alignment" the alignment error."""
        if self.config.phase == "image_alignment":
            return self._alignment_loss(batch, generator)
        timestep_B = self._draw_timesteps(len(batch), generator)
        noise = torch.randn(batch.latents.shape, generator=generator, device=self.device)
        captions, drops_image = self._drop_conditions(batch, generator)
        image_BQD = self._image_context(batch.image_tokens, drops_image)
        text_BLD = self._encode_text(captions)
        loss, metrics = self._training_loss(batch.latents, noise, timestep_B, text_BLD, batch.fps, image_BQD)
        if self.config.alignment_weight and image_BQD is not None:
            _, unexplained = self._alignment(batch, drops_image, image_BQD, free_rows=True)
            loss = loss + self.config.alignment_weight * unexplained
            metrics["unexplained"] = unexplained.detach()
        return loss, metrics

    def null_image_tokens(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image, unprojected."""
        return self._null_tokens

    def _alignment_loss(
        self, batch: LatentClips, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Distance of the images' tokens from their captions'; the video network does not run."""
        draw_B = torch.rand(len(batch), generator=generator, device=generator.device)
        drops_image = draw_B < self.config.image_dropout
        image_BQD = self._image_context(batch.image_tokens, drops_image)
        assert image_BQD is not None
        error, unexplained = self._alignment(batch, drops_image, image_BQD, free_rows=False)
        return error, {"unexplained": unexplained.detach()}

    def _alignment(
        self, batch: LatentClips, drops_image: Tensor, image_BQD: Tensor, *, free_rows: bool
    ) -> tuple[Tensor, Tensor]:
        """Distance of the images' tokens from those of their plain captions, or of "" where the image is dropped."""
        captions = [
            "" if drop else plain_caption(script)
            for script, drop in zip(batch.scripts, drops_image.tolist(), strict=True)
        ]
        return alignment_error(image_BQD, self._encode_text(captions), free_rows=free_rows)

    @torch.no_grad()
    def _encode_text(self, captions: list[str]) -> Tensor:
        return encode_text(self.tokenizer, self.text_encoder, captions)

    def names(self, batch: LatentClips) -> list[str]:
        """The captions."""
        return batch.captions

    def num_samples(self, batch: LatentClips) -> int:
        """Clips or images in the batch."""
        return len(batch)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The loss and the gauges, on fixed clips, noise and noise levels."""
        world = self.config.gauged_world()
        scripts = self.config.gauged_scripts(world)
        source = LatentClipSource(world, self.vae, self.image_encoder, num_clips=1, block_size=1, device=self.device)
        parts = [source._encode(scripts[first : first + 16]) for first in range(0, len(scripts), 16)]
        latents = torch.cat([latents.float() for latents, _ in parts])
        fps_B = torch.tensor([script.fps for script in scripts], device=self.device)
        snr = self.alphas_cumprod / (1 - self.alphas_cumprod)
        levels = torch.tensor([int((snr - wanted).abs().argmin()) for wanted in _GAUGED_SNR], device=self.device)
        timestep_B = levels[torch.arange(len(scripts), device=self.device) % len(levels)]
        generator = make_generator(self.device, "validation")
        noise = torch.randn(latents.shape, generator=generator, device=self.device)
        image = None
        if self.projector is not None:
            image = self.projector(torch.cat([tokens.float() for _, tokens in parts if tokens is not None]))

        def loss(indices: Sequence[int], captions: Sequence[str], images_of: Sequence[int] | None = None) -> Tensor:
            chosen = torch.tensor(list(indices), device=self.device)
            shown = chosen if images_of is None else torch.tensor(list(images_of), device=self.device)
            losses = []
            for first, part in enumerate(chosen.split(GAUGED_AT_ONCE)):
                at = slice(first * GAUGED_AT_ONCE, (first + 1) * GAUGED_AT_ONCE)
                text_BLD = self._encode_text(list(captions)[at])
                image_BQD = None if image is None else image[shown[at]]
                losses.append(
                    self._losses(latents[part], noise[part], timestep_B[part], text_BLD, fps_B[part], image_BQD)
                )
            return torch.cat(losses)

        count = self.config.num_gauged
        scores = wrong_word_gauges(world, scripts, count, loss)
        if image is not None:
            motions = [_names_motion_only(script) for script in scripts[:count]]
            scores["reading_accuracy"] = reading_accuracy(image[:count], scripts[:count], world, self._encode_text)
            scores["gauge_image"] = wrong_image_gauge(count, lambda shown: loss(range(count), motions, shown))
        return scores

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write a contact sheet of videos that the pipeline makes from held-out prompts."""
        world = SpriteWorld(replace(self.config.world.evenly(), split="held_out", seed=_SAMPLES_SEED))
        scripts = [world.script(index) for index in range(self.config.num_samples)]
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        captions = [script.caption for script in scripts]
        settings: dict[str, Any] = {
            "fps": [script.fps for script in scripts],
            "seeds": list(range(self.config.num_samples)),
            "output_type": "uint8",
        }
        if isinstance(pipeline, ImageToVideoPipeline):
            images = (world.render(scripts)[:, 0] + 1) / 2
            frames = pipeline(image=images, prompt=captions, **settings).frames
        else:
            frames = pipeline(captions, **settings).frames
        labels = [f"{caption} [{script.fps:g} fps]" for caption, script in zip(captions, scripts, strict=True)]
        write_image(folder / "samples.png", contact_sheet(list(frames), labels, scale=2), overwrite=True)

    def save_pipeline(self, folder: Path) -> None:
        """Write the trained pipeline's folder."""
        self.pipeline().save_pretrained(folder)

    def _drop_conditions(self, batch: LatentClips, generator: torch.Generator) -> tuple[list[str], Tensor]:
        """Captions with some dropped or shortened, and a mask of the images to drop."""
        count = len(batch)
        dropped = draw_dropped(count, generator, self.config)
        draw_B = torch.rand(count, generator=generator, device=generator.device)
        names_motion_only = draw_B < self.config.motion_captions
        captions = [
            "" if drop else (_names_motion_only(script) if short else script.caption)
            for script, drop, short in zip(
                batch.scripts, dropped.text.tolist(), names_motion_only.tolist(), strict=True
            )
        ]
        return captions, dropped.image

    def _projector(self, source: NetworkSource, width: int) -> Any:
        if source.has("image_projector"):
            return source.network("image_projector")
        with source.device:
            return self.config.network.image_projector(width, self.config.image_tokens)

    def _source(self, count: int, *, images: bool) -> LatentClipSource:
        world = self.config.image_world if images else self.config.world
        return LatentClipSource(
            SpriteWorld(replace(world, seed=derive_seed(self.seed, self.stage_index, "world"))),
            self.vae,
            self.image_encoder,
            num_clips=count,
            block_size=self.config.block_size,
            images=images,
            device=self.device,
        )

    def pipeline(self) -> TextToVideoPipeline | ImageToVideoPipeline:
        """Assemble the pipeline from the networks as they are."""
        config, world = self.config, self.config.world
        defaults = GenerationDefaults(
            num_frames=world.num_frames,
            height=world.height,
            width=world.width,
            fps=config.fps,
            fps_range=world.fps_range,
            num_inference_steps=config.sampling_steps,
            guidance_scale=config.guidance_scale,
            guidance_rescale=config.guidance_rescale,
            scheduler="ddim",
        )
        knowledge = Knowledge(
            subjects=world.subjects,
            motions=world.evenly().motions,
            scenes=world.scenes,
            speeds=("slow", "medium", "fast"),
        )
        parts = {
            "vae": self.vae,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer,
            "unet": self.unet,
            "scheduler": config.noise.scheduler(),
            "defaults": defaults.to_config(),
            "knowledge": knowledge.to_config(),
        }
        if self.projector is None:
            return TextToVideoPipeline(**parts)
        return ImageToVideoPipeline(**parts, image_encoder=self.image_encoder, image_projector=self.projector)


def _names_motion_only(script: SceneScript) -> str:
    """The caption of a clip whose image is given: its motion, or nothing if it is an image itself."""
    if script.image_frame is not None:
        return ""
    return motion_caption(script.motion, script.speed, np.random.default_rng(list(script.wording)))
