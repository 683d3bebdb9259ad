"""The task that trains the miniature's frame-wise autoencoder on rendered frames.

The official checkpoints use Stable Diffusion's autoencoder; the miniature trains its own, of the same class and with
the same losses: reconstruction, a KL term, a perceptual loss, and a patch-adversarial loss that starts late (Rombach
et al., arXiv 2112.10752, appendix G).
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
from videocrafter.training.miniature.discriminator import PatchDiscriminator, adversarial_losses
from videocrafter.training.miniature.perceptual import PerceptualDistance
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
        crop: side in pixels of the squares that are cut out of the frames at random and trained on; None trains on
            whole frames. Smaller squares give more of them for the same computation.
        batch_size: frames per batch.
        edge_weight: weight of the error of differences between neighbouring pixels, which keeps edges sharp.
        kl_weight: weight of the mean KL term per latent value, which keeps latents near a unit Gaussian.
        perceptual_weight: weight of the distance between features of a pretrained network (`perceptual.py`); 0 needs
            no such network.
        adversarial_weight: weight of the term that makes a patch discriminator take reconstructions for real frames;
            0 trains no discriminator. Give it to a late stage: before reconstructions are close, the discriminator
            wins at once and teaches nothing.
        latent_noise: largest standard deviation of the noise that is added to latents before decoding, as a fraction
            of theirs. The decoder learns to make clean frames of imprecise latents, such as a denoiser makes.
        train_encoder: False trains only the decoder; latents then stay what they are.
        num_validation: validation frames per size.
    """

    latent_channels: int = 16
    patch: int = 4
    block_out_channels: tuple[int, ...] = (64, 96)
    norm_groups: int = 16
    sizes: tuple[int, ...] = (64, 64, 32)
    crop: int | None = None
    batch_size: int = 48
    edge_weight: float = 0.0
    kl_weight: float = 3e-4
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    latent_noise: float = 0.0
    train_encoder: bool = True
    num_validation: int = 96

    def validation_metrics(self) -> list[str]:
        """The peak signal-to-noise ratio and the edge energy at each size."""
        return [f"{metric}_{size}" for size in dict.fromkeys(self.sizes) for metric in ("psnr", "edges")]


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
        if not config.train_encoder:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self.perceptual = PerceptualDistance().to(device) if config.perceptual_weight else None
        self.discriminator = PatchDiscriminator().to(device) if config.adversarial_weight else None
        self.worlds = {size: _world(size, derive_seed(seed, stage_index, size)) for size in set(config.sizes)}

    def modules(self) -> Mapping[str, nn.Module]:
        """The autoencoder, and the discriminator if there is one."""
        modules: dict[str, nn.Module] = {"vae": self.vae}
        if self.discriminator is not None:
            modules["discriminator"] = self.discriminator
        return modules

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All parameters, or all but the encoder's."""
        return [
            parameter
            for module in self.modules().values()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def batch(self, step: int, micro_step: int = 0) -> Tensor:
        """Frames `[B, 3, H, W]`, different in every step."""
        config = self.config
        world = self.worlds[config.sizes[step % len(config.sizes)]]
        first = (step * 64 + micro_step) * config.batch_size
        scripts = [world.image_script(first + offset) for offset in range(config.batch_size)]
        frames = world.render(scripts)[:, 0]
        if config.crop is not None and config.crop < frames.shape[-1]:
            frames = _random_crops(frames, config.crop, derive_seed(self.seed, self.stage_index, first))
        return frames.to(self.device)

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Mean absolute and mean squared error, the KL term, and the terms that the config adds."""
        config = self.config
        posterior = self.vae.encode(to_patches(self.vae, batch)).latent_dist
        latents = self._noisy(posterior.sample(generator), generator)
        reconstruction = from_patches(self.vae, self.vae.decode(latents).sample.float())
        squared = nn.functional.mse_loss(reconstruction, batch)
        absolute = nn.functional.l1_loss(reconstruction, batch)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        edges = _edge_error(reconstruction, batch)
        loss = absolute + 2 * squared + config.edge_weight * edges + config.kl_weight * kl
        metrics = {"mse": squared.detach(), "kl": kl.detach()}
        if self.perceptual is not None:
            perceptual = self.perceptual(reconstruction, batch)
            loss = loss + config.perceptual_weight * perceptual
            metrics["perceptual"] = perceptual.detach()
        if self.discriminator is not None:
            fooling, telling = adversarial_losses(self.discriminator, reconstruction, batch)
            # One optimizer takes both: no gradient of one term reaches the parameters of the other.
            loss = loss + config.adversarial_weight * fooling + telling
            metrics |= {"fooling": fooling.detach(), "telling": telling.detach()}
        return loss, metrics

    def _noisy(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        if not self.config.latent_noise:
            return latents
        strength = torch.rand(len(latents), 1, 1, 1, generator=generator, device=latents.device)
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        std = self.config.latent_noise * latents.detach().float().std()
        return latents + (std * strength * noise).to(latents.dtype)

    def names(self, batch: Tensor) -> list[str]:
        """None: the step identifies the frames."""
        return []

    def num_samples(self, batch: Tensor) -> int:
        """Frames in the batch."""
        return len(batch)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Measure held-out frames at each size.

        The peak signal-to-noise ratio is in dB, with a peak of 2. The edge energy is that of reconstructions
        relative to real frames: below 1 they are blurred.
        """
        scores = {}
        for size in self.worlds:
            frames = self._validation_frames(size, self.config.num_validation)
            reconstructions = self._reconstruct(frames)
            error = (reconstructions - frames).square().mean(dim=(1, 2, 3, 4))
            scores[f"psnr_{size}"] = float((10 * torch.log10(4 / error)).mean())
            scores[f"edges_{size}"] = float(_edge_error(reconstructions, 0) / _edge_error(frames, 0))
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


def _random_crops(frames: Tensor, side: int, seed: int) -> Tensor:
    """Cut one square out of each frame [N, 3, H, W]."""
    height, width = frames.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    tops = torch.randint(height - side + 1, (len(frames),), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (len(frames),), generator=generator).tolist()
    return torch.stack(
        [frame[:, top : top + side, left : left + side] for frame, top, left in zip(frames, tops, lefts, strict=True)]
    )


def _edge_error(reconstruction: Tensor, frames: Tensor | float) -> Tensor:
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
