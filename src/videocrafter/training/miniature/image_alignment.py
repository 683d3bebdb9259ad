"""How far the tokens of a picture are from what the text tower says of its plain caption.

A miniature's image branch learns the subject of a picture only if the projector first learns the text tower's
language (docs/lab_log.md, "Image to video"), and does not forget it while the denoising loss, to which a subject is a
small part of a frame, trains it on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from videocrafter.data.sprite_world.captions import PLAIN_WORDING, worded_image_caption
from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld

EncodeText = Callable[[list[str]], Tensor]
"""Captions -> text tokens [B, L, D]; rows past a caption's end are zero."""


def plain_caption(script: SceneScript) -> str:
    """What a picture of this script shows, always in the same words."""
    return worded_image_caption(script.subject, script.scene, PLAIN_WORDING)


def alignment_error(image_BQD: Tensor, text_BLD: Tensor, *, free_rows: bool) -> tuple[Tensor, Tensor]:
    """Distance of a picture's tokens from its caption's, row by row, as many as both have.

    W'k and W'v start as the text's, so tokens that read like text mean to the video network what the text means.

    Args:
        free_rows: whether the rows past a caption's end do not count; there the projector may tell what no caption
            does: where and how large the subject is.

    Returns:
        The mean squared error, and the share of the differences between captions that it leaves unexplained: the
        mean of all captions alone would leave 1.
    """
    rows = min(image_BQD.shape[1], text_BLD.shape[1])
    wanted = text_BLD[:, :rows].float()
    counts_BR1 = wanted.abs().sum(dim=2, keepdim=True) > 0 if free_rows else torch.ones_like(wanted[..., :1])
    weight = counts_BR1.float() / (counts_BR1.sum() * wanted.shape[2])
    error = ((image_BQD[:, :rows].float() - wanted).square() * weight).sum()
    spread = ((wanted - wanted.mean(dim=0)).square() * weight).sum()
    return error, error / spread


def reading_accuracy(
    image_BQD: Tensor, scripts: Sequence[SceneScript], world: SpriteWorld, encode: EncodeText
) -> float:
    """Share of pictures, in percent, whose tokens are nearer to their own subject's caption than to any other's.

    Args:
        image_BQD: the projector's tokens of pictures of `scripts`.
        world: whose subjects are the choices.
        encode: the text tower.
    """
    text_of = {
        scene: encode([worded_image_caption(subject, scene, PLAIN_WORDING) for subject in world.subjects])
        for scene in {script.scene for script in scripts}
    }
    hits = 0
    for tokens_QD, script in zip(image_BQD, scripts, strict=True):
        errors = [
            alignment_error(tokens_QD[None], text_LD[None], free_rows=True)[0] for text_LD in text_of[script.scene]
        ]
        hits += world.subjects[int(torch.stack(errors).argmin())] == script.subject
    return 100 * hits / len(scripts)
