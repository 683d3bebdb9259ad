"""Base of text-to-video and image-to-video: check → encode → sample → decode.

diffusers' DiffusionPipeline provides `save_pretrained`, `from_pretrained`, `.to()`, offloading, the progress bar and
exchangeable schedulers. Videos are `B T C H W` pixels in [-1, 1], latents `B C T H W`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor
from typing_extensions import Self

from videocrafter.diffusion.guidance import check_number
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import build_scheduler, scheduler_name, scheduler_notes
from videocrafter.media.home_folder import expand_home
from videocrafter.models.autoencoder import decode_video, spatial_factor
from videocrafter.models.text_encoder import encode_text
from videocrafter.models.tokenizer import unknown_words
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.component_loading import check_loaded, loading_arguments
from videocrafter.pipelines.denoising import Conditions, begin_steps, denoise
from videocrafter.pipelines.image_fit import ImageFit, check_image_fit
from videocrafter.pipelines.knowledge import Knowledge, prompt_notes
from videocrafter.pipelines.lora import VideoLoraMixin
from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.pipelines.offloading import OffloadingMixin
from videocrafter.pipelines.output import OutputType, PhaseClock, VideoPipelineOutput, check_output_type, frames_as
from videocrafter.pipelines.phases import AfterStep, EncodedRequest, Phases, StepEndCallback
from videocrafter.pipelines.prompt_length import length_note
from videocrafter.pipelines.randomness import draw_noise, make_generators, takes_eta
from videocrafter.pipelines.settings import GenerationDefaults, VideoRequest, check_size, per_video


class VideoPipeline(VideoLoraMixin, OffloadingMixin, DiffusionPipeline):
    """Everything that does not depend on whether an image is given. Use one of the subclasses."""

    takes_image = False
    """Whether the content comes from an image. If so, a prompt without a known subject gets no note."""

    vae: AutoencoderKL
    unet: VideoUNet
    text_encoder: Any
    tokenizer: Any
    scheduler: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a pipeline folder as diffusers does, after checking its files.

        Args:
            pretrained_model_name_or_path: a folder, or a repository on the Hugging Face hub.
            kwargs: those of diffusers. `dtype` (or `torch_dtype`) is a dtype or its name, or a mapping by component
                with "default" for the others; without it all networks are float32. `variant` selects weights that
                were saved under this name; without it a folder that has only variants is loaded all the same.

        Raises ModelFolderError, naming the file, if a local folder is incomplete or damaged, or if its weights do
        not match the network exactly; ValueError for an unknown dtype. Warns about weights that are NaN or infinite.
        """
        folder = expand_home(pretrained_model_name_or_path)
        if not folder.is_dir():
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        pipeline = super().from_pretrained(folder, **loading_arguments(folder, kwargs))
        check_loaded(pipeline, folder, kwargs, kwargs.get("variant"))
        return pipeline

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """Recommended settings, used for arguments that are None."""
        return GenerationDefaults.from_config(self.config["defaults"])

    @property
    def knowledge(self) -> Knowledge:
        """Vocabulary of a model that was trained on a closed set of words; empty for other models."""
        return Knowledge.from_config(self.config["knowledge"])

    def use_scheduler(
        self, name: str | None = None, *, spacing: str | None = None, zero_terminal_snr: bool = False
    ) -> list[str]:
        """Replace the scheduler by name, built for this model's noise schedule; see `diffusion.schedulers`.

        Args:
            name: a key of `SCHEDULERS`. None keeps the current sampler, except that DDIM switches between
                `ddim-official` for the spacing "legacy" and `ddim` for all others.
            spacing: a key of `SPACINGS`: which training timesteps are visited. None uses the scheduler's default.
            zero_terminal_snr: stretch the noise schedule so that it ends in pure noise.

        Returns:
            Notes for the user about the choice, one line each.

        Raises:
            ValueError: an unknown name, or settings that cannot be combined.
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
        image_fit: ImageFit = "stretch",
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        **sampling: Any,
    ) -> VideoRequest:
        """Check all arguments of the call before any computation, and fill in the model's defaults.

        Args:
            sampling: fields of `SamplingSettings`, such as `guidance_scale`. As for all other arguments, None means
                the model's recommended value.

        Raises:
            TypeError: an unknown argument.
            ValueError: a value that is not allowed; the message says what is.
        """
        defaults = self.generation_defaults
        check_number("num_videos_per_prompt", num_videos_per_prompt, 1)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError('prompt is an empty list; pass a string, or a list of at least one ("" is allowed)')

        def spread(value: Any, name: str, kind: type | tuple[type, ...]) -> list[Any]:
            return per_video(value, name, len(prompts), num_videos_per_prompt, kind)

        recommended = defaults.sampling
        if not takes_eta(self.scheduler):
            recommended = replace(recommended, eta=0.0)
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
            sampling=recommended.with_changes(sampling),
            image_fit=image_fit,
        )
        self._check_model_limits(request, defaults)
        return request

    def _check_model_limits(self, request: VideoRequest, defaults: GenerationDefaults) -> None:
        check_size("height", request.height, self.size_multiple)
        check_size("width", request.width, self.size_multiple)
        if not 1 <= request.num_frames <= defaults.longest:
            raise ValueError(
                f"num_frames must be between 1 and {defaults.longest}, but is {request.num_frames}; the model was"
                f" trained on {defaults.num_frames}"
            )
        for value in request.fps:
            if not 0 < value <= 1000:
                raise ValueError(f"fps (motion speed) must be above 0 and at most 1000, but is {value:g}")
        check_image_fit(request.image_fit)
        if not self.takes_image:
            request.sampling.check_without_image()
        steps, most = request.sampling.num_inference_steps, self.scheduler.config.num_train_timesteps
        if steps > most:
            raise ValueError(f"num_inference_steps must be between 1 and {most}, but is {steps}")
        # Some schedulers have a limit of their own, which they report only here.
        begin_steps(self.scheduler, steps)
        if request.sampling.eta and not takes_eta(self.scheduler):
            name = type(self.scheduler).__name__
            raise ValueError(f"eta must be 0 with {name}, but is {request.sampling.eta:g}; only DDIM uses eta")

    def notes(self, request: VideoRequest) -> list[str]:
        """Return notes for the user about unusual settings of a request, one line each."""
        defaults, knowledge = self.generation_defaults, self.knowledge
        notes: list[str] = []
        prompts = dict.fromkeys(request.prompts)
        for prompt in prompts:
            words = unknown_words(self.tokenizer, prompt) if knowledge.subjects else []
            vocabulary = self.tokenizer.get_vocab() if words else ()
            about = prompt_notes(prompt, knowledge, words, vocabulary, needs_subject=not self.takes_image)
            about += self._length_notes([prompt])
            notes += [f"{prompt!r}: {note}" for note in about] if len(prompts) > 1 else about
        if request.sampling.needs_unconditional:
            notes += self._length_notes(request.negative_prompts, "negative prompt")
        if request.num_frames not in (1, defaults.num_frames):
            notes.append(
                f"the model was trained on {defaults.num_frames} frames; quality may be lower at {request.num_frames}"
            )
        if defaults.fps_range is not None:
            lowest, highest = defaults.fps_range
            outside = sorted({value for value in request.fps if not lowest <= value <= highest})
            if outside:
                speeds = ", ".join(f"{value:g}" for value in outside)
                notes.append(f"the model was trained on fps {lowest:g} to {highest:g}; {speeds} is outside that")
        if (request.height, request.width) != (defaults.height, defaults.width):
            notes.append(
                f"the model was trained on {defaults.width}x{defaults.height};"
                f" quality may be lower at {request.width}x{request.height}"
            )
        return list(dict.fromkeys(notes))

    def _length_notes(self, prompts: Sequence[str], what: str = "prompt") -> list[str]:
        found = [length_note(self.tokenizer, self.text_encoder, prompt, what) for prompt in dict.fromkeys(prompts)]
        return [note for note in found if note is not None]

    def num_steps(self, request: VideoRequest) -> int:
        """Return how often `callback_on_step_end` is called for a request."""
        return len(begin_steps(self.scheduler, request.sampling.num_inference_steps))

    def generate(
        self,
        request: VideoRequest,
        image: Any = None,
        *,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        phases: Phases | None = None,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned.

        `image` is for image-to-video models only. `phases` replaces how the pipeline encodes, samples and decodes.
        """
        check_output_type(output_type)
        phases = self if phases is None else phases
        clock = PhaseClock(self._execution_device)
        with torch.no_grad():
            with clock.phase("encode"):
                conditional, unconditional = phases.encode(request, image)
            with clock.phase("denoise"):
                latents = phases.sample(
                    EncodedRequest(
                        request=request,
                        conditional=conditional,
                        unconditional=unconditional,
                        on_step_end=callback_on_step_end,
                    )
                )
            with clock.phase("decode"):
                frames = latents if output_type == "latent" else phases.decode(request, latents, output_type)
        self.maybe_free_model_hooks()
        return VideoPipelineOutput(frames=frames, seeds=request.seeds, seconds=clock.seconds)

    def encode(self, request: VideoRequest, image: Any = None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance."""
        raise NotImplementedError

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return latents [N, C, T, h, w]."""
        return self.denoise(encoded, self.prepare_latents(encoded.request))

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Return frames in the form of `output_type`."""
        return frames_as(self.decode_latents(latents), output_type)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return text tokens [N, L, D] in the network's precision; equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        # One prompt at a time, so that a prompt's tokens do not depend on the other prompts, not even by rounding.
        device, dtype = self._execution_device, self.unet.dtype
        tokens = {
            prompt: encode_text(self.tokenizer, self.text_encoder, [prompt], device)[0].to(dtype)
            for prompt in distinct
        }
        return torch.stack([tokens[prompt] for prompt in prompts])

    def prepare_latents(self, request: VideoRequest) -> Tensor:
        """Draw the initial noise [N, C, T, h, w], float32: each video's from its own generator."""
        factor = spatial_factor(self.vae)
        channels = self.unet.config["in_channels"]
        shape = (channels, request.num_frames, request.height // factor, request.width // factor)
        return draw_noise(shape, request.generators).to(self._execution_device)

    def denoise(
        self,
        encoded: EncodedRequest,
        noise: Tensor,
        *,
        unet: Any = None,
        first_step: int = 0,
        after_step: AfterStep | None = None,
    ) -> Tensor:
        """Run the sampling loop with the pipeline's progress bar and the caller's callback.

        `unet` replaces the pipeline's own network; `first_step` is that of `denoise`; `after_step` may change the
        latents before the callback sees them.
        """
        request, callback = encoded.request, encoded.on_step_end
        timesteps = begin_steps(self.scheduler, request.sampling.num_inference_steps, first_step, noise.device)
        state: dict[str, Tensor] = {}
        with self.progress_bar(total=len(timesteps)) as bar:

            def on_estimate(_: int, denoised: Tensor) -> None:
                state["denoised"] = denoised

            def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor:
                bar.update()
                if after_step is not None:
                    latents = after_step(index, latents)
                if callback is None:
                    return latents
                changed = callback(self, index, timestep, {**state, "latents": latents}) or {}
                return changed.get("latents", latents)

            return denoise(
                self.unet if unet is None else unet,
                self.scheduler,
                noise,
                encoded.conditional,
                encoded.unconditional,
                request.sampling,
                generators=request.generators,
                input_scale=self.input_scale(),
                first_step=first_step,
                on_step=on_step,
                on_estimate=None if callback is None else on_estimate,
            )

    def input_scale(self) -> Tensor | None:
        """Return n_t of a signal-scaled model, [training timesteps]; None for all others."""
        scale = self.config["signal_scale"]
        if scale is None:
            return None
        steps = self.scheduler.config.num_train_timesteps
        trained_on = alphas_cumprod(linear_betas(steps))
        return vp_change_of_variables(trained_on, signal_scale(scale, steps)).input_scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels [N, T, 3, H, W] in about [-1, 1], decoded frame by frame, one video at a time."""
        return torch.cat([decode_video(self.vae, one.to(self.vae.dtype)) for one in latents.split(1)])


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given


def check_configured(defaults: Mapping[str, Any] | None, knowledge: Mapping[str, Any] | None) -> None:
    """Raise ModelFolderError when a pipeline is built, not when it is first used, if its config is wrong."""
    try:
        GenerationDefaults.from_config(defaults)
        Knowledge.from_config(knowledge)
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"the model's configuration is wrong: {error}") from error
