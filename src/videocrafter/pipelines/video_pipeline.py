"""What text-to-video and image-to-video share: check → encode → latents → denoise → decode.

diffusers' DiffusionPipeline brings `save_pretrained`, `from_pretrained`, `.to()`, offloading, the progress
bar and exchangeable schedulers. Videos are `B T C H W` pixels in [-1, 1], latents `B C T H W`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor
from typing_extensions import Self

from videocrafter.diffusion.guidance import check_interval
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import build_scheduler, scheduler_name, scheduler_notes
from videocrafter.models.autoencoder import decode_video, spatial_factor
from videocrafter.models.text_encoder import encode_text
from videocrafter.models.tokenizer import unknown_words
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.denoising import Conditions, denoise
from videocrafter.pipelines.image_fit import ImageFit, check_image_fit
from videocrafter.pipelines.knowledge import Knowledge, prompt_notes
from videocrafter.pipelines.lora import VideoLoraMixin
from videocrafter.pipelines.model_folder import (
    ModelFolderError,
    check_model_folder,
    check_weights_fit,
    component_folder,
    shared_components,
)
from videocrafter.pipelines.randomness import draw_noise, make_generators, takes_eta
from videocrafter.pipelines.settings import (
    GenerationDefaults,
    VideoRequest,
    check_at_least,
    check_size,
    per_video,
)

StepEndCallback = Callable[[Any, int, Any, dict[str, Tensor]], dict[str, Tensor] | None]
"""diffusers' convention: called with (pipeline, step, timestep, {"latents": …}); may return new latents.

