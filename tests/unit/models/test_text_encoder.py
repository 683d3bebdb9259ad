import pytest
import torch

from videocrafter.models.text_encoder import encode_text, tiny_text_encoder, tokenize
from videocrafter.models.tokenizer import END_ID, PAD_ID, START_ID, build_word_tokenizer

WORDS = "a red rocket flying left over the blue sky"


@pytest.fixture
def tokenizer():
    return build_word_tokenizer([WORDS], max_length=12)


def tower(tokenizer, **changes):
    torch.manual_seed(0)
    encoder = tiny_text_encoder(len(tokenizer), hidden=32, layers=2, heads=2, max_length=12, **changes)
    return encoder.requires_grad_(False)


def test_rows_after_the_end_are_zero_only_with_zero_padding(tokenizer) -> None:
    prompts = ["a red rocket", ""]
    padded = encode_text(tokenizer, tower(tokenizer, zero_padding=True), prompts)
    plain = encode_text(tokenizer, tower(tokenizer, zero_padding=False), prompts)
    assert padded.shape == (2, 12, 32)
    # start + 3 words + end; start + end
    for row, length in enumerate((5, 2)):
        assert torch.equal(padded[row, :length], plain[row, :length])
        assert (padded[row, length:] == 0).all()
        assert (plain[row, length:].abs().sum(-1) > 0).all()


def test_output_is_after_the_final_norm(tokenizer) -> None:
    text = encode_text(tokenizer, tower(tokenizer, zero_padding=False), ["a rocket"])
    torch.testing.assert_close(text.mean(-1), torch.zeros(1, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(text.std(-1, unbiased=False), torch.ones(1, 12), rtol=1e-2, atol=0)


def test_a_prompt_does_not_depend_on_its_batch_and_attention_is_causal(tokenizer) -> None:
    encoder = tower(tokenizer)
    alone = encode_text(tokenizer, encoder, ["a red rocket"])
    batch = encode_text(tokenizer, encoder, [WORDS, "a red rocket", "a red sky"])
    torch.testing.assert_close(batch[1:2], alone, rtol=1e-5, atol=1e-6)
    # Same first words, same first rows; the next row differs.
    torch.testing.assert_close(batch[2, :3], alone[0, :3], rtol=1e-5, atol=1e-6)
    assert (batch[2, 3] - alone[0, 3]).abs().max() > 1e-2


def test_long_prompts_are_cut_and_short_ones_filled_with_the_encoders_pad(tokenizer) -> None:
    encoder = tower(tokenizer)
    ids, lengths = tokenize(tokenizer, encoder, ["rocket " * 30, "rocket"])
    assert ids.shape == (2, 12)
    assert lengths.tolist() == [12, 3]
    assert ids[0, [0, -1]].tolist() == [START_ID, END_ID]
    assert (ids[1, 3:] == PAD_ID).all()
    encoder.config.pad_token_id = 7
    assert (tokenize(tokenizer, encoder, ["rocket"])[0][0, 3:] == 7).all()


def test_pooling_finds_the_end_token(tokenizer) -> None:
    """Contrastive training uses ``pooler_output``, which must be the row of the end token, not of a word."""
    encoder = tower(tokenizer)
    ids, lengths = tokenize(tokenizer, encoder, [WORDS, "the sky"])
    output = encoder(input_ids=ids)
    for row in range(2):
        assert torch.equal(output.pooler_output[row], output.last_hidden_state[row, lengths[row] - 1])


def test_config_survives_saving(tokenizer, tmp_path) -> None:
    encoder = tower(tokenizer, zero_padding=True)
    encoder.save_pretrained(tmp_path)
    loaded = type(encoder).from_pretrained(tmp_path)
    assert loaded.config.zero_padding is True
    assert torch.equal(encode_text(tokenizer, loaded, ["a rocket"]), encode_text(tokenizer, encoder, ["a rocket"]))


def test_a_bare_string_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="one string, 'a rocket'"):
        encode_text(tokenizer, tower(tokenizer), "a rocket")
