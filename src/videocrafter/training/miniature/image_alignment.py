"""Alignment of the image projector with the text encoder: distance of an image's tokens from those of its caption.

The miniature's image branch learns the subject of an image only if the projector first learns the representation of
the text encoder (docs/lab_log.md, "Image to video"), and does not forget it during training with the denoising loss,
for which the subject is a small part of the frame.
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
    """Return the caption of an image of this script in a fixed wording."""
    return worded_image_caption(script.subject, script.scene, PLAIN_WORDING)


def alignment_error(image_BQD: Tensor, text_BLD: Tensor, *, free_rows: bool) -> tuple[Tensor, Tensor]:
    """Return the distance of image tokens from caption tokens, over the rows that both have.

    W'k and W'v start as the text's, so the video network understands image tokens that resemble text tokens.

    Args:
        free_rows: ignore the rows past a caption's end, in which the projector can then encode what no caption
            describes: position and size of the subject.

    Returns:
        The mean squared error, and the unexplained share of the variance between captions (1 for tokens that equal
        the mean of all captions).
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
    """Return the percentage of images whose tokens are nearest to the caption with their own subject.

    Args:
        image_BQD: the projector's tokens of images of `scripts`.
        world: supplies the subjects to choose from.
        encode: the text encoder.
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
