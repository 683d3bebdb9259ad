"""The networks of a video pipeline without weights, and what training and sampling call them with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from videocrafter.diffusion.objective import add_noise, diffusion_loss
from videocrafter.models.autoencoder import decode_video, encode_posterior, spatial_factor
from videocrafter.models.image_encoder import encode_image
from videocrafter.models.unet import VideoUNet
from videocrafter.training.planning.start import Start
from videocrafter.training.planning.work import META, Call, Pass

DECODED_FRAMES = 8
"""Frames that pipelines decode at once."""
_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class VideoNetworks:
    """A pipeline's networks on the meta device. Shapes are (B, T, H, W) of a batch's pixels."""

    unet: VideoUNet
    projector: nn.Module | None
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    image_encoder: CLIPVisionModel | None = None

    @classmethod
    def of(cls, start: Start, *, base: torch.dtype, frozen: torch.dtype) -> VideoNetworks:
        """A start's networks.

        Args:
            base, frozen: types of the video network, and of those that never learn.
        """
        unet = cast("VideoUNet", _in_type(start.network("unet"), base).to(memory_format=torch.channels_last))
        parts = ("vae", "text_encoder", *(("image_encoder",) if start.takes_image else ()))
        never: dict[str, Any] = {
            part: _in_type(start.network(part), frozen).requires_grad_(False).eval() for part in parts
        }
        return cls(unet=unet, projector=start.network("image_projector") if start.takes_image else None, **never)

    @property
    def frozen(self) -> dict[str, nn.Module]:
        """Those that never learn, by name."""
        found: dict[str, nn.Module] = {"vae": self.vae, "text_encoder": self.text_encoder}
        if self.image_encoder is not None:
            found["image_encoder"] = self.image_encoder
        return found

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The video network, and the projector where there is one."""
        found: dict[str, nn.Module] = {"unet": self.unet}
        if self.projector is not None:
            found["image_projector"] = self.projector
        return found

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along a side of a latent."""
        return spatial_factor(self.vae)

    def numbers_kept(self, shape: tuple[int, int, int, int]) -> int:
        """Numbers in the latents of one sample, and in the tokens of its image."""
        tokens = 0 if self.image_encoder is None else self._image_tokens * self.image_encoder.config.hidden_size
        return math.prod(self._latent_shape(shape)[1:]) + tokens

    def encoders(self, shape: tuple[int, int, int, int], chunk: int) -> dict[str, Call]:
        """What the frozen networks do for a batch."""
        count, length, height, width = shape
        together = min(chunk, count * length)
        numbers = 3 * math.prod(shape)
        dtype = self.vae.dtype
        copied = 0 if dtype == torch.float32 else dtype.itemsize

        def latents() -> object:
            pixels = torch.empty(1, together, 3, height, width, device=META, dtype=dtype)
            return encode_posterior(self.vae, pixels, chunk=together)

        def text() -> object:
            ids = torch.empty(count, self._text_length, dtype=torch.long, device=META)
            return self.text_encoder(input_ids=ids).last_hidden_state

        found = {
            "vae": Call(run=latents, times=count * length / together, held=numbers * (_FLOAT_BYTES + copied)),
            "text_encoder": Call(run=text, held=numbers * _FLOAT_BYTES),
        }
        if self.image_encoder is not None:
            tower = self.image_encoder

            def image() -> object:
                return encode_image(tower, torch.empty(count, 3, height, width, device=META))

            found["image_encoder"] = Call(run=image, held=numbers * _FLOAT_BYTES)
        return found

    def denoising_pass(
        self,
        name: str,
        share: float,
        shape: tuple[int, int, int, int],
        encoders: Mapping[str, Call],
        *,
        held: int = 0,
        from_input: bool = False,
    ) -> Pass:
        """Noise, prediction and loss of a batch, as the tasks compute them.

        Args:
            from_input: whether gradients go all the way back to the noisy latents.
        """

        def loss() -> Tensor:
            count = shape[0]
            latents, noise = (torch.empty(*self._latent_shape(shape), device=META) for _ in range(2))
            alphas_B = torch.empty(count, device=META)
            timestep_B = torch.empty(count, dtype=torch.long, device=META)
            noisy, dtype = add_noise(latents, noise, alphas_B), self.unet.dtype
            if from_input:
                noisy.requires_grad_()
            text_BLD = torch.empty(count, self._text_length, self.unet.config["context_dim"], device=META)
            image_BQD = self._image_context(count)
            prediction = self.unet(
                noisy.to(dtype),
                timestep_B,
                text_BLD.to(dtype),
                torch.empty(count, device=META),
                None if image_BQD is None else image_BQD.to(dtype),
            )
            return diffusion_loss(prediction.float(), latents, noise, alphas_B, "epsilon").mean()

        return Pass(name=name, share=share, num_samples=shape[0], loss=loss, encoders=encoders, held=held)

    def alignment_pass(self, name: str, share: float, count: int, encoders: Mapping[str, Call]) -> Pass:
        """The projector alone, against the text's tokens."""

        def loss() -> Tensor:
            image_BQD = self._image_context(count)
            assert image_BQD is not None
            return nn.functional.mse_loss(image_BQD.float(), torch.empty(image_BQD.shape, device=META))

        return Pass(name=name, share=share, num_samples=count, loss=loss, encoders=encoders)

    def samples(self, shape: tuple[int, int, int, int], branches: int) -> dict[str, Call]:
        """Making videos: a call of the denoiser, and decoding."""
        count, length, height, width = shape
        together = (count * branches, length, height, width)

        def denoise() -> object:
            dtype = self.unet.dtype
            batch = together[0]
            image_BQD = self._image_context(batch)
            return self.unet(
                torch.empty(*self._latent_shape(together), device=META, dtype=dtype),
                torch.empty(batch, dtype=torch.long, device=META),
                torch.empty(batch, self._text_length, self.unet.config["context_dim"], device=META, dtype=dtype),
                torch.empty(batch, device=META),
                None if image_BQD is None else image_BQD.to(dtype),
            )

        def decode() -> object:
            frames = (1, min(DECODED_FRAMES, length), height, width)
            latents = torch.empty(*self._latent_shape(frames), device=META, dtype=self.vae.dtype)
            return decode_video(self.vae, latents, chunk=DECODED_FRAMES)

        # All frames are kept, and joined.
        pixels = 2 * 3 * math.prod(shape) * self.vae.dtype.itemsize
        return {"denoising": Call(run=denoise), "decoding": Call(run=decode, held=pixels)}

    @property
    def _text_length(self) -> int:
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def _image_tokens(self) -> int:
        assert self.image_encoder is not None
        config = self.image_encoder.config
        return int((config.image_size // config.patch_size) ** 2 + 1)

    def _latent_shape(self, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int, int]:
        count, length, height, width = shape
        factor = self.pixels_per_latent
        return count, int(self.unet.config["in_channels"]), length, height // factor, width // factor

    def _image_context(self, count: int) -> Tensor | None:
        if self.projector is None or self.image_encoder is None:
            return None
        dtype = next(self.projector.parameters()).dtype
        width = self.image_encoder.config.hidden_size
        context: Tensor = self.projector(torch.empty(count, self._image_tokens, width, device=META, dtype=dtype))
        return context


def _in_type(network: nn.Module, dtype: torch.dtype) -> Any:
    """The network in a type, without diffusers' warning that loading it in that type would be better."""
    return nn.Module.to(network, dtype)
