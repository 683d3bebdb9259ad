"""The CLIP text encoder, from prompts to the tokens that the video network attends to.

Shape suffixes: ``B`` prompts, ``L`` text tokens, ``D`` width. The network is transformers' ``CLIPTextModel``.
Text tokens are its ``last_hidden_state``, after the final norm. The "penultimate layer" of the official checkpoints
(OpenCLIP ViT-H/14) is such a model with 23 of the 24 blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from videocrafter.models.tokenizer import END_ID, PAD_ID, START_ID, TOKENIZING

_LONGEST_WORD = 40


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: CLIPTextModel,
    prompts: Sequence[str],
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Return token ids ``[B, L]`` and the number of tokens of each prompt ``[B]``, start and end included.

    ``device`` is the device that the encoder computes on; None means that of its weights. The two differ while the
    weights are offloaded.

    L is always the encoder's ``max_position_embeddings``. Longer prompts are truncated and still end in the end
    token. Padding uses the *encoder's* ``pad_token_id``: OpenCLIP encoders expect 0, which CLIP tokenizers cannot pad
    with, because 0 is their token for an exclamation mark. Raises ValueError for a bare string, because its letters
    would be taken as prompts.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one string, {prompts!r}; pass a sequence of strings, such as [prompt]")
    length = text_encoder.config.max_position_embeddings
    with TOKENIZING:
        rows = tokenizer(list(prompts), padding=False, truncation=True, max_length=length)["input_ids"]
    ids_BL = torch.full((len(rows), length), text_encoder.config.pad_token_id, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BL[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    num_tokens_B = torch.tensor([len(row) for row in rows], dtype=torch.long)
    device = text_encoder.device if device is None else device
    return ids_BL.to(device), num_tokens_B.to(device)


def unread_texts(
    tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel, prompts: Sequence[str]
) -> list[str]:
    """Return the end of each prompt that :func:`tokenize` truncates; "" for a prompt that fits.

    It begins with a whole word, even if only the end of that word is truncated.
    """
    limit = num_readable_tokens(tokenizer, text_encoder)
    encoded = tokenizer(
        list(prompts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
    )
    unread = []
    for prompt, offsets in zip(prompts, encoded["offset_mapping"], strict=True):
        if len(offsets) <= limit:
            unread.append("")
            continue
        first = offsets[limit][0]
        begin = next((at for at in range(first, -1, -1) if at == 0 or prompt[at - 1].isspace()), first)
        # Scripts without spaces have no words to begin with.
        unread.append(prompt[begin if first - begin <= _LONGEST_WORD else first :].strip())
    return unread


def num_readable_tokens(tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel) -> int:
    """Return how many tokens of a prompt the encoder reads, without start and end."""
    return int(text_encoder.config.max_position_embeddings) - tokenizer.num_special_tokens_to_add()


def encode_text(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: CLIPTextModel,
    prompts: Sequence[str],
    device: torch.device | None = None,
) -> Tensor:
    """Encode prompts into text tokens ``[B, L, D]``, after the final norm, in the encoder's dtype.

    Attention is causal and padding is not masked, as in the official model, so the video network also attends to the
    rows after the end token. If the encoder's config sets ``zero_padding``, those rows are zero, so that a small
    network need not learn to ignore them. ``device`` is that of :func:`tokenize`.
    """
    ids_BL, num_tokens_B = tokenize(tokenizer, text_encoder, prompts, device)
    text_BLD = text_encoder(input_ids=ids_BL).last_hidden_state
    if getattr(text_encoder.config, "zero_padding", False):
        text_BLD = zero_rows_past_end(text_BLD, num_tokens_B)
    return text_BLD


def zero_rows_past_end(text_BLD: Tensor, num_tokens_B: Tensor) -> Tensor:
    """Zero the rows after each prompt's end token."""
    positions_L = torch.arange(text_BLD.shape[1], device=text_BLD.device)
    keep_BL = positions_L[None] < num_tokens_B.to(text_BLD.device)[:, None]
    return text_BLD * keep_BL[..., None].to(text_BLD.dtype)


def tiny_text_encoder(
    vocab_size: int,
    *,
    hidden: int = 128,
    layers: int = 4,
    heads: int = 4,
    max_length: int = 32,
    zero_padding: bool = True,
) -> CLIPTextModel:
    """Build a small, randomly initialised text encoder for tokens of :func:`~.tokenizer.build_word_tokenizer`."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        projection_dim=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=max_length,
        hidden_act="gelu",
        pad_token_id=PAD_ID,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
        zero_padding=zero_padding,
    )
    return CLIPTextModel(config).eval()
