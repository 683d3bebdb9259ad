"""A training loop as in diffusers' examples, without optimisations, for comparison.

It trains `diffusers.UNet3DConditionModel` with the data, autoencoder, text encoder, batch size, frames and latents of
the miniature's stage: fp32, default memory layout, torch's AdamW with default options, no EMA. Text encoder and
autoencoder run in every pass.
"""

from __future__ import annotations

import time
from dataclasses import asdict

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet3DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from benchmarks.turns import Readings
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.models.autoencoder import encode_video
from videocrafter.models.text_encoder import encode_text
from videocrafter.models.unet import VideoUNet
from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.diffusion import VideoDiffusionTaskConfig
from videocrafter.training.video.starting_weights import part_folder

_KEPT_CLIPS = 64


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def network_like(config: VideoDiffusionTaskConfig) -> UNet3DConditionModel:
    """Build diffusers' video network with as many layers and as much attention as the miniature's.

    Its layers have more parameters, so the same widths would make it larger. The first level, which does most of the
    work, has the same width; the others are as wide as the total number of parameters allows.
    """
    with torch.device("meta"):
        at_most = num_parameters(VideoUNet(**asdict(config.network)))
    width, groups = config.network.model_channels, config.network.norm_groups
    widest = width * max(config.network.channel_mult)
    for other in range(widest, width - 1, -groups):
        widths = (width, *(other for _ in network_levels(config)[1:]))
        with torch.device("meta"):
            count = num_parameters(_network(config, widths))
        if count <= at_most or other == width:
            return _network(config, widths)
    raise AssertionError("unreachable: the narrowest network is always accepted")


def network_levels(config: VideoDiffusionTaskConfig) -> list[str]:
    """Return the prefix of diffusers' block names at each level: with attention, or without."""
    network = config.network
    return ["CrossAttn" if level in network.attention_levels else "" for level in range(len(network.channel_mult))]


def _network(config: VideoDiffusionTaskConfig, widths: tuple[int, ...]) -> UNet3DConditionModel:
    network, levels = config.network, network_levels(config)
    return UNet3DConditionModel(
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        down_block_types=tuple(f"{level}DownBlock3D" for level in levels),
        up_block_types=tuple(f"{level}UpBlock3D" for level in reversed(levels)),
        block_out_channels=widths,
        layers_per_block=network.num_res_blocks,
        cross_attention_dim=network.context_dim,
        attention_head_dim=network.head_dim,
        norm_num_groups=network.norm_groups,
    )


class PlainLoop:
    """The loop, ready to train. Its clips are rendered beforehand, so it spends no time on reading data."""

    def __init__(self, stage: StageConfig) -> None:
        config = stage.task
        assert isinstance(config, VideoDiffusionTaskConfig)
        torch.manual_seed(0)
        self._stage, self._config = stage, config
        self._vae = AutoencoderKL.from_pretrained(part_folder(None, config.autoencoder, "vae"))
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(part_folder(None, config.towers, "tokenizer"))
        self._text_encoder = CLIPTextModel.from_pretrained(
            part_folder(None, config.towers, "text_encoder"), dtype=torch.float32
        )
        self._vae.requires_grad_(False)
        self._text_encoder.requires_grad_(False)
        self.network = network_like(config)
        self.network.train()
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=stage.optimizer.lr)
        self._scheduler = DDPMScheduler(
            trained_betas=config.noise.betas().tolist(), prediction_type="v_prediction", clip_sample=False
        )
        world = SpriteWorld(config.world)
        scripts = [world.script(index) for index in range(max(_KEPT_CLIPS, config.batch_size))]
        self._captions = [script.caption for script in scripts]
        self._pixels = world.render(scripts)
        self._passes = 0

    def run(self, steps: int) -> Readings:
        """Take optimizer steps and return the samples per second."""
        accumulate = self._stage.optimizer.accumulate
        started = time.perf_counter()
        for _ in range(steps):
            for _ in range(accumulate):
                (self._loss() / accumulate).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
        samples = steps * accumulate * self._config.batch_size
        return {"samples/s": samples / (time.perf_counter() - started)}

    def _loss(self) -> Tensor:
        count = self._config.batch_size
        chosen = [(self._passes * count + index) % len(self._captions) for index in range(count)]
        self._passes += 1
        with torch.no_grad():
            text = encode_text(self._tokenizer, self._text_encoder, [self._captions[index] for index in chosen])
            pixels = self._pixels[chosen]
            latents = encode_video(self._vae, pixels, chunk=pixels.shape[0] * pixels.shape[1])
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, self._scheduler.config.num_train_timesteps, (count,))
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        predicted = self.network(noisy, timesteps, text).sample
        return nn.functional.mse_loss(predicted, self._scheduler.get_velocity(latents, noise, timesteps))
