"""The Hugging Face Hub, or its mirror at HF_ENDPOINT: what a repository holds at one commit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import HubNotFound, HubUnavailable, InvalidReference

SCHEME = "hf://"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")


@dataclass(frozen=True)
class HubReference:
    """A repository and, unless the default branch is meant, a branch, tag or commit of it."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """Read `hf://org/name` or `hf://org/name@rev`; raises `InvalidReference`."""
        repository, at, revision = text.removeprefix(SCHEME).partition("@")
        fits = _REPOSITORY.fullmatch(repository) and ".." not in text
        if not text.startswith(SCHEME) or not fits or (at and not _REVISION.fullmatch(revision)):
            raise InvalidReference(
                f"{text[:200]!r} is no Hub repository: write hf://org/name or hf://org/name@rev",
                param="repository",
            )
        return cls(repository, revision or None)

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{SCHEME}{self.repository}{at}"


@dataclass(frozen=True)
class HubFile:
    """One file: its bytes, and its sha256 where the Hub keeps it as a large file."""

    size: int
    sha256: str | None


@dataclass(frozen=True)
class HubSnapshot:
    """A repository as it was at one commit."""

    repository: str
    commit: str
    files: Mapping[str, HubFile]

    @property
    def reference(self) -> HubReference:
        """The repository, pinned to this commit."""
        return HubReference(self.repository, self.commit)

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Bring files of this commit into `folder`. Raises `HubNotFound` or `HubUnavailable`."""
        from huggingface_hub import hf_hub_download

        for name in names:
            with _explained(f"{self.reference}/{name}"):
                hf_hub_download(self.repository, name, revision=self.commit, local_dir=folder)


def look_at(reference: HubReference) -> HubSnapshot:
    """What a repository holds, from its metadata alone, pinned to the commit it is at now.

    Raises `HubNotFound` or `HubUnavailable`.
    """
    from huggingface_hub import HfApi

    with _explained(str(reference)):
        info = HfApi().model_info(
            reference.repository, revision=reference.revision, files_metadata=True
        )
    if info.sha is None:
        raise HubUnavailable(f"the Hub names no commit of {reference}")
    files = {
        file.rfilename: HubFile(
            size=file.size or 0,
            sha256=None if file.lfs is None else f"sha256:{file.lfs.sha256}",
        )
        for file in info.siblings or ()
    }
    return HubSnapshot(reference.repository, info.sha, files)


def upload(files: Mapping[str, Path], reference: HubReference, *, message: str) -> str:
    """Commit files by name to a repository, made private if it is new; returns the commit.

    One commit holds all of them. Raises `HubNotFound` or `HubUnavailable`.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    with _explained(str(reference)):
        api.create_repo(reference.repository, private=True, exist_ok=True)
        commit = api.create_commit(
            reference.repository,
            additions,
            commit_message=message,
            revision=reference.revision,
        )
    return str(commit.oid)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into our own errors."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Its HTTP client's own, whichever client that is.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip

    try:
        yield
    except LocalEntryNotFoundError as failure:  # an EntryNotFoundError, though nobody answered
        raise HubUnavailable(f"{what} cannot be fetched: the Hub does not answer") from failure
    except HFValidationError as failure:  # it is stricter about names than `HubReference`
        raise InvalidReference(f"{what}: {failure}", param="repository") from failure
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as failure:
        raise HubNotFound(
            f"{what} is not on the Hub, or not for you: check the name and the revision, and "
            "`hf auth login` if it is private or gated",
            param="repository",
        ) from failure
    except HTTPError as failure:
        raise HubUnavailable(f"{what}: the Hub failed: {failure}") from failure
