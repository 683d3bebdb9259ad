"""The task that trains the miniature's CLIP: a text and an image encoder ("towers") on captioned clips and images.

Three things preserve motion words, which a CLIP trained on still images loses. The towers see clips: frames go
through the image encoder, then through a small transformer over frames that is dropped after training. A batch holds
groups of clips whose captions differ in one attribute only. And in addition to the contrastive loss, each text token
must predict its own word, which separates words that the contrastive loss cannot use yet. A small caption decoder,
dropped after training too, makes every patch token describe its content.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videocrafter.data.sprite_world.captions import worded_caption, worded_image_caption
from videocrafter.data.sprite_world.world import (
    PLAIN_SCENES,
    SCENES,
    SPEEDS,
    SceneScript,
    SpriteWorld,
    SpriteWorldConfig,
    is_held_out,
    vocabulary,
)
from videocrafter.models.image_encoder import encode_image, tiny_image_encoder
from videocrafter.models.text_encoder import encode_text, tiny_text_encoder, tokenize
from videocrafter.models.tokenizer import PAD_ID, build_word_tokenizer
from videocrafter.training.randomness import derive_seed
from videocrafter.training.video.long_captions import LongCaptions
from videocrafter.training.video.starting_weights import FolderNetworks

_log = logging.getLogger(__name__)
_VALIDATION_SEED = 2_000_003
_CAPTIONS_MEASURED = 500
# The attribute in which the clips of a group differ, and its probability: motion words are the hardest to learn.
_GROUP_KINDS = ("motion", "subject", "scene", "speed")
_GROUP_ODDS = (0.5, 0.2, 0.1, 0.2)
_LAYER: dict[str, Any] = {
    "dim_feedforward": 256,
    "dropout": 0.0,
    "activation": "gelu",
    "batch_first": True,
    "norm_first": True,
}


@dataclass(frozen=True, kw_only=True)
class ContrastiveTaskConfig:
    """Architecture and training settings of the two towers.

    Attributes:
        width, text_layers, image_layers, heads: size of the towers.
        max_length: longest caption in tokens, start and end included.
        size, patch: side of the frames and of a patch, in pixels.
        num_frames: frames per clip that the towers see, out of its eight.
        num_groups, group_size: number and size of the groups in a batch, whose clips differ in one attribute.
        image_share: share of the batches that are single images, with captions without motion.
        caption_weight: weight of the caption loss relative to the contrastive loss.
        word_weight: weight of the loss by which each text token predicts its own word.
    """

    width: int = 128
    text_layers: int = 3
    image_layers: int = 3
    heads: int = 4
    max_length: int = 28
    size: int = 64
    patch: int = 8
    num_frames: int = 4
    num_groups: int = 16
    group_size: int = 4
    image_share: float = 0.2
    caption_weight: float = 0.5
    word_weight: float = 0.0

    def validation_metrics(self) -> list[str]:
        """Retrieval accuracy by attribute, and the effect of a motion word."""
        return [*(f"retrieval_by_{kind}" for kind in _GROUP_KINDS), "motion_word_change"]


@dataclass(frozen=True, kw_only=True)
class CaptionedClips:
    """Frames [B, T, 3, H, W], their fps [B] and their captions."""

    pixels: Tensor
    fps: Tensor
    captions: list[str]


class ContrastiveHeads(nn.Module):
    """Networks that only training needs: projections, a transformer over frames, a caption decoder."""

    def __init__(self, width: int, heads: int, vocabulary_size: int, max_length: int, num_frames: int) -> None:
        super().__init__()
        self.text_projection = nn.Linear(width, width, bias=False)
        self.clip_projection = nn.Linear(width, width, bias=False)
        self.frame_positions = nn.Parameter(0.1 * torch.randn(num_frames, width))
        self.fps_in = nn.Linear(2, width)
        self.over_frames = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, **_LAYER),
            num_layers=2,
            enable_nested_tensor=False,
        )
        self.words = nn.Embedding(vocabulary_size, width)
        self.word_positions = nn.Parameter(0.1 * torch.randn(max_length, width))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, **_LAYER), num_layers=2)
        self.to_word = nn.Linear(width, vocabulary_size)
        self.to_own_word = nn.Linear(width, vocabulary_size)
        self.log_temperature = nn.Parameter(torch.tensor(2.5))

    def clip_embedding(self, class_tokens_BTD: Tensor, fps_B: Tensor) -> Tensor:
        """Return unit vectors [B, D] of clips, from the class tokens of their frames."""
        speed_BD = self.fps_in(torch.stack([fps_B.log(), 8 / fps_B], dim=-1))
        frames_BTD = class_tokens_BTD + self.frame_positions[: class_tokens_BTD.shape[1]]
        mixed_BSD = self.over_frames(torch.cat([speed_BD[:, None], frames_BTD], dim=1))
        return nn.functional.normalize(self.clip_projection(mixed_BSD[:, 0]), dim=-1)

    def text_embedding(self, end_tokens_BD: Tensor) -> Tensor:
        """Return unit vectors [B, D] of captions, from their end tokens."""
        return nn.functional.normalize(self.text_projection(end_tokens_BD), dim=-1)

    def caption_loss(self, tokens_BTMD: Tensor, fps_B: Tensor, ids_BL: Tensor) -> Tensor:
        """Return the mean cross entropy of each next word, given the words before it and all tokens of all frames."""
        speed_B1D = self.fps_in(torch.stack([fps_B.log(), 8 / fps_B], dim=-1))[:, None]
        frames_BTMD = tokens_BTMD + self.frame_positions[: tokens_BTMD.shape[1], None]
        memory_BSD = torch.cat([speed_B1D, frames_BTMD.flatten(1, 2)], dim=1)
        words_BLD = self.words(ids_BL[:, :-1]) + self.word_positions[: ids_BL.shape[1] - 1]
        mask_LL = nn.Transformer.generate_square_subsequent_mask(words_BLD.shape[1], device=ids_BL.device)
        logits_BLV = self.to_word(self.decoder(words_BLD, memory_BSD, tgt_mask=mask_LL, tgt_is_causal=True))
        return nn.functional.cross_entropy(
            logits_BLV.flatten(0, 1).float(), ids_BL[:, 1:].flatten(), ignore_index=PAD_ID
        )

    def own_word_loss(self, text_BLD: Tensor, ids_BL: Tensor) -> Tensor:
        """Return the mean cross entropy of each word, given the text encoder's output at its position."""
        logits_BLV = self.to_own_word(text_BLD)
        return nn.functional.cross_entropy(logits_BLV.flatten(0, 1).float(), ids_BL.flatten(), ignore_index=PAD_ID)


