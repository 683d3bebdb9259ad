"""CLIP's byte-pair tokenizer, built from the vocabulary that ships in the package.

It produces the token ids that the text encoder of the official checkpoints (OpenCLIP ViT-H/14) was trained with.
The official code cleans a prompt in Python first. Here the same cleaning is part of the tokenizer, so that it is
saved with it. There are three differences: mis-decoded text (a quote that became "â€œ", terminal codes) is not
repaired; only the six HTML entities below are decoded; and special tokens typed in a prompt are treated as text.
"""

from __future__ import annotations

import gzip
import unicodedata
from functools import cache
from importlib.resources import files

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77

_END_OF_WORD = "</w>"
# Bytes that stand for themselves; the other 68 are represented by characters from 256 on.
_PRINTABLE_BYTES = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_PIECE = rf"{_CONTRACTIONS}|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"
# The first entry undoes any number of repeated escapes of an ampersand.
_ENTITIES = (
    (r"&(?:amp;)+", "&"),
    (r"&lt;", "<"),
    (r"&gt;", ">"),
    (r"&quot;", '"'),
    (r"&(?:#39|#x27|apos);", "'"),
    (r"&nbsp;", " "),
)
_LIGATURES = "ĲĳŉǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆ"
_WIDE_OR_HALF_WIDTH = "".join(map(chr, range(0xFF01, 0xFFF0)))
_CURLED_QUOTES = (("[\u02bc\u2018-\u201b]", "'"), ("[\u201c-\u201f]", '"'))
_INVISIBLE = "[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]"
# A capital sigma at the end of a word has its own lower-case letter, which lower-casing each letter alone misses.
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}]"
_FINAL_SIGMA = f"(?<={_CASED})Σ(?!{_CASED})"


def clip_tokenizer() -> PreTrainedTokenizerBase:
    """Build CLIP's tokenizer (49,408 tokens, 77 per prompt, start 49406, end 49407) without network access.

    A prompt is cleaned, lower-cased and split; with ``truncation=True`` a long one is truncated and still ends in the
    end token. The tokenizer pads with end tokens, but OpenCLIP encoders expect zeros, which
    :func:`~.text_encoder.tokenize` writes. 0 cannot be the tokenizer's padding token: it is the id of the exclamation
    mark, and "!!" in a prompt would be split. ``save_pretrained`` and ``from_pretrained`` preserve all of this.
    """
    merges = _merges()
    letters = [*map(chr, _PRINTABLE_BYTES), *map(chr, range(0x100, 0x100 + 0x100 - len(_PRINTABLE_BYTES)))]
    tokens = [*letters, *(letter + _END_OF_WORD for letter in letters), *map("".join, merges), START_TOKEN, END_TOKEN]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocabulary, list(merges), end_of_word_suffix=_END_OF_WORD))
    backend.normalizer = _cleaning()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECE), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START_TOKEN} $A {END_TOKEN}",
        special_tokens=[(token, vocabulary[token]) for token in (START_TOKEN, END_TOKEN)],
    )
    # "Ġ" represents a space in the byte-level alphabet.
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_END_OF_WORD, "Ġ"), decoders.ByteLevel(), decoders.Fuse(), decoders.Strip(" ", 0, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        bos_token=START_TOKEN,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Pairs of tokens to merge, the most frequent first."""
    packed = (files("videocrafter.assets") / "clip_bpe" / "merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    first, second = zip(*(line.split(" ") for line in lines), strict=True)
    return tuple(zip(first, second, strict=True))


def _cleaning() -> normalizers.Normalizer:
    """The official code's cleaning of a prompt, as normalizers."""
    compatible = {one: unicodedata.normalize("NFKC", one) for one in _LIGATURES + _WIDE_OR_HALF_WIDTH}
    replaced: list[tuple[Regex | str, str]] = [(Regex(pattern), plain) for pattern, plain in _ENTITIES]
    replaced += [(one, plain) for one, plain in compatible.items() if one != plain]
    replaced += [(Regex(pattern), plain) for pattern, plain in (*_CURLED_QUOTES, (_INVISIBLE, ""))]
    return normalizers.Sequence(
        [
            *(normalizers.Replace(pattern, plain) for pattern, plain in replaced),
            normalizers.NFC(),
            normalizers.Replace(Regex(_FINAL_SIGMA), "ς"),
            normalizers.Lowercase(),
        ]
    )
