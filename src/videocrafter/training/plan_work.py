"""What a stage computes, on networks without weights: its passes, the frozen networks before them, its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from videocrafter.diffusion.objective import add_noise, diffusion_loss
from videocrafter.models.autoencoder import decode_video, encode_posterior, spatial_factor
from videocrafter.models.image_encoder import encode_image
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS
from videocrafter.training.config import StageConfig
from videocrafter.training.lora import add_lora
from videocrafter.training.miniature import new_projector
from videocrafter.training.phases import choose_trained
from videocrafter.training.plan_start import Start, build_network, named_start, with_image_branch
from videocrafter.training.starting_weights import part_folder
from videocrafter.training.tasks.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.tasks.clip_diffusion import ClipDiffusionTaskConfig
from videocrafter.training.tasks.contrastive import CaptionedClips, ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.tasks.judge import JudgeTask, JudgeTaskConfig
from videocrafter.training.tasks.video_diffusion import VideoDiffusionTaskConfig

META = torch.device("meta")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_DECODED_FRAMES = 8
_MOST_GAUGED = 48
_FLOAT_BYTES, _HALF_BYTES = 4, 2


@dataclass(frozen=True, kw_only=True)
class Call:
    """A computation without gradients.

    Attributes:
        run: makes its inputs and calls the network.
        times: how often, for one batch.
        held: bytes that are there beside what `run` makes.
    """

    run: Callable[[], object]
    times: float = 1.0
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        name: "clips" or "images".
        share: of the passes that are of this kind.
        num_samples: in the batch.
        loss: makes the batch and computes its loss.
        encoders: the frozen networks' part, by network.
        held: bytes of the batch itself.
    """

    name: str
    share: float
    num_samples: int
    loss: Callable[[], Tensor]
    encoders: Mapping[str, Call] = field(default_factory=dict)
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage's networks, in the types in which they are kept, and what is done with them.

    Attributes:
        trained: networks that learn, at least in part, and those that are saved with them.
        frozen: networks before them.
        passes: the kinds of passes.
        samples: what making samples calls, one after the other.
        checkpointed: whether the layers of the video network are computed again in the backward pass.
        data_bytes: what is kept of the data in this process.
        num_workers: processes that read data.
        leaves: what the next stage starts from; None if that does not depend on this one.
    """

    trained: Mapping[str, nn.Module]
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    passes: tuple[Pass, ...]
    samples: Mapping[str, Call] = field(default_factory=dict)
    checkpointed: bool = False
    data_bytes: int = 0
    num_workers: int = 0
    leaves: Start | None = None


def stage_work(stage: StageConfig, start: Start | None) -> StageWork:
    """What a stage computes, starting from `start`.

    Raises:
        ValueError: settings that do not go together, or a task that is not known here.
    """
    for kind, describe in _DESCRIBED.items():
        if isinstance(stage.task, kind):
            return describe(stage, start)
    raise ValueError(f"stage {stage.name!r} trains by {type(stage.task).__name__}, which cannot be planned")


# Clips from files


def _clip_work(stage: StageConfig, start: Start | None) -> StageWork:
    config = cast("ClipDiffusionTaskConfig", stage.task)
    assert start is not None
    if config.phase in ("image_mapping", "image_to_video") and not start.takes_image:
        start = with_image_branch(start, config.image_tower, config.image_queries)
    unet, projector = _trained_networks(start, _DTYPES["fp32" if config.lora is None else config.base_weights])
    if config.lora is None:
        choose_trained(unet, projector, config.phase)
    else:
        for module in (unet, projector):
            if module is not None:
                module.requires_grad_(False)
        add_lora(unet, config.lora)
    frozen = _frozen_networks(start, _DTYPES[config.frozen_weights])
    cutting = config.data.cutting
    height, width = max(cutting.sizes, key=math.prod)
    frames = max(cutting.sampling.lengths)
    networks = _VideoNetworks(unet=unet, projector=projector, **frozen)
    multiple = networks.pixels_per_latent * unet.size_multiple
    wrong = [size for size in cutting.sizes if size[0] % multiple or size[1] % multiple]
    if wrong:
        raise ValueError(
            f"task.data.cutting gives samples of {wrong[0][1]}x{wrong[0][0]} pixels; this model takes multiples of "
            f"{multiple}: set height and width, or size_step, to them"
        )
    share = config.data.image_share or 0.0
    batches = {
        "clips": (1 - share, (config.data.batch_size, frames)),
        "images": (share, (config.data.image_batch_size or config.data.batch_size, 1)),
    }
    passes = []
    for name, (of_all, (count, length)) in batches.items():
        if of_all > 0:
            shape = (count, length, height, width)
            encoders = networks.encoders(shape, chunk=config.encoded_frames)
            pixels = _FLOAT_BYTES * 3 * math.prod(shape)
            passes.append(networks.denoising_pass(name, of_all, shape, encoders, held=pixels))
    num_videos = max(1, len(config.samples.prompts) or config.samples.count)
    scale = config.samples.guidance_scale
    guided = (start.guidance_scale if scale is None else scale) > 1
    return StageWork(
        trained=networks.trained,
        frozen=frozen,
        passes=tuple(passes),
        samples=networks.samples((num_videos, frames, height, width), branches=2 if guided else 1)
        if stage.sample_every
        else {},
        checkpointed=config.gradient_checkpointing,
        num_workers=config.data.num_workers,
        leaves=start,
    )


# The miniature


def _miniature_work(stage: StageConfig, start: Start | None) -> StageWork:
    config = cast("VideoDiffusionTaskConfig", stage.task)
    start = _miniature_start(config, start)
    unet, projector = _trained_networks(start, torch.float32)
    choose_trained(unet, projector, config.phase)
    frozen = _frozen_networks(start, torch.float32)
    networks = _VideoNetworks(unet=unet, projector=projector, **frozen)
    world, optimizer = config.world, stage.optimizer
    kinds = {
        "clips": (1 - config.image_share, config.batch_size, world.num_frames, config.num_clips),
        "images": (config.image_share, config.image_batch_size, 1, config.num_images),
    }
    passes, data_bytes = [], 0.0
    for name, (share, count, length, available) in kinds.items():
        if share <= 0:
            continue
        shape = (count, length, world.height, world.width)
        shown = count * share * stage.num_steps * optimizer.accumulate
        kept = min(available, shown)
        data_bytes += kept * _HALF_BYTES * networks.numbers_kept(shape)
        encoders = networks.encoders(shape, chunk=64)
        # Each is encoded once; the text every time.
        once = {part: replace(call, times=call.times * kept / shown) for part, call in encoders.items()}
        once["text_encoder"] = encoders["text_encoder"]
        if config.phase == "image_alignment":
            passes.append(networks.alignment_pass(name, share, count, once))
        else:
            passes.append(networks.denoising_pass(name, share, shape, once))
    looked_at = max(
        2 * config.num_samples if stage.sample_every else 0,
        min(_MOST_GAUGED, config.num_gauged) if stage.validate_every else 0,
    )
    return StageWork(
        trained=networks.trained,
        frozen=frozen,
        passes=tuple(passes),
        samples=networks.samples((looked_at, world.num_frames, world.height, world.width), branches=1)
        if looked_at
        else {},
        data_bytes=int(data_bytes),
        leaves=start,
    )


def _miniature_start(config: VideoDiffusionTaskConfig, start: Start | None) -> Start:
    """The stage's networks: the start's, and what it lacks from the folders that the task names."""
    uses_image = config.phase != "text_to_video"
    # A new network's config says all; one that is trained on has its own.
    configs: dict[str, Mapping[str, Any]] = {} if start is None else dict(start.configs)
    configs.setdefault("unet", {**asdict(config.network), "image_cross_attention": uses_image})
    parts = {"vae": config.autoencoder, "text_encoder": config.towers}
    if uses_image:
        parts["image_encoder"] = config.towers
        configs["unet"] = {**configs["unet"], "image_cross_attention": True}
    for part, folder in parts.items():
        if part in configs:
            continue
        if folder in PRESETS:
            configs[part] = named_start(folder).configs[part]
        else:
            inner = part_folder(None, folder, part)
            configs[part] = named_part(inner)
    if uses_image and "image_projector" not in configs:
        with META:
            projector = new_projector(config.network, int(configs["image_encoder"]["hidden_size"]))
        configs["image_projector"] = dict(projector.config)
    return Start(configs=configs, described="the miniature", guidance_scale=config.guidance_scale)


def named_part(folder: Any) -> dict[str, Any]:
    """The config in a part's folder."""
    from videocrafter.pipelines.model_folder import read_json

    return read_json(folder / "config.json")


