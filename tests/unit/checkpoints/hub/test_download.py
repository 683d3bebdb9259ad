from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.fake_hub import FakeHub, running_hub
from videocrafter.checkpoints.hub import download as hub_module
from videocrafter.checkpoints.hub.download import ModelUnavailableError, download, downloaded_file
from videocrafter.presets import PRESETS

PRESET = PRESETS["vc2-t2v-512"]
FILE = f"{PRESET.hub_id}/{PRESET.hub_file}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(hub_module, "_check_space", lambda *_: None)
    with running_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.files[FILE] = b"weights" * 1000
        yield hub


def test_size_place_and_licence_are_named_before_the_download(hub, tmp_path):
    messages: list[str] = []
    path = download(PRESET, lambda text: messages.append(f"{text} [{len(hub.requests)} requests]"))
    assert path.read_bytes() == hub.files[FILE]
    assert path.is_relative_to(tmp_path / "hub")
    assert len(messages) == 1
    for part in ("7.4 GB", "https://huggingface.co/VideoCrafter/VideoCrafter2", str(tmp_path), "Apache-2.0"):
        assert part in messages[0]
    assert messages[0].endswith("[0 requests]")
    assert "\n" not in messages[0]


def test_what_is_there_is_not_asked_for_again(hub):
    assert downloaded_file(PRESET) is None
    path = download(PRESET)
    num_requests = len(hub.requests)
    messages: list[str] = []
    assert downloaded_file(PRESET) == download(PRESET, messages.append) == path
    assert (len(hub.requests), messages) == (num_requests, [])
    assert {request.split("/", 1)[1] for request, _ in hub.requests} == {f"{PRESET.hub_id}/resolve/main/model.ckpt"}


def test_a_token_is_sent(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(PRESET)
    assert {token for _, token in hub.requests} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("GatedRepo", "accept them there, log in with `hf auth login` \\(or set HF_TOKEN\\)"),
        ("RepoNotFound", "was not found: it was removed, or needs a token"),
        ("EntryNotFound", "no longer holds model.ckpt; pass the path of a copy"),
        ("Unauthorized", "(token is wrong or has expired|needs a token)"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(hub, refusal, message):
    hub.refusal = refusal
    with pytest.raises(ModelUnavailableError, match=message) as caught:
        download(PRESET)
    assert "\n" not in str(caught.value)
    assert str(PRESET.hub_id) in str(caught.value)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_hub_that_does_not_answer(hub, monkeypatch, capfd, is_there):
    if is_there:
        hub.refusal = "Overloaded"
    else:
        # A port without a server.
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", _with_endpoint("http://127.0.0.1:9"))
    with pytest.raises(ModelUnavailableError, match=r"cannot be reached; check the network") as caught:
        download(PRESET)
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value)


def test_offline_mode_asks_nothing_and_uses_what_is_there(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailableError, match="HF_HUB_OFFLINE is set; unset"):
        download(PRESET)
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = download(PRESET)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download(PRESET) == path


def test_a_broken_connection_leaves_no_file_and_the_next_try_succeeds(hub):
    hub.cut_after = 100
    with pytest.raises(ModelUnavailableError, match=r"was interrupted .*; run the command again to resume"):
        download(PRESET)
    assert downloaded_file(PRESET) is None
    hub.cut_after = None
    assert download(PRESET).read_bytes() == hub.files[FILE]


def test_too_small_a_disk_is_found_before_the_download(tmp_path, monkeypatch):
    with running_hub(tmp_path / "hub", monkeypatch) as hub:
        huge = replace(PRESET, download_bytes=10**18)
        with pytest.raises(OSError, match=r"GB free, but the download of vc2-t2v-512 needs .*set HF_HOME"):
            download(huge)
        assert hub.requests == []


def test_a_model_without_a_repository_says_where_to_get_it():
    with pytest.raises(ModelUnavailableError, match="pass its path"):
        download(PRESETS["t2v-512-early"])


def _with_endpoint(endpoint):
    real = huggingface_hub.hf_hub_download.func
    return lambda **arguments: real(**arguments, endpoint=endpoint)
