from __future__ import annotations

import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.training.miniature.towers import ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.video.clip_encoding import ClipEncoder
from videocrafter.training.video.long_captions import LongCaptions


def test_an_encoder_counts_long_captions_and_shows_one() -> None:
    pipeline = tiny_pipeline(image=False)
    encoder = ClipEncoder(pipeline.vae, pipeline.tokenizer, pipeline.text_encoder)
    encoder.null_text()
    encoder.encode_captions(["a cat", "", "cat " * 10])
    assert encoder.long_captions.note() is None
    encoder.encode_captions(["cat " * 10 + "flying left"])
    assert encoder.long_captions == LongCaptions(encoded=3, long=1, limit=10, example="flying left")
    both = encoder.long_captions + LongCaptions(encoded=7)
    assert both.note() == (
        "1 of 10 encoded captions are longer than the 10 tokens that the text encoder reads; their end has no effect,"
        " such as 'flying left'"
    )


def test_the_miniatures_towers_read_every_caption_unless_they_are_set_too_short(caplog) -> None:
    small = {"width": 8, "heads": 2, "text_layers": 1, "image_layers": 1, "size": 16}
    caplog.set_level("INFO", "videocrafter")

    def build(**changes: int) -> ContrastiveTask:
        return ContrastiveTask(ContrastiveTaskConfig(**small, **changes), None, 1, 0, torch.device("cpu"))

    task = build()
    world = SpriteWorld()
    captions = [world.script(index).caption for index in range(3000)]
    assert LongCaptions.among(captions, task.tokenizer, task.text_encoder).long == 0
    assert not caplog.messages
    build(max_length=8)
    assert "raise task.max_length" in caplog.text
