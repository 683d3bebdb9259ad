"""Guided segment-consistency distillation: the teacher's step, the student's map to the end of a segment, the loss.

The teacher's sampling path is cut into K segments. A student maps every point of a segment to the segment's end, so
that K of its calls replace all of the teacher's (Wang et al. 2024, "Phased Consistency Model"; for K = 1, Luo et al.
2023, "Latent Consistency Models"). It learns this from pairs of neighbours on the path: the teacher takes one guided
DDIM step, and the student must map both ends of that step to the same point. Guidance is thereby part of the student.

The map is DDIM's deterministic step to the segment's end. It leaves a point at the end unchanged, which is the
boundary condition of a consistency function, whatever the network predicts.

Shape suffixes: ``B`` batch, ``S`` training timesteps, ``N`` grid. Latents are ``[B, C, T, H, W]``. The timestep -1
stands for the clean latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videocrafter.diffusion.objective import PredictionType, add_noise, predicted_x0_and_noise

CLEAN = -1
"""The timestep of the clean latent."""
HUBER_SHARE = 0.00054
"""Constant of the pseudo-Huber loss per root of the number of elements (Song & Dhariwal 2023, section 3.3)."""
_SNR_RANGE = (1e-3, 100.0)


@dataclass(frozen=True, kw_only=True)
class SegmentGrid:
    """The timesteps at which a student is trained, descending, int64 [N] each.

    Attributes:
        times: points of the teacher's path.
        nexts: the point after each, `CLEAN` after the last.
        ends: the end of each point's segment: the first point of the next one, or `CLEAN`.
        segments: index of each point's segment, from 0 at the noisiest.
    """

    times: Tensor
    nexts: Tensor
    ends: Tensor
    segments: Tensor

    def __len__(self) -> int:
        return len(self.times)

    def draw_within(self, segment_B: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a point of each sample's segment [B], after its first unless it has no other."""
        count = torch.bincount(self.segments)
        first = count.cumsum(0) - count
        segment_B = segment_B.cpu()
        share_B = torch.rand(len(segment_B), generator=generator, device=generator.device).cpu()
        inner_B = (count[segment_B] - 1).clamp(min=1)
        # A share just below 1 may round up.
        offset_B = torch.minimum((share_B * inner_B).long(), inner_B - 1) + (count[segment_B] > 1)
        return self.times[first[segment_B] + offset_B]


def segment_grid(alphas_cumprod_S: Tensor, starts: Sequence[int], size: int) -> SegmentGrid:
    """Return a grid of about `size` timesteps, evenly spaced in the logarithm of the signal-to-noise ratio.

    It contains the first points of all segments. Ratios below 0.001 and above 100 differ too little from pure noise
    and clean latents to deserve points.

    Args:
        starts: first timestep of each segment, descending; see `few_step_times`.

    Raises:
        ValueError: fewer points than segments.
    """
    if size < len(starts):
        raise ValueError(f"grid_size is {size}; it must be at least {len(starts)}, the number of segments")
    abar_S = alphas_cumprod_S.double().cpu()
    log_snr_S = torch.log(abar_S / (1 - abar_S))
    lowest = max(np.log(_SNR_RANGE[0]), float(log_snr_S[-1]))
    highest = min(np.log(_SNR_RANGE[1]), float(log_snr_S[0]))
    wanted = np.linspace(lowest, highest, size)
    times = {int((log_snr_S - one).abs().argmin()) for one in wanted} | set(starts)
    ordered = sorted((time for time in times if time <= starts[0]), reverse=True)
    bounds = [*starts, CLEAN]
    segments = [sum(time <= start for start in starts) - 1 for time in ordered]
    return SegmentGrid(
        times=torch.tensor(ordered),
        nexts=torch.tensor([*ordered[1:], CLEAN]),
        ends=torch.tensor([bounds[segment + 1] for segment in segments]),
        segments=torch.tensor(segments),
    )


def levels_with_clean(alphas_cumprod_S: Tensor) -> Tensor:
    """Return ``alpha_bar`` of all timesteps [S + 1]; the index `CLEAN` gives 1."""
    return torch.cat([alphas_cumprod_S.float(), alphas_cumprod_S.new_ones(1, dtype=torch.float32)])


def ddim_step(
    prediction: Tensor, noisy: Tensor, level_B: Tensor, reached_B: Tensor, prediction_type: PredictionType
) -> Tensor:
    """Return the latents at another noise level, along the predicted clean latent and noise.

    It is the deterministic step of DDIM (Song et al. 2020, equation 12 with eta 0), from ``alpha_bar`` `level_B` to
    `reached_B`, [B] each. With equal levels it returns `noisy`.
    """
    clean, noise = predicted_x0_and_noise(prediction, noisy, level_B, prediction_type)
    return add_noise(clean, noise, reached_B)


def pseudo_huber(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the distance of each sample, [B]: ``sqrt(mean squared difference + c^2) - c`` with c = `HUBER_SHARE`.

    It is the pseudo-Huber loss of Song & Dhariwal (2023), divided by the root of the number of elements, so that its
    size does not depend on that of the latents. The gradient of a sample does not grow with its error.
    """
    squared_B = (found.float() - wanted.float()).square().flatten(1).mean(dim=1)
    return (squared_B + HUBER_SHARE**2).sqrt() - HUBER_SHARE


def stratified(choices: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of the numbers 0 to `choices` - 1, spread evenly and in random order, [count] on the CPU."""
    order = torch.randperm(count, generator=generator, device=generator.device).cpu()
    offsets = torch.rand(count, generator=generator, device=generator.device).cpu()
    return ((order + offsets) / count * choices).long().clamp(max=choices - 1)
