"""Upload with the real hub client to a local fake hub."""

from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.fake_hub import FakeHub, uploading_hub
from videocrafter.checkpoints.publishing.upload import (
    HubRepository,
    UploadError,
    check_repo_id,
    read_repository,
    upload_folder,
)

NAME = "ann/films"
NEW = HubRepository(exists=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with uploading_hub(tmp_path / "hub", monkeypatch) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as written by `write_export(link=True)`."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Films\n")
    (tmp_path / "elsewhere").write_bytes(b"weights" * 1000)
    (folder / "unet" / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    return folder


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UploadError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("private", [False, True])
def test_a_new_repository_is_made_and_holds_the_folder(hub: FakeHub, folder: Path, private: bool):
    assert read_repository(NAME) == NEW
    assert upload_folder(folder, NAME, NEW, private=private) == f"{hub.url}/{NAME}"
    assert hub.repositories == {NAME: private}
    assert hub.files == {
        f"{NAME}/README.md": (folder / "README.md").read_bytes(),
        f"{NAME}/unet/weights.safetensors": b"weights" * 1000,
    }
    there = read_repository(NAME)
    assert (there.exists, there.is_private) == (True, private)
    assert sorted(there.files) == ["README.md", "unet/weights.safetensors"]
    writing = {token for request, token in hub.requests if request.startswith("POST /api/models")}
    assert writing == {"Bearer hf_secret"}


def test_what_was_there_is_replaced(hub: FakeHub, folder: Path):
    hub.repositories[NAME] = True
    hub.files = {f"{NAME}/old.safetensors": b"old", f"{NAME}/README.md": b"old"}
    upload_folder(folder, NAME, read_repository(NAME), private=False)
    assert hub.names(NAME) == {"README.md", "unet/weights.safetensors"}
    assert hub.files[f"{NAME}/README.md"] != b"old"
    assert hub.repositories == {NAME: True}


def test_what_came_to_be_meanwhile_is_not_touched(hub: FakeHub, folder: Path):
    there = read_repository(NAME)
    hub.repositories[NAME] = False
    hub.files = {f"{NAME}/README.md": b"old"}
    assert "status 409" in refused(lambda: upload_folder(folder, NAME, there, private=True))
    assert (hub.repositories, hub.files) == ({NAME: False}, {f"{NAME}/README.md": b"old"})


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("Unauthorized", "status 401.*your token is wrong or has expired; log in again"),
        ("Forbidden", "status 403.*your token may not write to 'ann'"),
        ("TooMany", "status 429.*wait a few minutes"),
        ("Overloaded", "status 503.*try again later"),
    ],
)
def test_refusals_say_what_to_do(hub: FakeHub, folder: Path, refusal: str, message: str):
    hub.refuses_writing = refusal
    assert read_repository(NAME) == NEW
    with pytest.raises(UploadError, match=message):
        upload_folder(folder, NAME, NEW, private=False)
    hub.refuses_writing, hub.refusal = None, refusal
    with pytest.raises(UploadError, match=message):
        read_repository(NAME)
    assert (hub.files, hub.repositories) == ({}, {})


def test_a_card_that_the_hub_does_not_like(hub: FakeHub, folder: Path):
    hub.card_error = '"license" must be one of [apache-2.0, mit]'
    message = refused(lambda: upload_folder(folder, NAME, NEW, private=True))
    assert "the hub rejected the model card: Invalid metadata in README.md" in message
    assert hub.card_error in message
    assert f"The upload is incomplete; the repository {hub.url}/{NAME} exists." in message
    assert (hub.repositories, hub.files) == ({NAME: True}, {})


def test_without_a_token_nothing_is_asked(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "`hf auth login`, or set HF_TOKEN" in refused(lambda: read_repository(NAME))
    assert hub.requests == []


def test_offline_nothing_is_asked(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it to upload" in refused(lambda: read_repository(NAME))
    assert hub.requests == []


def test_a_hub_that_does_not_answer(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port without a server
    assert "cannot be reached" in refused(lambda: read_repository(NAME))
    assert "cannot be reached" in refused(lambda: upload_folder(folder, NAME, NEW, private=False))


def test_names_of_repositories():
    for good in ("ann/films", "a/b", "Ann_1/film-2.0"):
        check_repo_id(good)
    for bad in (
        "films",
        "ann/films/new",
        "ann/",
        "/films",
        "ann/my films",
        "ann/a--b",
        "ann/a..b",
        "ann/x.git",
        "ann/.x",
    ):
        assert "write USER/NAME" in refused(lambda bad=bad: check_repo_id(bad))
