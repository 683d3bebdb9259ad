"""A word tokenizer for models with a small vocabulary, as a transformers tokenizer.

The official checkpoints use CLIP's byte-pair encoding. For a model trained on a few hundred words, a vocabulary of
whole words works better and makes it possible to report the words of a prompt that the model does not know.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# The end token must not have id 2: CLIPTextModel treats 2 as a legacy mistake in OpenAI's config and then pools at
# the largest id of each sequence instead of at the end token.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[START]", "[END]")
PAD_ID, UNKNOWN_ID, START_ID, END_ID = range(len(SPECIAL_TOKENS))

TOKENIZING = threading.Lock()
"""Held while a tokenizer runs: it stores how to truncate before it reads the text, so threads must take turns."""


def build_word_tokenizer(words: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """Build a lower-case tokenizer of whole words that drops punctuation and adds a start and an end token.

    ``words`` may contain phrases, which are split like prompts; order and repetition do not matter. With
    ``truncation=True``, a prompt of more than ``max_length`` tokens (start and end included) is truncated and still
    ends in the end token. Raises ValueError if there are no words or ``max_length`` leaves no room for one.
    """
    if max_length < 3:
        raise ValueError(f"max_length is {max_length}; it must be at least 3, for start, end and one word")
    normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"['\u2019]s\b"), ""),
            normalizers.Replace(Regex(r"['\u2019]"), ""),
        ]
    )
    pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), behavior="removed")
    known = {piece for word in words for piece, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(word))}
    if not known:
        raise ValueError("words contains no word; a word tokenizer needs at least one")

    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *sorted(known)])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNKNOWN_ID]))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    start, end = SPECIAL_TOKENS[START_ID], SPECIAL_TOKENS[END_ID]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, START_ID), (end, END_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        pad_token=SPECIAL_TOKENS[PAD_ID],
        unk_token=SPECIAL_TOKENS[UNKNOWN_ID],
        bos_token=start,
        eos_token=end,
    )


def unknown_words(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[str]:
    """Return the words of a prompt that the tokenizer has no token for: lower-case, unique, in order.

    Always empty for byte-pair encodings, which can encode any text.
    """
    with TOKENIZING:
        encoded = tokenizer(prompt, add_special_tokens=False, truncation=False, return_offsets_mapping=True)
    unknown = [
        prompt[start:end].lower()
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if token == tokenizer.unk_token_id
    ]
    return list(dict.fromkeys(unknown))
