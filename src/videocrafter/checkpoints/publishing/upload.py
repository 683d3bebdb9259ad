"""Folders onto the Hugging Face hub: what is there already, the upload, and errors that say what to do.

Who uploads, and where to, is the hub library's business: it honours `HF_TOKEN`, the token of `hf auth login` and
`HF_ENDPOINT`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from videocrafter.checkpoints.hub.download import broken_connections, without_warnings

# What the hub puts into a new repository by itself.
_GIT_ATTRIBUTES = ".gitattributes"


_NAME = re.compile(r"\w([\w.-]{0,94}\w)?", re.ASCII)


class UploadError(ValueError):
    """The hub does not take an upload; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A repository as it is now.

    Attributes:
        exists: whether it is there, as far as this user may know.
        is_private: who may see it; None if it does not exist.
        files: what it holds.
    """

    exists: bool
    is_private: bool | None = None
    files: tuple[str, ...] = ()


def check_repo_id(repo_id: str) -> None:
    """Raise UploadError unless a text can be the name of a repository: `USER/NAME`."""
    halves = repo_id.split("/")
    is_odd = "--" in repo_id or ".." in repo_id or repo_id.endswith(".git")
    if len(halves) != 2 or is_odd or not all(_NAME.fullmatch(half) for half in halves):
        raise UploadError(
            f"{repo_id!r} cannot be the name of a repository; write USER/NAME with letters, digits, and single - _ ."
        )


def look_at_repository(repo_id: str) -> HubRepository:
    """Ask the hub for a repository.

    Raises:
        UploadError: no token, no network, or another answer than yes or no.
    """
    from huggingface_hub import HfApi, constants, errors, get_token

    if constants.HF_HUB_OFFLINE:
        raise UploadError("HF_HUB_OFFLINE forbids to upload; unset it, or write the folder with --output DIR")
    if get_token() is None:
        raise UploadError("the hub needs to know who uploads; log in with `hf auth login`, or set HF_TOKEN")
    with _explained(repo_id):
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


def upload_folder(folder: Path, repo_id: str, there: HubRepository, *, private: bool) -> str:
    """Make the repository if it is not there, and commit a folder to it; return the address of its page.

    What the repository holds and the folder does not is deleted in the same commit; its history keeps it.

    Args:
        folder: with its model card.
        there: what `look_at_repository` found; a repository that came to be since then is not touched.
        private: who may see a new repository; one that is there stays as it is.

    Raises:
        UploadError: the hub refused, or could not be reached. A repository that was made stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(repo_id):
        made = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=there.exists)
    try:
        with _explained(repo_id):
            api.upload_folder(
                repo_id=made.repo_id,
                repo_type="model",
                folder_path=folder,
                commit_message="Upload with videocrafter",
                delete_patterns="*" if there.files else None,
            )
    except UploadError as error:
        raise UploadError(f"{error} The upload did not end; the repository {made} is there.") from error
    return str(made)


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line."""
    from huggingface_hub import constants, errors

    try:
        with without_warnings():
            yield
    except errors.HfHubHTTPError as error:
        raise UploadError(_refusal(repo_id, error)) from error
    except errors.LocalTokenNotFoundError as error:
        raise UploadError(
            "the hub needs to know who uploads; log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise UploadError("HF_HUB_OFFLINE forbids to upload; unset it") from error
    except broken_connections() as error:
        raise UploadError(
            f"{constants.ENDPOINT} cannot be reached, or the connection broke ({type(error).__name__}); check the"
            " network and run the same again."
        ) from error
    except json.JSONDecodeError as error:
        raise UploadError(f"{constants.ENDPOINT} answers unlike a hub; check the network and HF_ENDPOINT") from error
    except ValueError as error:
        # The hub has read the card, and names what is wrong with its front matter.
        raise UploadError(f"the hub did not take the model card: {' '.join(str(error).split())}.") from error


def _refusal(repo_id: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    said = f" It said: {said}" if said else ""
    owner = repo_id.partition("/")[0]
    what_to_do = {
        401: "the token is wrong or has expired; log in again with `hf auth login`, or set HF_TOKEN",
        403: f"the token may not write to {owner!r}; take one with the right to write, or a name of your own",
        404: f"{owner!r} is not there, or your token may not see it; check the name",
        409: "somebody changed the repository at the same time; run the same again",
        413: "it is too large; split the weights into smaller files",
        429: "too many requests; wait some minutes and run the same again",
    }
    hint = what_to_do.get(status or 0, "try again later" if (status or 0) >= 500 else "see what it says")
    return f"{repo_id}: the hub refused (status {status}): {hint}.{said}"
