import pytest
import torch

from videocrafter.models.image_projector import ImageProjector

SMALL = {
    "dim": 32,
    "depth": 2,
    "dim_head": 8,
    "heads": 3,
    "num_queries": 5,
    "embedding_dim": 24,
    "output_dim": 16,
}


def test_any_number_of_tokens_becomes_the_queries() -> None:
    projector = ImageProjector(**SMALL)
    for num_tokens in (1, 50):
        assert projector(torch.randn(2, num_tokens, 24)).shape == (2, 5, 16)


def test_every_image_token_is_read_and_their_order_is_not() -> None:
    torch.manual_seed(0)
    projector = ImageProjector(**SMALL)
    tokens = torch.randn(1, 7, 24)
    out = projector(tokens)
    torch.testing.assert_close(projector(tokens.flip(1)), out, rtol=1e-4, atol=1e-5)
    for index in range(7):
        changed = tokens.clone()
        changed[:, index] += 1.0
        assert (projector(changed) - out).abs().max() > 1e-4


def test_the_global_token_alone_is_read_if_that_is_asked_for(tmp_path) -> None:
    projector = ImageProjector(**SMALL, image_tokens="global")
    tokens = torch.randn(1, 7, 24)
    assert torch.equal(projector(tokens), projector(tokens[:, :1]))
    assert not torch.equal(projector(tokens), projector(tokens.flip(1)))
    projector.save_pretrained(tmp_path)
    assert torch.equal(ImageProjector.from_pretrained(tmp_path)(tokens), projector(tokens))
    with pytest.raises(ValueError, match="image_tokens is 'all'; expected patches or global"):
        ImageProjector(**SMALL, image_tokens="all")


def test_defaults_are_the_released_model() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in ImageProjector().state_dict().items()}
    assert shapes["latents"] == (1, 16, 1024)
    assert shapes["proj_in.weight"] == (1024, 1280)
    assert shapes["layers.3.0.to_kv.weight"] == (1536, 1024)
    assert shapes["layers.3.1.1.weight"] == (4096, 1024)
    assert shapes["norm_out.weight"] == (1024,)


def test_saves_and_loads(tmp_path) -> None:
    projector = ImageProjector(**SMALL)
    projector.save_pretrained(tmp_path)
    loaded = ImageProjector.from_pretrained(tmp_path)
    tokens = torch.randn(1, 4, 24)
    assert torch.equal(loaded(tokens), projector(tokens))
