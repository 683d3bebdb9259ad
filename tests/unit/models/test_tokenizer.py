import pytest
from transformers import PreTrainedTokenizerFast

from videocrafter.models.tokenizer import (
    END_ID,
    PAD_ID,
    START_ID,
    UNKNOWN_ID,
    build_word_tokenizer,
    unknown_words,
)


def test_prompts_become_words_between_start_and_end() -> None:
    tokenizer = build_word_tokenizer(["a", "red panda", "Rocket", "flying", "a"], max_length=8)
    assert len(tokenizer) == 9
    ids = tokenizer("A red-panda\u2019s ROCKET, flying!?").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "[START]",
        "a",
        "red",
        "panda",
        "rocket",
        "flying",
        "[END]",
    ]
    assert tokenizer("").input_ids == [START_ID, END_ID]


def test_padding_and_truncation_keep_the_end() -> None:
    tokenizer = build_word_tokenizer(["go"], max_length=6)
    rows = tokenizer(["go", "go " * 20], padding="max_length", truncation=True).input_ids
    word = tokenizer.convert_tokens_to_ids("go")
    assert rows == [[START_ID, word, END_ID, PAD_ID, PAD_ID, PAD_ID], [START_ID, *[word] * 4, END_ID]]


def test_the_order_of_the_words_does_not_matter() -> None:
    assert build_word_tokenizer(["b", "a"], 4).get_vocab() == build_word_tokenizer({"a", "b"}, 4).get_vocab()


def test_saves_and_loads(tmp_path) -> None:
    tokenizer = build_word_tokenizer(["a rocket flying"], max_length=7)
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    prompt = "A rocket, FLYING by"
    assert loaded(prompt).input_ids == tokenizer(prompt).input_ids
    assert loaded.model_max_length == 7
    assert (loaded.pad_token_id, loaded.unk_token_id) == (PAD_ID, UNKNOWN_ID)
    assert (loaded.bos_token_id, loaded.eos_token_id) == (START_ID, END_ID)


def test_unknown_words_are_named_once_in_order() -> None:
    tokenizer = build_word_tokenizer(["a rocket"], max_length=5)
    assert unknown_words(tokenizer, "A Zebra's rocket: blue, zebra; a BLUE rocket and more") == [
        "zebra",
        "blue",
        "and",
        "more",
    ]
    assert unknown_words(tokenizer, "a rocket!") == []
    assert unknown_words(tokenizer, "") == []


def test_the_end_token_avoids_clips_legacy_id() -> None:
    """CLIPTextModel pools at the largest id instead of the end token if the end token's id is 2."""
    assert END_ID != 2


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="max_length is 2; it must be at least 3"):
        build_word_tokenizer(["a"], max_length=2)
    with pytest.raises(ValueError, match="needs at least one"):
        build_word_tokenizer(["!?"], max_length=5)
