"""Upload folders to the Hugging Face hub.

The hub library decides which account and which server are used: it honours `HF_TOKEN`, the token of `hf auth login`
and `HF_ENDPOINT`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from videocrafter.checkpoints.hub.download import broken_connections, without_warnings

# The hub adds this file to every new repository.
_GIT_ATTRIBUTES = ".gitattributes"
_NO_TOKEN = "uploading needs a token of the hub; log in with `hf auth login`, or set HF_TOKEN"
_NAME = re.compile(r"\w([\w.-]{0,94}\w)?", re.ASCII)


class UploadError(ValueError):
    """An upload to the hub failed; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """The current state of a repository.

    Attributes:
        exists: whether it exists and this user can see it.
        is_private: whether it is private; None if it does not exist.
        files: names of its files.
    """

    exists: bool
    is_private: bool | None = None
    files: tuple[str, ...] = ()


def check_repo_id(repo_id: str) -> None:
    """Raise UploadError unless the text is a valid repository name: `USER/NAME`."""
    halves = repo_id.split("/")
    is_odd = "--" in repo_id or ".." in repo_id or repo_id.endswith(".git")
    if len(halves) != 2 or is_odd or not all(_NAME.fullmatch(half) for half in halves):
        raise UploadError(
            f"{repo_id!r} is not a valid repository name; write USER/NAME with letters, digits, and single - _ ."
        )


def read_repository(repo_id: str) -> HubRepository:
    """Return the state of a repository on the hub.

    Raises:
        UploadError: there is no token or no network, or the hub returned an error.
    """
    from huggingface_hub import HfApi, constants, errors, get_token

    if constants.HF_HUB_OFFLINE:
        raise UploadError("HF_HUB_OFFLINE is set; unset it to upload, or write the folder with --output DIR")
    if get_token() is None:
        raise UploadError(_NO_TOKEN)
    with _upload_errors(repo_id):
        try:
            info = HfApi().model_info(repo_id)
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            return HubRepository(exists=False)
        names = (one.rfilename for one in info.siblings or ())
        return HubRepository(
            exists=True,
            is_private=bool(info.private),
            files=tuple(name for name in names if name != _GIT_ATTRIBUTES),
        )


def upload_folder(folder: Path, repo_id: str, repository: HubRepository, *, private: bool) -> str:
    """Commit a folder to a repository, created first if it does not exist; return the URL of its page.

    Files of the repository that are not in the folder are deleted in the same commit; its history keeps them.

    Args:
        folder: the files to upload, with the model card.
        repo_id: name of the repository.
        repository: what `read_repository` returned; if the repository was created since then, the upload fails.
        private: whether a new repository is private; an existing one keeps its visibility.

    Raises:
        UploadError: the hub refused the upload or cannot be reached. A repository that was created remains.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _upload_errors(repo_id):
        made = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=repository.exists)
    try:
        with _upload_errors(repo_id):
            api.upload_folder(
                repo_id=made.repo_id,
                repo_type="model",
                folder_path=folder,
                commit_message="Upload with videocrafter",
                delete_patterns="*" if repository.files else None,
            )
    except UploadError as error:
        raise UploadError(f"{error} The upload is incomplete; the repository {made} exists.") from error
    return str(made)


@contextmanager
def _upload_errors(repo_id: str) -> Iterator[None]:
    """Turn errors of the hub client into an UploadError of one line."""
    from huggingface_hub import constants, errors

    try:
        with without_warnings():
            yield
    except errors.HfHubHTTPError as error:
        raise UploadError(_refusal(repo_id, error)) from error
    except errors.LocalTokenNotFoundError as error:
        raise UploadError(_NO_TOKEN) from error
    except errors.OfflineModeIsEnabled as error:
        raise UploadError("HF_HUB_OFFLINE is set; unset it to upload") from error
    except broken_connections() as error:
        raise UploadError(
            f"{constants.ENDPOINT} cannot be reached, or the connection was interrupted ({type(error).__name__});"
            " check the network and run the command again."
        ) from error
    except json.JSONDecodeError as error:
        raise UploadError(
            f"{constants.ENDPOINT} is not a Hugging Face hub; check the network and HF_ENDPOINT"
        ) from error
    except ValueError as error:
        # The hub validates the front matter of the card.
        raise UploadError(f"the hub rejected the model card: {' '.join(str(error).split())}.") from error


def _refusal(repo_id: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    message = " ".join(str(getattr(error, "server_message", None) or "").split())
    message = f" The hub says: {message}" if message else ""
    owner = repo_id.partition("/")[0]
    advice = {
        401: "your token is wrong or has expired; log in again with `hf auth login`, or set HF_TOKEN",
        403: f"your token may not write to {owner!r}; use a token with write access, or a repository of your own",
        404: f"{owner!r} does not exist, or your token may not see it; check the name",
        409: "the repository was changed at the same time; run the command again",
        413: "a file is too large; split the weights into smaller files",
        429: "too many requests; wait a few minutes and run the command again",
    }
    hint = advice.get(status or 0, "try again later" if (status or 0) >= 500 else "correct what the hub reports")
    return f"{repo_id}: the hub refused the request (status {status}): {hint}.{message}"