Beside "latents" stands "denoised": what the model thinks at this step that they will be in the end (for previews).
"""


class VideoPipeline(VideoLoraMixin, DiffusionPipeline):
    """The parts of a pipeline that do not depend on whether an image is given. Use one of its subclasses."""

    takes_image = False
    """Whether the content comes from an image; a prompt without a subject is then not worth a note."""

    vae: AutoencoderKL
    unet: VideoUNet
    text_encoder: Any
    tokenizer: Any
    scheduler: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a pipeline folder as diffusers does, after a look at its files.

        Raises ModelFolderError, which names the file at fault, for a local folder that is incomplete or
        damaged, and for weights that do not fit the network exactly.
        """
        folder = Path(pretrained_model_name_or_path)
        given = dict(kwargs)
        if folder.is_dir():
            index = check_model_folder(folder)
            dtype = kwargs.get("torch_dtype", kwargs.get("dtype"))
            for name, shared in shared_components(folder).items():
                if name not in kwargs:
                    given[name] = load_component(index[name], shared, dtype)
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **given)
        if folder.is_dir():
            for name in ("unet", "image_projector", "text_encoder", "image_encoder"):
                if name in pipeline.components and name not in kwargs:
                    check_weights_fit(component_folder(folder, name), list(pipeline.components[name].state_dict()))
        return pipeline

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """Recommended settings, used for every argument that is None."""
        return GenerationDefaults.from_config(self.config["defaults"])

    @property
    def knowledge(self) -> Knowledge:
        """The words that the model was trained on; empty for a model of the open world."""
        return Knowledge.from_config(self.config["knowledge"])

    def use_scheduler(
        self, name: str | None = None, *, spacing: str | None = None, zero_terminal_snr: bool = False
    ) -> list[str]:
        """Exchange the scheduler by name, made for this model's schedule; see `diffusion.schedulers`.

        Args:
            name: a key of `SCHEDULERS`; None keeps the sampler, but takes "legacy" steps, which are those of
                ddim-official, and all others, which are not, as a choice between ddim-official and ddim.
            spacing: a key of `SPACINGS`: which training steps are visited; None leaves it to the scheduler.
            zero_terminal_snr: stretch the schedule to end in pure noise.

        Returns:
            What the user should know about the choice, one line each.

        Raises:
            ValueError: unknown names, or settings that do not go together.
        """
        config = self.scheduler.config
        if name is None:
            if spacing is None and not zero_terminal_snr:
                return []
            name = scheduler_name(self.scheduler) or "ddim"
            if name in ("ddim", "ddim-official"):
                name = "ddim-official" if spacing == "legacy" else "ddim"
        self.scheduler = build_scheduler(
            name,
            config,
            spacing=spacing,
            zero_terminal_snr=zero_terminal_snr,
            signal_scale=self.config["signal_scale"],
        )
        return scheduler_notes(config, spacing=spacing, zero_terminal_snr=zero_terminal_snr)

    @property
    def size_multiple(self) -> int:
        """Height and width of a video must be multiples of this."""
        return spatial_factor(self.vae) * self.unet.size_multiple

    def check_inputs(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | Sequence[float] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        image_guidance_scale: float | None = None,
        temporal_guidance_scale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        image_fit: ImageFit = "stretch",
        eta: float | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
    ) -> VideoRequest:
        """Check all settings, before anything costs time, and fill in the model's defaults.

        Raises ValueError, one line that says what was given and what is allowed.
        """
        defaults = self.generation_defaults
        check_at_least("num_videos_per_prompt", num_videos_per_prompt, 1)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError('no prompt was given; pass a string, or a list with at least one ("" is allowed)')

        def spread(value: Any, name: str, kind: type | tuple[type, ...]) -> list[Any]:
            return per_video(value, name, len(prompts), num_videos_per_prompt, kind)

        given_seeds, generators = make_generators(seeds, generator, len(prompts), num_videos_per_prompt)
        request = VideoRequest(
            prompts=tuple(spread(prompts, "prompt", str)),
            negative_prompts=tuple(spread(_or(negative_prompt, defaults.negative_prompt), "negative_prompt", str)),
            fps=tuple(float(value) for value in spread(_or(fps, defaults.fps), "fps", (int, float))),
            seeds=given_seeds,
            generators=generators,
            num_videos_per_prompt=num_videos_per_prompt,
            num_frames=_or(num_frames, defaults.num_frames),
            height=_or(height, defaults.height),
            width=_or(width, defaults.width),
            num_inference_steps=_or(num_inference_steps, defaults.num_inference_steps),
            guidance_scale=_or(guidance_scale, defaults.guidance_scale),
            guidance_rescale=_or(guidance_rescale, defaults.guidance_rescale),
            eta=_or(eta, defaults.eta if takes_eta(self.scheduler) else 0.0),
            image_guidance_scale=image_guidance_scale,
            temporal_guidance_scale=temporal_guidance_scale,
            guidance_interval=guidance_interval,
            image_fit=image_fit,
        )
        self._check_values(request, defaults)
        return request

    def _check_values(self, request: VideoRequest, defaults: GenerationDefaults) -> None:
        check_size("height", request.height, self.size_multiple)
        check_size("width", request.width, self.size_multiple)
        if not 1 <= request.num_frames <= defaults.longest:
            raise ValueError(
                f"num_frames must lie in 1 ... {defaults.longest}, but is {request.num_frames}; the model was"
                f" trained for {defaults.num_frames}"
            )
        for value in request.fps:
            if not 0 < value <= 1000:
                raise ValueError(f"fps (motion speed) must lie above 0 and at most 1000, but is {value:g}")
        check_at_least("guidance_scale", request.guidance_scale, 0.0)
        check_at_least("temporal_guidance_scale", request.temporal_guidance_scale, 0.0)
        check_interval(request.guidance_interval)
        check_image_fit(request.image_fit)
        if request.image_guidance_scale is not None:
            check_at_least("image_guidance_scale", request.image_guidance_scale, 0.0)
            if not self.takes_image:
                raise ValueError("image_guidance_scale is for image-to-video models; this one takes no image")
        for name in ("guidance_rescale", "eta"):
            if not 0 <= getattr(request, name) <= 1:
                raise ValueError(f"{name} must lie in 0 ... 1, but is {getattr(request, name):g}")
        longest = self.scheduler.config.num_train_timesteps
        if not 1 <= request.num_inference_steps <= longest:
            raise ValueError(f"num_inference_steps must lie in 1 ... {longest}, but is {request.num_inference_steps}")
        # Some schedulers have limits of their own, and say so only here.
        self.scheduler.set_timesteps(request.num_inference_steps)
        if request.eta and not takes_eta(self.scheduler):
            name = type(self.scheduler).__name__
            raise ValueError(f"eta is a setting of DDIM, but the scheduler is {name}; leave eta at 0")

    def notes(self, request: VideoRequest) -> list[str]:
        """What the user should know about a request that is allowed but unusual; one line each."""
        defaults = self.generation_defaults
        notes: list[str] = []
        for prompt in dict.fromkeys(request.prompts):
            about_prompt = prompt_notes(prompt, self.knowledge) if not self.takes_image else []
            words = unknown_words(self.tokenizer, prompt) if self.knowledge.subjects else []
            if words and not about_prompt:
                about_prompt = [f"the model has never read {', '.join(map(repr, words))} and ignores it"]
            notes += about_prompt
        if request.num_frames not in (1, defaults.num_frames):
            notes.append(
                f"the model was trained for {defaults.num_frames} frames; {request.num_frames} may look worse"
            )
        if defaults.fps_range is not None:
            lowest, highest = defaults.fps_range
            strange = sorted({value for value in request.fps if not lowest <= value <= highest})
            if strange:
                speeds = ", ".join(f"{value:g}" for value in strange)
                notes.append(f"the model was trained for fps {lowest:g} to {highest:g}; {speeds} lies outside")
        if (request.height, request.width) != (defaults.height, defaults.width):
            notes.append(
                f"the model was trained for {defaults.width}x{defaults.height};"
                f" {request.width}x{request.height} may look worse"
            )
        return list(dict.fromkeys(notes))

    def num_steps(self, request: VideoRequest) -> int:
        """How often `callback_on_step_end` is called for a request."""
        self.scheduler.set_timesteps(request.num_inference_steps)
        return len(self.scheduler.timesteps)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Text tokens [N, L, D] in the network's precision; equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        # One prompt at a time, so that a prompt's tokens do not depend on its neighbours to the last bit.
        tokens = {
            prompt: encode_text(self.tokenizer, self.text_encoder, [prompt])[0].to(self.unet.dtype)
            for prompt in distinct
        }
        return torch.stack([tokens[prompt] for prompt in prompts])

    def prepare_latents(self, request: VideoRequest) -> Tensor:
        """Initial noise [N, C, T, h, w], float32: each video's from its own generator."""
        factor = spatial_factor(self.vae)
        channels = self.unet.config["in_channels"]
        shape = (channels, request.num_frames, request.height // factor, request.width // factor)
        return draw_noise(shape, request.generators).to(self._execution_device)

    def denoise(
        self,
        request: VideoRequest,
        noise: Tensor,
        conditional: Conditions,
        unconditional: Conditions | None,
        on_step_end: StepEndCallback | None,
        image_scale: float = 1.0,
        *,
        unet: Any = None,
        first_step: int = 0,
    ) -> Tensor:
        """Run the sampling loop with the pipeline's progress bar and the caller's callback.

        `unet` stands in for the pipeline's own network; `first_step` is that of `denoise`.
        """
        self.scheduler.set_timesteps(request.num_inference_steps, device=noise.device)
        steps = len(self.scheduler.timesteps) - first_step * getattr(self.scheduler, "order", 1)
        state: dict[str, Tensor] = {}
        with self.progress_bar(total=steps) as bar:

            def on_estimate(_: int, denoised: Tensor) -> None:
                state["denoised"] = denoised

            def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
                bar.update()
                if on_step_end is None:
                    return None
                return (on_step_end(self, index, timestep, {**state, "latents": latents}) or {}).get("latents")

            return denoise(
                self.unet if unet is None else unet,
                self.scheduler,
                noise,
                conditional,
                unconditional,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                guidance_rescale=request.guidance_rescale,
                image_guidance_scale=request.image_guidance_scale,
                temporal_guidance_scale=request.temporal_guidance_scale,
                guidance_interval=request.guidance_interval,
                eta=request.eta,
                image_scale=image_scale,
                input_scale=self.input_scale(),
                generators=request.generators,
                on_step=on_step,
                on_estimate=None if on_step_end is None else on_estimate,
                first_step=first_step,
            )

    def input_scale(self) -> Tensor | None:
        """n_t of a signal-scaled model, [training timesteps]; None for all others."""
        scale = self.config["signal_scale"]
        if scale is None:
            return None
        steps = self.scheduler.config.num_train_timesteps
        trained_on = alphas_cumprod(linear_betas(steps))
        return vp_change_of_variables(trained_on, signal_scale(scale, steps)).input_scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels [N, T, 3, H, W] in about [-1, 1], frame by frame, one video at a time."""
        return torch.cat([decode_video(self.vae, one.to(self.vae.dtype)) for one in latents.split(1)])


def load_component(named: tuple[str, str], folder: Path, dtype: torch.dtype | None) -> Any:
    """One part from a folder of its own; `named` is its library and class, as in a `model_index.json`."""
    library, name = named
    if library not in ("diffusers", "transformers"):
        raise ModelFolderError(f"{folder} is a {library} {name}; only parts of diffusers and transformers are shared")
    loader = getattr(importlib.import_module(library), name)
    is_network = hasattr(loader, "forward")
    return loader.from_pretrained(folder, **({"dtype": dtype} if is_network and dtype is not None else {}))


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given


def check_configured(defaults: Mapping[str, Any] | None, knowledge: Mapping[str, Any] | None) -> None:
    """Fail when a pipeline is built, not when it is first used, if its config holds unknown keys."""
    try:
        GenerationDefaults.from_config(defaults)
        Knowledge.from_config(knowledge)
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"the model's configuration is wrong: {error}") from error
