"""The loss of distillation, wherever the clips come from, on networks as `student_networks.py` describes them.

Shape suffix: ``B`` batch. Latents are ``[B, C, T, H, W]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.diffusion.few_steps import few_step_times
from videocrafter.diffusion.guidance import Guidance
from videocrafter.diffusion.objective import PredictionType, add_noise, predicted_x0_and_noise
from videocrafter.diffusion.pure_noise import SMALLEST_ALPHA_BAR
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.pipelines.denoising import Conditions
from videocrafter.training.video.distillation_config import Distillation
from videocrafter.training.video.segments import (
    CLEAN,
    ddim_step,
    levels_with_clean,
    pseudo_huber,
    segment_grid,
    stratified,
)
from videocrafter.training.video.student_networks import StudentNetworks, WeightAverage
from videocrafter.training.video.trajectory_matching import fake_score_loss, matching_loss, noise_further

Network = Callable[..., Tensor]
"""A `VideoUNet`, or anything with the same call."""


class Distiller:
    """Computes the loss of distillation.

    Args:
        settings: the method and its numbers.
        networks: student, teacher and fake score.
        guidance: the teacher's guidance.
        alphas_cumprod: of the noise schedule, [training timesteps], on the CPU.
        input_scale: factor of the network's input at each timestep, for a signal-scaled schedule.
    """

    def __init__(
        self,
        settings: Distillation,
        networks: StudentNetworks,
        guidance: Guidance,
        *,
        alphas_cumprod: Tensor,
        prediction_type: PredictionType,
        input_scale: Tensor | None,
        device: torch.device,
    ) -> None:
        self.settings, self.networks, self.guidance = settings, networks, guidance
        self.times = few_step_times(alphas_cumprod, settings.segment_snr)
        self._grid = segment_grid(alphas_cumprod, self.times, settings.grid_size)
        self._levels = levels_with_clean(alphas_cumprod).to(device)
        self._kind, self._input_scale = prediction_type, input_scale
        self._average = None
        if settings.method == "consistency" and settings.target_decay:
            self._average = WeightAverage(networks.trained(), settings.target_decay).to(device)
        self._trains_student = True

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks and averages in addition to the student, by name."""
        own: dict[str, nn.Module] = {} if self._average is None else {"target": self._average}
        return {**self.networks.modules(), **own}

    def restart(self) -> None:
        """Begin again from the student as it is, after its parameters were set."""
        if self._average is not None:
            self._average.restart()

    def begin_step(self, step: int) -> None:
        """Update the average, and decide whether the student is trained in this step."""
        if self._average is not None and step > 0:
            self._average.update()
        self._trains_student = step % self.settings.student_every == 0

    def loss(
        self, latents: Tensor, conditional: Conditions, unconditional: Conditions, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss and numbers for the log.

        Args:
            latents: clean latents; "matching" uses their shape only.
            conditional, unconditional: of the teacher's guidance; the student sees the first.
        """
        if self.settings.method == "matching":
            return self._matching(latents, conditional, unconditional, generator)
        loss = self.consistency(latents, conditional, unconditional, generator).mean()
        return loss, {"loss_images" if latents.shape[2] == 1 else "loss_clips": loss.detach()}

    def consistency(
        self, latents: Tensor, conditional: Conditions, unconditional: Conditions, generator: torch.Generator
    ) -> Tensor:
        """Return the consistency loss of each sample, [B], at random points of the teacher's path."""
        grid, levels, device = self._grid, self._levels, latents.device
        place_B = stratified(len(grid), len(latents), generator)
        time_B, next_B, end_B = (one[place_B].to(device) for one in (grid.times, grid.nexts, grid.ends))
        noise = torch.randn(latents.shape, generator=generator, device=device)
        noisy = add_noise(latents, noise, levels[time_B])
        ours = self._moved(self.networks.student, noisy, time_B, end_B, conditional)
        with without_gradient(device):
            reached = self.teacher_step(noisy, time_B, next_B, conditional, unconditional)
            wanted = self._moved(self._target, reached, next_B, end_B, conditional)
            # The boundary condition, exactly; and at the clean latent the network is not defined.
            wanted = torch.where((next_B == end_B).reshape(-1, 1, 1, 1, 1), reached, wanted)
        return pseudo_huber(ours, wanted)

    def teacher_step(
        self, noisy: Tensor, time_B: Tensor, reached_B: Tensor, conditional: Conditions, unconditional: Conditions
    ) -> Tensor:
        """Return the latents after the teacher's guided DDIM step from one timestep to another."""
        prediction = self._guided(noisy, time_B, conditional, unconditional)
        return ddim_step(prediction, noisy, self._levels[time_B], self._levels[reached_B], self._kind)

    def _matching(
        self, latents: Tensor, conditional: Conditions, unconditional: Conditions, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        levels, device = self._levels, latents.device
        segment_B = stratified(len(self.times), len(latents), generator)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        begun = self._trajectory(noise, segment_B, conditional)
        bounds = torch.tensor([*self.times, CLEAN])
        start_B, end_B = bounds[segment_B].to(device), bounds[segment_B + 1].to(device)
        time_B = self._grid.draw_within(segment_B, generator).to(device)
        with torch.set_grad_enabled(self._trains_student):
            clean, implied = self._clean(self.networks.student, begun, start_B, conditional)
        with torch.no_grad():
            after = add_noise(clean, implied, levels[end_B])
            more = torch.randn(latents.shape, generator=generator, device=device)
            noisy = noise_further(after, more, levels[end_B], levels[time_B])
        prediction = self._predict(self.networks.fake, noisy, time_B, conditional)
        level_B = levels[time_B]
        fake_loss = fake_score_loss(prediction, clean.detach(), noisy, level_B, self._kind).mean()
        metrics = {"loss_fake": fake_loss.detach()}
        if not self._trains_student:
            return fake_loss, metrics
        with without_gradient(device):
            guided = self._guided(noisy, time_B, conditional, unconditional)
            teachers = predicted_x0_and_noise(guided, noisy, level_B, self._kind)[0]
            fakes = predicted_x0_and_noise(prediction.detach(), noisy, level_B, self._kind)[0]
        student_loss = matching_loss(clean, teachers, fakes).mean()
        # One optimizer takes both: no gradient of one term reaches the parameters of the other.
        return student_loss + fake_loss, {**metrics, "loss_student": student_loss.detach()}

    def _trajectory(self, noise: Tensor, segment_B: Tensor, conditional: Conditions) -> Tensor:
        """Return the point at which each sample's segment begins, on the student's own path from pure noise."""
        begun = current = noise
        # A plan counts all steps, whatever the draw.
        last = len(self.times) - 1 if noise.is_meta else int(segment_B.max())
        with without_gradient(noise.device):
            for number, (start, reached) in enumerate(zip(self.times[:last], self.times[1:], strict=False), 1):
                start_B = torch.full((len(noise),), start, device=noise.device)
                reached_B = torch.full_like(start_B, reached)
                current = self._moved(self.networks.student, current, start_B, reached_B, conditional)
                is_later = (segment_B >= number).to(noise.device).reshape(-1, 1, 1, 1, 1)
                begun = torch.where(is_later, current, begun)
        return begun

    def _target(self, *inputs: Any) -> Tensor:
        if self._average is None:
            return self.networks.student(*inputs)
        return self.networks.averaged(self._average, *inputs)

    def _guided(self, noisy: Tensor, time_B: Tensor, conditional: Conditions, unconditional: Conditions) -> Tensor:
        """Return the teacher's guided prediction, from one call for both branches, as in sampling."""
        teacher = self.networks.teacher
        if not self.guidance.needs_unconditional:
            return self._predict(teacher, noisy, time_B, conditional)
        both = Conditions.stack(unconditional, conditional)
        predictions = self._predict(teacher, torch.cat([noisy] * 2), torch.cat([time_B] * 2), both)
        empty, full = predictions.chunk(2)
        guided = self.guidance.combine(full, empty)
        if self.guidance.guidance_log_snr is None:
            return guided
        low, high = self.guidance.guidance_log_snr
        # Finite also in pure noise, as in sampling.
        log_snr_B = torch.logit(self._levels[time_B].clamp(SMALLEST_ALPHA_BAR, 1 - SMALLEST_ALPHA_BAR))
        is_guided = ((log_snr_B >= low) & (log_snr_B < high)).reshape(-1, 1, 1, 1, 1)
        return torch.where(is_guided, guided, full)

    def _moved(
        self, network: Network, noisy: Tensor, time_B: Tensor, reached_B: Tensor, conditions: Conditions
    ) -> Tensor:
        prediction = self._predict(network, noisy, time_B, conditions)
        return ddim_step(prediction, noisy, self._levels[time_B], self._levels[reached_B], self._kind)

    def _clean(
        self, network: Network, noisy: Tensor, time_B: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor]:
        prediction = self._predict(network, noisy, time_B, conditions)
        return predicted_x0_and_noise(prediction, noisy, self._levels[time_B], self._kind)

    def _predict(self, network: Network, noisy: Tensor, time_B: Tensor, conditions: Conditions) -> Tensor:
        # A point that is clean already has no timestep of its own; its prediction is not used.
        time_B = time_B.clamp(min=0)
        scaled = noisy if self._input_scale is None else scale_model_input(noisy, time_B, self._input_scale)
        return network(scaled, time_B, conditions.text, conditions.fps, conditions.image).float()


@contextmanager
def without_gradient(device: torch.device) -> Iterator[None]:
    """Compute without gradients, and apart from autocast's cache.

    Autocast keeps the rounded weights of a pass. Those that are rounded without gradients would be used again by a
    call with gradients, which then reached no weight.
    """
    kind = device.type if device.type != "meta" else "cpu"
    with (
        torch.no_grad(),
        torch.autocast(
            kind,
            dtype=torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        ),
    ):
        yield
