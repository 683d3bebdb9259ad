"""The task that trains the miniature's frame-wise autoencoder: reconstruction of rendered frames with a KL term.

The official checkpoints use Stable Diffusion's autoencoder; the miniature trains its own, of the same class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from videocrafter.data.sprite_world.world import PLAIN_SCENES, SCENES, SpriteWorld, SpriteWorldConfig
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.models.autoencoder import decode_video, encode_video, from_patches, to_patches
from videocrafter.training.randomness import derive_seed
from videocrafter.training.video.starting_weights import FolderNetworks

_VALIDATION_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class AutoencoderTaskConfig:
    """Architecture and training settings of the autoencoder.

    Attributes:
        latent_channels: channels of a latent.
        patch: side of the pixel patches that the network takes as input channels. Convolutions at full resolution
            would take most of the time and learn slowly.
        block_out_channels: channels of each level; with patches of 4 and two levels, latents are 8 times smaller.
        norm_groups: groups of every group norm.
        sizes: sides in pixels at which the world is rendered; steps use them in turn.
        batch_size: frames per batch.
        edge_weight: weight of the error of differences between neighbouring pixels, which keeps edges sharp.
        kl_weight: weight of the mean KL term per latent value, which keeps latents near a unit Gaussian.
        num_validation: validation frames per size.
    """

    latent_channels: int = 16
    patch: int = 4
    block_out_channels: tuple[int, ...] = (64, 96)
    norm_groups: int = 16
    sizes: tuple[int, ...] = (64, 64, 32)
    batch_size: int = 48
    edge_weight: float = 0.0
    kl_weight: float = 3e-4
    num_validation: int = 96

    def validation_metrics(self) -> list[str]:
        """The peak signal-to-noise ratio at each size."""
        return [f"psnr_{size}" for size in dict.fromkeys(self.sizes)]


class AutoencoderTask:
    """Trains an `AutoencoderKL` (see `training/task.py` for the contract of each method).

    Args:
        start: pipeline folder whose `vae` is trained further; None begins with random weights.
    """

    def __init__(
        self,
        config: AutoencoderTaskConfig,
        start: Path | None,
        seed: int,
        stage_index: int,
        device: torch.device,
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        vae = _new_autoencoder(config) if start is None else FolderNetworks(start).network("vae")
        self.vae = vae.to(device)
        self.worlds = {size: _world(size, derive_seed(seed, stage_index, size)) for size in set(config.sizes)}

    def modules(self) -> Mapping[str, nn.Module]:
        """The autoencoder alone."""
        return {"vae": self.vae}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.vae.parameters())

    def batch(self, step: int, micro_step: int = 0) -> Tensor:
        """Frames `[B, 3, H, W]`, different in every step."""
        config = self.config
        world = self.worlds[config.sizes[step % len(config.sizes)]]
        first = (step * 64 + micro_step) * config.batch_size
        scripts = [world.image_script(first + offset) for offset in range(config.batch_size)]
        return world.render(scripts)[:, 0].to(self.device)

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Mean absolute and mean squared error, and the KL term."""
        posterior = self.vae.encode(to_patches(self.vae, batch)).latent_dist
        reconstruction = from_patches(self.vae, self.vae.decode(posterior.sample(generator)).sample.float())
        squared = nn.functional.mse_loss(reconstruction, batch)
        absolute = nn.functional.l1_loss(reconstruction, batch)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        edges = _edge_error(reconstruction, batch)
        loss = absolute + 2 * squared + self.config.edge_weight * edges + self.config.kl_weight * kl
        return loss, {"mse": squared.detach(), "kl": kl.detach()}

    def names(self, batch: Tensor) -> list[str]:
        """None: the step identifies the frames."""
        return []

    def num_samples(self, batch: Tensor) -> int:
        """Frames in the batch."""
        return len(batch)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Peak signal-to-noise ratio (dB, peak 2) of held-out frames, at each size."""
        scores = {}
        for size in self.worlds:
            frames = self._validation_frames(size, self.config.num_validation)
            error = (self._reconstruct(frames) - frames).square().mean(dim=(1, 2, 3, 4))
            scores[f"psnr_{size}"] = float((10 * torch.log10(4 / error)).mean())
        return scores

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write frames and their reconstructions side by side."""
        for size in self.worlds:
            frames = self._validation_frames(size, 8)
            pairs = torch.cat([frames, self._reconstruct(frames)], dim=1)
            shown = ((pairs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
            write_image(folder / f"reconstructions-{size}.png", contact_sheet(list(shown), scale=3), overwrite=True)

    @torch.no_grad()
    def save_pipeline(self, folder: Path) -> None:
        """Write `vae/` with the scaling factor that brings latents to unit variance."""
        latents = torch.cat(
            [
                encode_video(self.vae, self._validation_frames(size, self.config.num_validation), sample=False)
                .div(self.vae.config.scaling_factor)
                .flatten()
                for size in self.worlds
            ]
        )
        self.vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        self.vae.save_pretrained(folder / "vae")

    def _reconstruct(self, pixels_BTCHW: Tensor) -> Tensor:
        latents = encode_video(self.vae, pixels_BTCHW, sample=False, chunk=32)
        return decode_video(self.vae, latents, chunk=32).float().clamp(-1, 1)

    def _validation_frames(self, size: int, count: int) -> Tensor:
        world = _world(size, _VALIDATION_SEED)
        return world.render([world.image_script(index) for index in range(count)]).to(self.device)


def _edge_error(reconstruction: Tensor, frames: Tensor) -> Tensor:
    """Mean absolute error of the differences between horizontal and vertical neighbours."""
    error = reconstruction - frames
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def _world(size: int, seed: int) -> SpriteWorld:
    return SpriteWorld(
        SpriteWorldConfig(height=size, width=size, scenes=SCENES + PLAIN_SCENES, position_jitter=0.25, seed=seed)
    )


def _new_autoencoder(config: AutoencoderTaskConfig) -> AutoencoderKL:
    levels = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        latent_channels=config.latent_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
