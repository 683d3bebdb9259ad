import json
import logging

import pytest

from videocrafter.models.clip_tokenizer import clip_tokenizer
from videocrafter.models.text_encoder import tiny_text_encoder
from videocrafter.pipelines.looping import LoopedVideo
from videocrafter.pipelines.model_folder import component_folder
from videocrafter.pipelines.prompt_length import length_note
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import resolve_model


def test_the_note_names_the_words_that_have_no_effect(t2v: TextToVideoPipeline) -> None:
    prompt = "a red cat flying over the sky, a rocket flying left and a rocket moving right"
    assert length_note(t2v.tokenizer, t2v.text_encoder, "a red cat flying over the sky, a rocket flying") is None
    note = length_note(t2v.tokenizer, t2v.text_encoder, prompt)
    assert note is not None
    assert "reads 10 tokens" in note
    assert note.endswith("'left and a rocket moving right'")


def test_prompts_and_negative_prompts_of_a_request_are_noted_once_each(t2v: TextToVideoPipeline) -> None:
    long, other = "cat " * 12 + "left", "rocket " * 12 + "right"
    notes = t2v.notes(t2v.check_inputs([long, "a cat"], other, num_videos_per_prompt=2))
    assert [note for note in notes if "too long" in note] == [
        f"{long!r}: the prompt is too long: the model reads 10 tokens (words or parts of words), and the rest has no"
        " effect: 'cat cat left'",
        "the negative prompt is too long: the model reads 10 tokens (words or parts of words), and the rest has no"
        " effect: 'rocket rocket right'",
    ]
    unguided = t2v.notes(t2v.check_inputs("a cat", other, guidance_scale=1.0))
    assert not any("too long" in note for note in unguided)


def test_a_call_from_python_warns(t2v: TextToVideoPipeline, caplog: pytest.LogCaptureFixture) -> None:
    long, settings = "cat " * 12 + "left", {"num_inference_steps": 1, "output_type": "latent"}
    with caplog.at_level(logging.WARNING, logger="videocrafter"):
        t2v("a cat", "a dog", **settings)
        t2v("a cat", long, guidance_scale=1.0, **settings)
        assert not caplog.records
        t2v(long, "rocket " * 12, **settings)
        LoopedVideo(t2v)(long, guidance_scale=1.0, **settings)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(" is too long")[0] for text in texts] == ["the prompt", "the negative prompt", "the prompt"]
    assert texts[0].endswith("'cat cat left'")


def test_documented_limit_of_the_miniature() -> None:
    text_encoder = component_folder(resolve_model("tiny", "t2v"), "text_encoder")
    config = json.loads((text_encoder / "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] - 2 == 26


def test_a_word_of_several_tokens_is_named_whole_and_scripts_without_spaces_from_the_character() -> None:
    tokenizer = clip_tokenizer()
    encoder = tiny_text_encoder(len(tokenizer), hidden=8, layers=1, heads=2, max_length=77)
    note = length_note(tokenizer, encoder, "cat " * 73 + "supercalifragilistic dog")
    assert note is not None
    assert "reads 75 tokens" in note
    assert note.endswith("'supercalifragilistic dog'")
    note = length_note(tokenizer, encoder, "猫" * 200)
    assert note is not None
    assert 0 < note.count("猫") <= 101
    assert "猫" * 101 not in note
