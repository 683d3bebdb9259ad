"""The video network of the miniature: text to video, and image to video in the paper's two phases.

Text to video (paper §3.1) learns from images and videos jointly; image to video (§3.2) starts from it, trains the
image projector and the new W'k, W'v first, then freezes both mappings and trains the video model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerFast

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld, motion_caption
from videocrafter.diffusion.objective import add_noise, diffusion_loss
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
from videocrafter.training.miniature.gauges import gauge_scripts, wrong_image_gauge, wrong_word_gauges
from videocrafter.training.miniature.image_alignment import alignment_error, plain_caption, reading_accuracy
from videocrafter.training.miniature.latent_clips import LatentClips, LatentClipSource
from videocrafter.training.randomness import derive_seed, make_generator
from videocrafter.training.video.diffusion_step import draw_dropped, draw_timesteps
from videocrafter.training.video.phases import choose_trained, network_input
from videocrafter.training.video.starting_weights import check_fit, part_folder, starting_network

_GAUGED_SNR = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
_SAMPLES_SEED = 7


class VideoDiffusionTask:
    """Trains a `VideoUNet` in latent space (see `training/task.py` for what each method promises)."""

    shardable_modules = ("unet",)

    def __init__(
        self,
        config: VideoDiffusionTaskConfig,
        start: Path | None,
        seed: int,
        stage_index: int,
        device: torch.device,
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        self.uses_image = config.uses_image
        self.vae = AutoencoderKL.from_pretrained(part_folder(start, config.autoencoder, "vae")).to(device)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(part_folder(start, config.towers, "tokenizer"))
        # Models that the package brings are stored in half precision.
        self.text_encoder = CLIPTextModel.from_pretrained(
            part_folder(start, config.towers, "text_encoder"), dtype=torch.float32
        ).to(device)
        self.unet = starting_network(start, asdict(config.network), image_branch=self.uses_image).to(
            device, memory_format=torch.channels_last
        )
        check_fit(self.unet, self.vae, self.text_encoder, config.world.height, config.world.width)
        self.image_encoder: CLIPVisionModel | None = None
        self.projector: ImageProjector | None = None
        if self.uses_image:
            self._add_image_branch(start)
        for frozen in (self.vae, self.text_encoder, self.image_encoder):
            if frozen is not None:
                frozen.requires_grad_(False).eval()
        choose_trained(self.unet, self.projector, config.phase)
        self.alphas_cumprod = alphas_cumprod(config.noise.betas()).to(device)
        self.clips = self._source(config.num_clips, images=False)
        self.images = self._source(config.num_images, images=True)

    def modules(self) -> Mapping[str, nn.Module]:
        """The video network, and the image projector in the image phases."""
        modules: dict[str, nn.Module] = {"unet": self.unet}
        if self.projector is not None:
            modules["image_projector"] = self.projector
        return modules

    def parameter_groups(self) -> list[nn.Parameter]:
        """What this phase trains."""
        return [p for module in self.modules().values() for p in module.parameters() if p.requires_grad]

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
        """The denoising loss at one noise level per clip; while aligning, how far the image is from its caption."""
        if self.config.phase == "image_alignment":
            return self._alignment_loss(batch, generator)
        count = len(batch)
        timestep_B = draw_timesteps(
            count, len(self.alphas_cumprod), generator, self.device, self.config.timestep_power
        )
        noise = torch.randn(batch.latents.shape, generator=generator, device=self.device)
        captions, drops_image = self._drop_conditions(batch, generator)
        image_BQD = self._image_context(batch, drops_image)
        loss = self._loss(batch.latents, noise, timestep_B, captions, batch.fps, image_BQD).mean()
        kind = "loss_images" if batch.latents.shape[2] == 1 else "loss_clips"
        metrics = {kind: loss.detach()}
        if self.config.alignment_weight and image_BQD is not None:
            _, unexplained = self._alignment(batch, drops_image, image_BQD, free_rows=True)
            loss = loss + self.config.alignment_weight * unexplained
            metrics["unexplained"] = unexplained.detach()
        return loss, metrics

    def _alignment_loss(
        self, batch: LatentClips, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """How far the images' tokens are from their captions'; the video network is not run."""
        drops_image = torch.rand(len(batch), generator=generator, device=self.device) < self.config.image_dropout
        image_BQD = self._image_context(batch, drops_image)
        assert image_BQD is not None
        error, unexplained = self._alignment(batch, drops_image, image_BQD, free_rows=False)
        return error, {"unexplained": unexplained.detach()}

    def _alignment(
        self, batch: LatentClips, drops_image: Tensor, image_BQD: Tensor, *, free_rows: bool
    ) -> tuple[Tensor, Tensor]:
        """How far the images' tokens are from their plain captions'; a dropped image's from the empty caption's."""
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
        """Gauges of how much the network uses of each word, on fixed clips, noise and noise levels."""
        world = self.config.gauged_world()
        scripts = gauge_scripts(world, self.config.num_gauged)
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
            losses = [
                self._loss(
                    latents[part],
                    noise[part],
                    timestep_B[part],
                    list(captions)[first : first + 48],
                    fps_B[part],
                    None if image is None else image[shown[first : first + 48]],
                )
                for first, part in zip(range(0, len(chosen), 48), chosen.split(48), strict=True)
            ]
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
        """Write a contact sheet of held-out prompts, made by the pipeline itself."""
        world = SpriteWorld(replace(self.config.world, split="held_out", seed=_SAMPLES_SEED))
        scripts = [world.script(index) for index in range(self.config.num_samples)]
        pipeline = self._pipeline()
        pipeline.set_progress_bar_config(disable=True)
        captions = [script.caption for script in scripts]
        settings: dict[str, Any] = {
            "fps": [script.fps for script in scripts],
            "seeds": list(range(self.config.num_samples)),
        }
        if isinstance(pipeline, ImageToVideoPipeline):
            frames = pipeline(list(world.render(scripts)[:, 0]), captions, **settings).frames
        else:
            frames = pipeline(captions, **settings).frames
        labels = [f"{caption} [{script.fps:g} fps]" for caption, script in zip(captions, scripts, strict=True)]
        write_image(folder / "samples.png", contact_sheet(list(frames), labels, scale=2), overwrite=True)

    def save_pipeline(self, folder: Path) -> None:
        """Write the finished pipeline's folder."""
        self._pipeline().save_pretrained(folder)

    def _loss(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep_B: Tensor,
        captions: list[str],
        fps_B: Tensor,
        image_BQD: Tensor | None,
    ) -> Tensor:
        alphas_B = self.alphas_cumprod[timestep_B]
        text_BLD = self._encode_text(captions)
        noisy = network_input(add_noise(latents, noise, alphas_B), self.config.phase)
        prediction = self.unet(noisy, timestep_B, text_BLD, fps_B, image_BQD)
        return diffusion_loss(prediction.float(), latents, noise, alphas_B, self.config.noise.prediction_type)

    def _drop_conditions(self, batch: LatentClips, generator: torch.Generator) -> tuple[list[str], Tensor]:
        """Captions with some dropped, and which images are dropped, for classifier-free guidance."""
        config = self.config
        dropped = draw_dropped(
            len(batch),
            generator,
            self.device,
            text=config.text_dropout,
            image=config.image_dropout,
            both=config.both_dropout,
        )
        names_motion_only = torch.rand(len(batch), generator=generator, device=self.device) < config.motion_captions
        captions = [
            "" if drop else (_names_motion_only(script) if short else script.caption)
            for script, drop, short in zip(
                batch.scripts, dropped.text.tolist(), names_motion_only.tolist(), strict=True
            )
        ]
        return captions, dropped.image

    def _image_context(self, batch: LatentClips, drops_image: Tensor) -> Tensor | None:
        if self.projector is None or batch.image_tokens is None:
            return None
        tokens_BMD = torch.where(drops_image[:, None, None], self._null_tokens, batch.image_tokens)
        return self.projector(tokens_BMD)

    def _add_image_branch(self, start: Path | None) -> None:
        config = self.config
        self.image_encoder = CLIPVisionModel.from_pretrained(
            part_folder(start, config.towers, "image_encoder"), dtype=torch.float32
        ).to(self.device)
        if start is not None and (start / "image_projector").is_dir():
            projector = ImageProjector.from_pretrained(start / "image_projector")
        else:
            projector = config.network.image_projector(self.image_encoder.config.hidden_size)
        self.projector = projector.to(self.device)
        with torch.no_grad():
            self._null_tokens = encode_image(self.image_encoder, null_image(1, self.image_encoder))

    def _source(self, count: int, *, images: bool) -> LatentClipSource:
        world = SpriteWorld(replace(self.config.world, seed=derive_seed(self.seed, self.stage_index, "world")))
        return LatentClipSource(
            world,
            self.vae,
            self.image_encoder,
            num_clips=count,
            block_size=self.config.block_size,
            images=images,
            device=self.device,
        )

    def _pipeline(self) -> TextToVideoPipeline | ImageToVideoPipeline:
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
            motions=world.motions,
            scenes=world.scene_names,
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
    """What is said of a clip whose first frame is given; an image has no motion to speak of."""
    if script.image_frame is not None:
        return ""
    return motion_caption(script.motion, script.speed, np.random.default_rng(list(script.wording)))
