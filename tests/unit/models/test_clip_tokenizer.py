import gzip
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from runs.shrink_clip_vocabulary import shrink
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from videocrafter.models.clip_tokenizer import clip_tokenizer
from videocrafter.models.text_encoder import tokenize
from videocrafter.models.tokenizer import unknown_words

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "data" / "tokens.json").read_text(encoding="utf-8"))
START, END = 49406, 49407
# Characters of Unicode 3.2, on which all libraries agree, and which cleaning does not change except for their case.
# Letters whose lower case depends on their neighbours are excluded.
LEFT_ALONE = "".join(
    one
    for one in map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x3000), *range(0x4E00, 0x4E80), *range(0xAC00, 0xAC40)])
    if unicodedata.ucd_3_2_0.category(one) not in ("Cn", "Cc", "Cf", "Cs", "Co", "Mn", "Mc", "Me")
    and unicodedata.normalize("NFKC", one) == one
    and one not in "&\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201fΣ"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return clip_tokenizer()


class BytePairs:
    """A plain implementation of byte-pair encoding from its definition."""

    def __init__(self) -> None:
        packed = (files("videocrafter.assets") / "clip_bpe" / "merges.txt.gz").read_bytes()
        self.merges = [tuple(line.split(" ")) for line in gzip.decompress(packed).decode().split("\n") if line]
        shown = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
        hidden = [byte for byte in range(256) if byte not in shown]
        self.letter = {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + i) for i, byte in enumerate(hidden)}}
        letters = list(self.letter.values())
        tokens = [*letters, *(one + "</w>" for one in letters), *("".join(pair) for pair in self.merges)]
        self.id = {token: index for index, token in enumerate(tokens)}
        self.rank = {pair: index for index, pair in enumerate(self.merges)}

    def encode(self, text: str) -> list[int]:
        return [self.id[token] for word in words(text.lower()) for token in self.split(word)]

    def split(self, word: str) -> list[str]:
        tokens = [self.letter[byte] for byte in word.encode()]
        tokens[-1] += "</w>"
        while True:
            ranks = [self.rank.get(pair, len(self.rank)) for pair in itertools.pairwise(tokens)]
            best = min(ranks, default=len(self.rank))
            if best == len(self.rank):
                return tokens
            # Merge every occurrence of the pair, from the left.
            place = ranks.index(best)
            pair = tokens[place : place + 2]
            while place < len(tokens) - 1:
                if tokens[place : place + 2] == pair:
                    tokens[place : place + 2] = ["".join(pair)]
                place += 1


def words(text: str) -> Iterator[str]:
    """Split into contractions, runs of letters, single digits and runs of other characters."""

    def kind(one: str) -> str:
        category = unicodedata.category(one)[0]
        return " " if one.isspace() else category if category in "LN" else "other"

    while text:
        contraction = re.match("(?i)'(?:s|t|re|ve|m|ll|d)", text)
        end = contraction.end() if contraction else 1
        if contraction is None and kind(text[0]) in ("L", "other"):
            while end < len(text) and kind(text[end]) == kind(text[0]):
                end += 1
        if kind(text[0]) != " ":
            yield text[:end]
        text = text[end:]


@pytest.fixture(scope="module")
def byte_pairs() -> BytePairs:
    return BytePairs()


def tower() -> CLIPTextModel:
    """The smallest text encoder for CLIP's tokens."""
    sizes = {"hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, pad_token_id=0, eos_token_id=END, **sizes)
    with torch.device("meta"):
        return CLIPTextModel(config).to_empty(device="cpu")


def test_tokens_equal_those_of_open_clip(tokenizer):
    prompts = [one["prompt"] for one in GOLDEN]
    ids, num_tokens = tokenize(tokenizer, tower(), prompts)
    assert len(prompts) == 22
    for one, row, length in zip(GOLDEN, ids.tolist(), num_tokens.tolist(), strict=True):
        assert row == one["tokens"], one["prompt"]
        assert row[length - 1] == END


def test_the_vocabulary_is_clips(tokenizer, byte_pairs):
    assert len(byte_pairs.merges) == 48894
    assert len(tokenizer) == 49408
    assert tokenizer.get_vocab() == {**byte_pairs.id, "<|startoftext|>": START, "<|endoftext|>": END}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.model_max_length) == (START, END, 77)


