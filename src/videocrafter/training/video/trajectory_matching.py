"""Trajectory distribution matching: the losses of the student and of its fake score.

A consistency student imitates single paths and blurs what it cannot tell apart. Here each of the student's steps is
compared with the teacher by distribution: what the step predicts is noised to a level within its own segment, and two
networks denoise it, the teacher and a *fake score*, which is trained on the student's predictions. Where the two
differ, the student's distribution differs from the teacher's, and the student moves along the difference (Luo et al.
2025, "Learning Few-Step Diffusion Models by Trajectory Distribution Matching"; Yin et al. 2024, "Improved
Distribution Matching Distillation"). No clips are needed, only prompts.

Shape suffix: ``B`` batch. Latents are ``[B, C, T, H, W]``.
"""

from __future__ import annotations

from torch import Tensor

from videocrafter.diffusion.objective import PredictionType, diffusion_loss

HUBER = 1e-3
"""Constant of the student's pseudo-Huber loss, per element."""
SNR_LIMIT = 5.0
"""Largest weight of the fake score's error in the clean latent."""
_SMALLEST = 1e-6


def noise_further(latents: Tensor, noise: Tensor, level_B: Tensor, reached_B: Tensor) -> Tensor:
    """Add noise to latents that are noisy already, from ``alpha_bar`` `level_B` down to `reached_B`, [B] each.

    If the latents follow the diffusion's marginal distribution at the first level, the result follows that at the
    second.
    """
    shape = (-1, *[1] * (latents.ndim - 1))
    ratio_B = (reached_B / level_B).to(latents.device)
    kept, added = ratio_B.sqrt(), (1 - ratio_B).clamp(min=0).sqrt()
    return kept.to(latents).reshape(shape) * latents + added.to(latents).reshape(shape) * noise


def noise_in(noisy: Tensor, clean: Tensor, level_B: Tensor) -> Tensor:
    """Return the noise that leads from a clean latent to a noisy one at ``alpha_bar`` `level_B`, below 1."""
    shape = (-1, *[1] * (noisy.ndim - 1))
    level_B = level_B.to(noisy.device)
    signal, sigma = level_B.sqrt().to(noisy).reshape(shape), (1 - level_B).sqrt().to(noisy).reshape(shape)
    return (noisy - signal * clean) / sigma


def matching_loss(predicted: Tensor, teachers: Tensor, fakes: Tensor) -> Tensor:
    """Return the student's loss for each sample, [B]; its gradient moves `predicted` by the teacher minus the fake.

    Args:
        predicted: clean latents that the student predicts, with gradient.
        teachers, fakes: clean latents that the guided teacher and the fake score see in a noised `predicted`.

    The loss is divided by the mean distance of `predicted` from the teacher's, which differs a lot between noise
    levels.
    """
    towards = (predicted + teachers - fakes).detach()
    distance = (predicted.float() - towards.float()).square()
    huber_B = ((distance + HUBER**2).sqrt() - HUBER).flatten(1).mean(dim=1)
    scale_B = (predicted.detach().float() - teachers.float()).abs().flatten(1).mean(dim=1)
    return huber_B / scale_B.clamp(min=_SMALLEST)


def fake_score_loss(
    prediction: Tensor, clean: Tensor, noisy: Tensor, level_B: Tensor, prediction_type: PredictionType
) -> Tensor:
    """Return the fake score's loss for each sample, [B]: the diffusion loss on the student's predictions.

    Args:
        prediction: of the fake score, for `noisy`.
        clean: clean latents that the student predicted.
        noisy: the same at ``alpha_bar`` `level_B`, [B].

    A squared error of the velocity is that of the clean latent times SNR + 1, one of the noise times SNR; these
    weights are limited to `SNR_LIMIT`, so that little noise does not dominate.
    """
    snr_B = level_B / (1 - level_B)
    weight_B = snr_B + 1 if prediction_type == "v_prediction" else snr_B
    losses_B = diffusion_loss(prediction, clean, noise_in(noisy, clean, level_B), level_B, prediction_type)
    return losses_B * (SNR_LIMIT / weight_B.clamp(min=SNR_LIMIT)).to(losses_B)