# The video network and what stands before it


def _trained_networks(start: Start, dtype: torch.dtype) -> tuple[VideoUNet, nn.Module | None]:
    unet = cast("VideoUNet", start.network("unet").to(dtype).to(memory_format=torch.channels_last))
    projector = start.network("image_projector").to(dtype) if start.takes_image else None
    return unet, projector


def _frozen_networks(start: Start, dtype: torch.dtype) -> dict[str, Any]:
    parts = ("vae", "text_encoder", *(("image_encoder",) if start.takes_image else ()))
    return {part: start.network(part).to(dtype).requires_grad_(False).eval() for part in parts}


@dataclass(frozen=True, kw_only=True)
class _VideoNetworks:
    """A pipeline's networks on the meta device. Shapes are (B, T, H, W) of a batch's pixels."""

    unet: VideoUNet
    projector: nn.Module | None
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    image_encoder: CLIPVisionModel | None = None

    @property
    def trained(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {"unet": self.unet}
        if self.projector is not None:
            found["image_projector"] = self.projector
        return found

    @property
    def pixels_per_latent(self) -> int:
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
        self, name: str, share: float, shape: tuple[int, int, int, int], encoders: Mapping[str, Call], held: int = 0
    ) -> Pass:
        """Noise, prediction and loss of a batch, as the tasks compute them."""

        def loss() -> Tensor:
            count = shape[0]
            latents, noise = (torch.empty(*self._latent_shape(shape), device=META) for _ in range(2))
            alphas_B = torch.empty(count, device=META)
            timestep_B = torch.empty(count, dtype=torch.long, device=META)
            noisy, dtype = add_noise(latents, noise, alphas_B), self.unet.dtype
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
            frames = (1, min(_DECODED_FRAMES, length), height, width)
            latents = torch.empty(*self._latent_shape(frames), device=META, dtype=self.vae.dtype)
            return decode_video(self.vae, latents, chunk=_DECODED_FRAMES)

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


