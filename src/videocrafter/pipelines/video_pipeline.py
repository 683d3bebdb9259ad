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
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor
from typing_extensions import Self

from videocrafter.diffusion.guidance import check_number
from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import build_scheduler, scheduler_name, scheduler_notes
from videocrafter.media.home_folder import expand_home
from videocrafter.models.autoencoder import check_decoder, decode_video, spatial_factor
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.call_state import Call, CallStateMixin
from videocrafter.pipelines.component_loading import check_loaded, loading_arguments, resolve_dtypes
from videocrafter.pipelines.denoising import Conditions, StepChange, denoise
from videocrafter.pipelines.feature_cache import FeatureCacheMixin
from videocrafter.pipelines.image_fit import ImageFit, check_image_fit
from videocrafter.pipelines.knowledge import Knowledge
from videocrafter.pipelines.lora import VideoLoraMixin
from videocrafter.pipelines.mapped_weights import page_out_unused
from videocrafter.pipelines.memory_saving import MemorySavingMixin
from videocrafter.pipelines.network_use import using_network
from videocrafter.pipelines.output import OutputType, PhaseClock, VideoPipelineOutput, check_output_type, frames_as
from videocrafter.pipelines.parallel.splitting import SplittingMixin
from videocrafter.pipelines.phases import AfterStep, EncodedRequest, Phases
from videocrafter.pipelines.plain_numbers import plain_numbers, whole_number
from videocrafter.pipelines.prompt_encoding import PromptEncodingMixin
from videocrafter.pipelines.prompt_inputs import Prompts, check_prompts
from videocrafter.pipelines.randomness import draw_noise, make_generators, takes_eta
from videocrafter.pipelines.request_notes import request_notes
from videocrafter.pipelines.sampling_settings import plain_settings
from videocrafter.pipelines.saved_code import SavedCodeMixin
from videocrafter.pipelines.settings import GenerationDefaults, VideoRequest, check_latents, check_size, per_video
from videocrafter.pipelines.shared_components import SharedComponentsMixin
from videocrafter.pipelines.step_end import StepEnd, StepEndCallback, StepEndHook


