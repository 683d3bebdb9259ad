"""What tests of conversion share."""

import pytest
from transformers import PreTrainedTokenizerBase

from videocrafter.models.clip_tokenizer import clip_tokenizer


@pytest.fixture(scope="session")
def built_tokenizer() -> PreTrainedTokenizerBase:
    return clip_tokenizer()


@pytest.fixture
def one_tokenizer(monkeypatch: pytest.MonkeyPatch, built_tokenizer: PreTrainedTokenizerBase) -> None:
    """CLIP's tokenizer is built once for all conversions, which is half of their time at this size."""
    monkeypatch.setattr("videocrafter.checkpoints.official.to_folder.clip_tokenizer", lambda: built_tokenizer)