def test_the_vocabulary_comes_with_its_licence():
    folder = files("videocrafter.assets") / "clip_bpe"
    assert "Copyright (c) 2021 OpenAI" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert len((folder / "merges.txt.gz").read_bytes()) < 250_000


def test_the_vocabulary_is_the_beginning_of_the_original(byte_pairs):
    lines = [" ".join(pair) for pair in byte_pairs.merges]
    original = gzip.compress("\n".join(["a title", *lines, "not used", ""]).encode())
    packed = shrink(original)
    assert packed == shrink(original)
    assert packed[4:8] == bytes(4)  # no timestamp
    shipped = (files("videocrafter.assets") / "clip_bpe" / "merges.txt.gz").read_bytes()
    assert gzip.decompress(packed) == gzip.decompress(shipped)


@given(st.text(alphabet=LEFT_ALONE, max_size=60))
@example("! !! !!!")
@example("don't can't I'LL we've 's !'s 'S's")
@example("ab1234cd 5_6 ½² Ⅷ")
@example("ééé \u017f '\u017f İ ß")
def test_any_text_is_encoded_as_defined(tokenizer, byte_pairs, text):
    assert tokenizer(text, add_special_tokens=False).input_ids == byte_pairs.encode(text)


@given(st.lists(st.sampled_from(["the ", "rocket", "!!!", "x", "日", " "]), max_size=150))
def test_long_prompts_are_cut_and_still_end(tokenizer, byte_pairs, parts):
    text = "".join(parts)
    ids = tokenizer(text, truncation=True).input_ids
    assert ids == [START, *byte_pairs.encode(text)[:75], END]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("  two\t\nlines \u3000", "two lines"),
        ("cafe\u0301", "café"),
        ("\u201cquotes\u201d and \u2018quotes\u2019", "\"quotes\" and 'quotes'"),
        ("rock &amp; roll &amp;lt;3 &quot;x&quot; it&#39;s", 'rock & roll <3 "x" it\'s'),
        ("ﬁre ﬂy \uff21\uff11\uff0cｶﾞ", "fire fly a1,ガ"),
        ("zero\u0000 width\ufeff", "zero width"),
        ("ΟΔΟΣ ΣΑΣ", "οδος σας"),
    ],
)
def test_text_is_cleaned_as_open_clip_does(tokenizer, given, meant):
    assert tokenizer(given).input_ids == tokenizer(meant).input_ids


def test_text_that_is_not_repaired_is_encoded_unchanged(tokenizer, byte_pairs):
    for text in ("&copy; &eacute;", "itâ€™s"):
        assert tokenizer(text, add_special_tokens=False).input_ids == byte_pairs.encode(text)


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|startoftext|>", "<end_of_text>"])
def test_special_tokens_cannot_be_typed(tokenizer, byte_pairs, name):
    ids = tokenizer(f"a {name} b").input_ids
    assert ids == [START, *byte_pairs.encode(f"a {name} b"), END]
    assert max(ids[1:-1]) < START


def test_a_saved_tokenizer_is_the_same_everywhere(tmp_path):
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    texts = [*(one["prompt"] for one in GOLDEN), "\u201ca\u201d &amp; \uff22", "ΟΔΟΣ"]
    for kind in (PreTrainedTokenizerFast, AutoTokenizer):
        loaded = kind.from_pretrained(tmp_path)
        # Save before use, because a fast tokenizer also saves the padding of its last call.
        loaded.save_pretrained(tmp_path / "again")
        assert (tmp_path / "again/tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
        for options in ({"truncation": True}, {"padding": "max_length", "truncation": True}):
            assert loaded(texts, **options).input_ids == tokenizer(texts, **options).input_ids
        assert loaded.special_tokens_map == tokenizer.special_tokens_map
        assert loaded.model_max_length == 77


def test_no_word_is_unknown_and_tokens_become_text_again(tokenizer):
    assert unknown_words(tokenizer, "Zwölf Boxkämpfer, 日本 🚀") == []
    ids = tokenizer("a café naïve 日本 🚀").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a café naïve 日本 🚀"
