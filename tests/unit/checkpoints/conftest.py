"""Fixtures for tests of conversion."""

import pytest
from transformers import PreTrainedTokenizerBase

from videocrafter.models.clip_tokenizer import clip_tokenizer


@pytest.fixture(scope="session")
def built_tokenizer() -> PreTrainedTokenizerBase:
    return clip_tokenizer()


@pytest.fixture
def one_tokenizer(monkeypatch: pytest.MonkeyPatch, built_tokenizer: PreTrainedTokenizerBase) -> None:
    """Build CLIP's tokenizer once for all conversions; building it takes half of their time."""
    monkeypatch.setattr("videocrafter.checkpoints.official.to_folder.clip_tokenizer", lambda: built_tokenizer)