# The miniature's other networks, which are small enough to be built as they are


def _autoencoder_work(stage: StageConfig, start: Start | None) -> StageWork:
    config = cast("AutoencoderTaskConfig", stage.task)
    task: AutoencoderTask = config.build(None, 0, 0, META)
    size, generator = max(config.sizes), torch.Generator()

    def loss() -> Tensor:
        return task.loss(torch.empty(config.batch_size, 3, size, size, device=META), generator)[0]

    return _small_work(task, Pass(name="images", share=1.0, num_samples=config.batch_size, loss=loss))


def _contrastive_work(stage: StageConfig, start: Start | None) -> StageWork:
    config = cast("ContrastiveTaskConfig", stage.task)
    task: ContrastiveTask = config.build(None, 0, 0, META)
    count, generator = config.num_groups * config.group_size, torch.Generator()

    def loss() -> Tensor:
        pixels = torch.empty(count, config.num_frames, 3, config.size, config.size, device=META)
        clips = CaptionedClips(pixels=pixels, fps=torch.empty(count, device=META), captions=["a rocket"] * count)
        return task.loss(clips, generator)[0]

    return _small_work(task, Pass(name="clips", share=1.0, num_samples=count, loss=loss))


def _judge_work(stage: StageConfig, start: Start | None) -> StageWork:
    config = cast("JudgeTaskConfig", stage.task)
    task: JudgeTask = config.build(None, 0, 0, META)

    def loss() -> Tensor:
        # The losses themselves ask for numbers, which there are none of, and take nothing beside the network.
        pixels = torch.empty(config.batch_size, config.num_frames, 3, config.size, config.size, device=META)
        read = task.judge(pixels)
        logits = (read.subject_logits, read.motion_logits, read.scene_logits, read.heat_logits, read.log_size)
        return torch.stack([part.float().square().mean() for part in logits]).sum()

    return _small_work(task, Pass(name="clips", share=1.0, num_samples=config.batch_size, loss=loss))


def _small_work(task: AutoencoderTask | ContrastiveTask | JudgeTask, only: Pass) -> StageWork:
    task.parameter_groups()  # settles what learns
    return StageWork(trained=task.modules(), passes=(only,))


_DESCRIBED: Mapping[type, Callable[[StageConfig, Start | None], StageWork]] = {
    ClipDiffusionTaskConfig: _clip_work,
    VideoDiffusionTaskConfig: _miniature_work,
    AutoencoderTaskConfig: _autoencoder_work,
    ContrastiveTaskConfig: _contrastive_work,
    JudgeTaskConfig: _judge_work,
}