class ContrastiveTask:
    """Trains both towers together (see `training/task.py` for the contract of each method).

    Args:
        start: folder whose towers are trained further; None begins with random weights.
    """

    def __init__(
        self,
        config: ContrastiveTaskConfig,
        start: Path | None,
        seed: int,
        stage_index: int,
        device: torch.device,
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        if start is None:
            self.tokenizer = build_word_tokenizer(vocabulary(), config.max_length)
            size: dict[str, Any] = {"hidden": config.width, "heads": config.heads}
            self.text_encoder = tiny_text_encoder(
                len(self.tokenizer), layers=config.text_layers, max_length=config.max_length, **size
            )
            self.image_encoder = tiny_image_encoder(config.size, config.patch, layers=config.image_layers, **size)
        else:
            source = FolderNetworks(start)
            self.tokenizer = source.tokenizer()
            self.text_encoder, self.image_encoder = source.network("text_encoder"), source.network("image_encoder")
        self.heads = ContrastiveHeads(
            config.width, config.heads, len(self.tokenizer), config.max_length, config.num_frames
        )
        for module in self.modules().values():
            module.to(device).train()
        for name, parameter in self.image_encoder.named_parameters():
            # The norm after the class token's last block is unused: all tokens are read before it.
            parameter.requires_grad_("post_layernorm" not in name)
        self.world = _world(config.size, derive_seed(seed, stage_index, "world"))
        captions = [self.world.script(index).caption for index in range(_CAPTIONS_MEASURED)]
        if (note := LongCaptions.among(captions, self.tokenizer, self.text_encoder).note()) is not None:
            _log.info("Note: %s; raise task.max_length", note)

    def modules(self) -> Mapping[str, nn.Module]:
        """Both towers, and the heads."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder, "heads": self.heads}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All parameters that the loss depends on."""
        return [p for module in self.modules().values() for p in module.parameters() if p.requires_grad]

    def batch(self, step: int, micro_step: int = 0) -> CaptionedClips:
        """Groups of clips or images that differ in one attribute, different in every step."""
        rng = np.random.default_rng([derive_seed(self.seed, self.stage_index, step, micro_step)])
        images = rng.random() < self.config.image_share
        first = (step * 64 + micro_step) * self.config.num_groups
        scripts = []
        for offset in range(self.config.num_groups):
            base = self.world.image_script(first + offset) if images else self.world.script(first + offset)
            scripts += contrasting_group(self.world, base, self.config.group_size, rng)
        return self._render(self.world, scripts)

    def loss(self, batch: CaptionedClips, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Symmetric contrastive loss between clips and captions, plus the caption loss and the own-word loss."""
        text_BD, clip_BD, caption_loss, word_loss = self._embed(batch)
        logits_BB = self.heads.log_temperature.clamp(max=4.6).exp() * clip_BD.float() @ text_BD.float().T
        # Two clips of a batch may have the same caption; then both are right.
        same_BB = torch.tensor([[a == b for b in batch.captions] for a in batch.captions], device=self.device)
        wanted_BB = same_BB / same_BB.sum(dim=1, keepdim=True)
        contrast = 0.5 * (
            nn.functional.cross_entropy(logits_BB, wanted_BB) + nn.functional.cross_entropy(logits_BB.T, wanted_BB)
        )
        hits = same_BB.gather(1, logits_BB.argmax(1, keepdim=True)).float().mean()
        metrics = {
            "contrast": contrast.detach(),
            "caption": caption_loss.detach(),
            "words": word_loss.detach(),
        }
        extra = self.config.caption_weight * caption_loss + self.config.word_weight * word_loss
        return contrast + extra, {**metrics, "retrieval": hits}

    def names(self, batch: CaptionedClips) -> list[str]:
        """The captions."""
        return list(batch.captions)

    def num_samples(self, batch: CaptionedClips) -> int:
        """Clips or images in the batch."""
        return len(batch.captions)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Accuracy of a clip's retrieval of its caption among captions that differ in one attribute.

        `motion_word_change` is the relative change of the text encoder's output if a motion word changes; below 0.2
        the word is nearly lost.
        """
        world = _world(self.config.size, _VALIDATION_SEED)
        rng = np.random.default_rng(_VALIDATION_SEED)
        scores = {}
        for kind in _GROUP_KINDS:
            hits = []
            for index in range(24):
                group = contrasting_group(world, world.script(index), self.config.group_size, rng, kind)
                text_BD, clip_BD, _, _ = self._embed(self._render(world, group))
                hits.append(
                    ((clip_BD @ text_BD.T).argmax(1) == torch.arange(len(group), device=self.device)).float().mean()
                )
            scores[f"retrieval_by_{kind}"] = float(torch.stack(hits).mean())
        scores["motion_word_change"] = self._motion_word_change()
        return scores

    def write_samples(self, folder: Path) -> None:
        """Write nothing."""

    def save_pipeline(self, folder: Path) -> None:
        """Write `tokenizer/`, `text_encoder/` and `image_encoder/`."""
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        self.image_encoder.save_pretrained(folder / "image_encoder")

    def _embed(self, batch: CaptionedClips) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ids_BL, num_tokens_B = tokenize(self.tokenizer, self.text_encoder, batch.captions)
        text_BLD = encode_text(self.tokenizer, self.text_encoder, batch.captions)
        end_BD = text_BLD[torch.arange(len(text_BLD)), num_tokens_B - 1]
        num_frames = batch.pixels.shape[1]
        tokens_BTMD = encode_image(self.image_encoder, batch.pixels.flatten(0, 1)).unflatten(0, (-1, num_frames))
        clip_BD = self.heads.clip_embedding(tokens_BTMD[:, :, 0], batch.fps)
        caption_loss = self.heads.caption_loss(tokens_BTMD, batch.fps, ids_BL)
        word_loss = self.heads.own_word_loss(text_BLD, ids_BL)
        return self.heads.text_embedding(end_BD), clip_BD, caption_loss, word_loss

    def _render(self, world: SpriteWorld, scripts: list[SceneScript]) -> CaptionedClips:
        pixels = world.render(scripts)
        seen = np.linspace(0, pixels.shape[1] - 1, min(self.config.num_frames, pixels.shape[1])).round().astype(int)
        return CaptionedClips(
            pixels=pixels[:, seen].to(self.device),
            fps=torch.tensor([script.fps for script in scripts], device=self.device),
            captions=[script.caption for script in scripts],
        )

    def _motion_word_change(self) -> float:
        pairs = [
            ("moving to the left", "moving to the right"),
            ("moving up", "moving down"),
            ("growing", "shrinking"),
        ]
        changes = []
        for one, other in pairs:
            captions = [f"a rocket is {words} over a blue sky" for words in (one, other)]
            first, second = encode_text(self.tokenizer, self.text_encoder, captions)
            changes.append((first - second).norm() / first.norm())
        return float(torch.stack(changes).min())


def contrasting_group(
    world: SpriteWorld, base: SceneScript, size: int, rng: np.random.Generator, kind: str | None = None
) -> list[SceneScript]:
    """Return the script and variants that differ from it in one attribute.

    The group is smaller than `size` if the attribute has fewer values. Held-out combinations are left out.

    Args:
        kind: the attribute; None draws one.
    """
    is_image = base.image_frame is not None
    if kind is None:
        kinds, odds = (("subject", "scene"), (0.7, 0.3)) if is_image else (_GROUP_KINDS, _GROUP_ODDS)
        kind = str(rng.choice(kinds, p=odds))
    if kind == "speed" and base.motion == "still":
        kind = "motion"
    values = {"motion": world.motions, "subject": world.subjects, "scene": world.scenes, "speed": SPEEDS}[kind]
    group = [base]
    for value in rng.permutation([value for value in values if value != getattr(base, kind)]).tolist():
        if len(group) == size:
            break
        other = replace(base, **{kind: value})
        if other.motion == "still":
            other = replace(other, speed="medium")
        if is_held_out(other.subject, other.motion, other.scene):
            continue
        wording = other.wording
        words = (
            worded_image_caption(other.subject, other.scene, wording)
            if is_image
            else worded_caption(other.subject, other.motion, other.scene, other.speed, wording)
        )
        group.append(replace(other, caption=words))
    return group


def _world(size: int, seed: int) -> SpriteWorld:
    return SpriteWorld(SpriteWorldConfig(height=size, width=size, scenes=SCENES + PLAIN_SCENES, seed=seed))