class VideoPipeline(
    VideoLoraMixin,
    MemorySavingMixin,
    FeatureCacheMixin,
    SplittingMixin,
    PromptEncodingMixin,
    CallStateMixin,
    SavedCodeMixin,
    SharedComponentsMixin,
    DiffusionPipeline,
):
    """Everything that does not depend on whether an image is given. Use one of the subclasses."""

    takes_image = False
    """Whether the content comes from an image. If so, a prompt without a known subject gets no note."""
    _callback_tensor_inputs = ["latents", "denoised", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012

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
            return super().from_pretrained(pretrained_model_name_or_path, **cls._hub_arguments(kwargs))
        pipeline = super().from_pretrained(folder, **loading_arguments(folder, kwargs))
        check_loaded(pipeline, folder, kwargs, kwargs.get("variant"))
        return pipeline

    @classmethod
    def _hub_arguments(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Resolve the dtypes as for a folder: transformers would keep those of the files, diffusers use float32."""
        given = dict(arguments)
        torch_dtype, dtype = given.pop("torch_dtype", None), given.pop("dtype", None)
        components = dict.fromkeys(cls._get_signature_keys(cls)[0])
        return {**given, "dtype": resolve_dtypes(torch_dtype if dtype is None else dtype, components)}

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
        config = {**self.scheduler.config, **self.generation_defaults.scheduler_settings}
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
        prompt: Prompts | None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | Sequence[float] | None = None,
        image_fit: ImageFit = "stretch",
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
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
        repeats = whole_number("num_videos_per_prompt", num_videos_per_prompt)
        check_number("num_videos_per_prompt", repeats, 1)
        prompts = check_prompts(
            prompt,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            num_videos_per_prompt=repeats,
            default_negative_prompt=defaults.negative_prompt,
            shape=self.text_token_shape,
        )
        speeds = plain_numbers("fps", _or(fps, defaults.fps))
        recommended = defaults.sampling
        if not takes_eta(self.scheduler):
            recommended = replace(recommended, eta=0.0)
        given_seeds, generators = make_generators(seeds, generator, prompts.num_prompts, repeats)
        request = VideoRequest(
            prompts=prompts.prompts,
            negative_prompts=prompts.negative_prompts,
            fps=tuple(map(float, per_video(speeds, "fps", prompts.num_prompts, repeats, (int, float)))),
            seeds=given_seeds,
            generators=generators,
            num_videos_per_prompt=repeats,
            num_frames=whole_number("num_frames", _or(num_frames, defaults.num_frames)),
            height=whole_number("height", _or(height, defaults.height)),
            width=whole_number("width", _or(width, defaults.width)),
            sampling=recommended.with_changes(plain_settings(sampling)),
            image_fit=image_fit,
            latents=latents,
            prompt_embeds=prompts.prompt_embeds,
            negative_prompt_embeds=prompts.negative_prompt_embeds,
        )
        self._check_model_limits(request, defaults)
        if latents is not None:
            check_latents(latents, (request.num_videos, *self._latent_shape(request)))
        return request

    def _check_model_limits(self, request: VideoRequest, defaults: GenerationDefaults) -> None:
        check_decoder(self.vae, self.unet.config["in_channels"])
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
        if self.feature_cache is not None:
            self.feature_cache.check_steps(steps, self.scheduler)
        # Some schedulers cannot sample this model, or have a limit of their own, which they report only here.
        self.sampling_steps(request)
        if request.sampling.eta and not takes_eta(self.scheduler):
            name = type(self.scheduler).__name__
            raise ValueError(f"eta must be 0 with {name}, but is {request.sampling.eta:g}; only DDIM uses eta")

    def notes(self, request: VideoRequest) -> list[str]:
        """Return notes for the user about unusual settings of a request, one line each."""
        return request_notes(self, request)

    def num_steps(self, request: VideoRequest) -> int:
        """Return how often `callback_on_step_end` is called for a request."""
        return len(self.sampling_steps(request).timesteps)

    def sampling_steps(self, request: VideoRequest, first_step: int = 0) -> SamplingSteps:
        """Return the steps of one sampling, without the first `first_step`. `scheduler` itself is not changed.

        Each run of the sampling loop needs new ones, so that calls in several threads do not share their state.
        """
        num_steps = request.sampling.num_inference_steps
        return SamplingSteps(self.scheduler, num_steps, first_step=first_step, device=self._execution_device)

    def generate(
        self,
        request: VideoRequest,
        image: Any = None,
        *,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = True,
        phases: Phases | None = None,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned.

        `image` is for image-to-video models only. `phases` replaces how the pipeline encodes, samples and decodes.
        All other arguments are those of the call.
        """
        check_output_type(output_type)
        step_end = StepEnd.of(callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        phases = self if phases is None else phases
        clock = PhaseClock(self._execution_device)
        with (
            self.lora_scaled(cross_attention_kwargs),
            using_network(self.unet, alone=self.is_offloaded()),
            self.begin_call(request.sampling, cross_attention_kwargs),
            torch.no_grad(),
        ):
            with clock.phase("encode"):
                conditional, unconditional = phases.encode(request, image)
                page_out_unused(self.components, used="unet")
            with clock.phase("denoise"):
                latents = phases.sample(
                    EncodedRequest(
                        request=request,
                        conditional=conditional,
                        unconditional=unconditional,
                        on_step_end=step_end,
                    )
                )
            with clock.phase("decode"):
                frames = latents if output_type == "latent" else phases.decode(request, latents, output_type)
            self.maybe_free_model_hooks()
        if not return_dict:
            # Declared as the usual result: a union would burden everybody who writes `.frames`.
            return (frames,)  # type: ignore[return-value]
        return VideoPipelineOutput(frames=frames, seeds=request.seeds, seconds=clock.seconds)

    def encode(self, request: VideoRequest, image: Any = None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance."""
        raise NotImplementedError

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return latents [N, C, T, h, w]."""
        steps = self.sampling_steps(encoded.request)
        return self.denoise(encoded, steps, steps.start(self.prepare_latents(encoded.request)))

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Return frames in the form of `output_type`."""
        return frames_as(self.decode_latents(latents), output_type)

    def prepare_latents(self, request: VideoRequest) -> Tensor:
        """Return the initial noise [N, C, T, h, w], float32: the caller's, or each video's from its own generator."""
        if request.latents is not None:
            return request.latents.to(self._execution_device, torch.float32)
        return draw_noise(self._latent_shape(request), request.generators).to(self._execution_device)

    def _latent_shape(self, request: VideoRequest) -> tuple[int, int, int, int]:
        factor = spatial_factor(self.vae)
        channels = self.unet.config["in_channels"]
        return (channels, request.num_frames, request.height // factor, request.width // factor)

    def denoise(
        self,
        encoded: EncodedRequest,
        steps: SamplingSteps,
        latents: Tensor,
        *,
        unet: Any = None,
        after_step: AfterStep | None = None,
    ) -> Tensor:
        """Run the sampling loop with the pipeline's progress bar and the caller's callback.

        `latents` are at the noise level of the first step; `unet` replaces the pipeline's own network; `after_step`
        may change the latents before the callback sees them. In a call that was interrupted, the remaining steps are
        left out.
        """
        request, step_end = encoded.request, encoded.on_step_end
        call = self.running_call or Call(sampling=request.sampling)
        if call.is_interrupted:
            return latents
        call.sampling, call.num_timesteps = request.sampling, len(steps.timesteps)
        hook = StepEndHook(self, call, step_end, encoded.conditional, encoded.unconditional)
        estimates: list[Tensor | None] = [None]
        with self.progress_bar(total=len(steps.timesteps)) as bar:

            def on_estimate(_: int, denoised: Tensor) -> None:
                estimates[0] = denoised

            def on_step(index: int, timestep: Tensor, latents: Tensor) -> StepChange:
                bar.update()
                if after_step is not None:
                    latents = after_step(index, latents)
                return hook.after_step(index, timestep, latents, estimates[0])

            return denoise(
                self.sampled_network(unet, len(steps.timesteps)),
                steps,
                latents,
                encoded.conditional,
                encoded.unconditional,
                request.sampling,
                generators=request.generators,
                input_scale=self.input_scale(),
                branches_apart=self.memory_settings.branches_apart,
                on_step=on_step,
                on_estimate=on_estimate if step_end.wants_estimate else None,
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
        chunk = self.memory_settings.frames_at_once
        return torch.cat([decode_video(self.vae, one.to(self.vae.dtype), chunk=chunk) for one in latents.split(1)])


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given
