"""A repository of the hub: the files that are going to be in it, written to a folder or uploaded in one commit."""

import contextlib
import dataclasses
import fnmatch
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phf.artifacts import whole_directory
from phf.errors import InputError

README = "README.md"


@dataclass(frozen=True)
class Repository:
    """What is going to be in a repository.

    Args:
        kind: "model" or "dataset".
        name: OWNER/NAME.
        revision: the branch; None for the default one.
        files: by their name there: a file on this machine, or content.
        replaces: patterns of files that an earlier push left there; those that are not among `files` are deleted, since programs
            that load the repository would read them too.
    """

    kind: Literal["model", "dataset"]
    name: str
    revision: str | None
    files: Mapping[str, Path | bytes]
    replaces: tuple[str, ...]

    @property
    def url(self) -> str:
        """Its address on the hub."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        file = self.files[name]
        return len(file) if isinstance(file, bytes) else file.stat().st_size

    def with_readme(self, text: str, where: str) -> "Repository":
        """Return the same repository with another card.

        Raises:
            InputError: if its metadata is not YAML keys and values.
        """
        import yaml
        from huggingface_hub import RepoCard

        try:
            RepoCard(text)
        except (ValueError, TypeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where}: its metadata (between the lines ---) cannot be read: {reason}") from None
        return dataclasses.replace(self, files={**self.files, README: text.encode()})


def write_folder(repository: Repository, out: Path) -> None:
    """Write a repository's files to a folder, whole or not at all.

    Raises:
        InputError: if there is something at `out` already.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: exists already; delete it, or choose another folder with --out")
    with whole_directory(out, checksummed=False) as folder:  # what the hub gets, and no more
        for name, file in repository.files.items():
            if isinstance(file, bytes):
                (folder / name).write_bytes(file)
            else:
                shutil.copyfile(file, folder / name)


def upload(repository: Repository, private: bool = False) -> tuple[str, list[str]]:
    """Upload a repository's files in one commit; it is made if it does not exist, and so is its branch.

    The token is the one that huggingface_hub finds: HF_TOKEN, or what `hf auth login` saved.

    Args:
        repository: what to upload.
        private: make it private; one that exists and is public is refused.

    Returns:
        The commit's address, and the names of the files of an earlier push that were deleted.

    Raises:
        InputError: without a token, if the hub refuses or cannot be reached, or for a public repository that should be private.
            Until the commit, files that are there stay as they are.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise InputError("no token for the hub; run `hf auth login`, or set HF_TOKEN (a token that may write)")
    api: Any = HfApi(library_name="phf")
    name, where = repository.name, {"repo_type": repository.kind}
    with _errors_of_the_hub(repository):
        api.create_repo(name, private=True if private else None, exist_ok=True, **where)
        if private and not api.repo_info(name, **where).private:
            raise InputError(
                f"{repository.url}: exists and is public, but --private was given; nothing was uploaded. Make it private in its "
                "settings, or leave --private out"
            )
        if repository.revision is not None:
            api.create_branch(name, branch=repository.revision, exist_ok=True, **where)
        there = api.list_repo_files(name, revision=repository.revision, **where)
        stale = sorted(file for file in there if file not in repository.files and _matches(file, repository.replaces))
        operations: list[Any] = [CommitOperationAdd(path, file) for path, file in repository.files.items()]
        operations += [CommitOperationDelete(path) for path in stale]
        commit = api.create_commit(name, operations, commit_message="Push with phf", revision=repository.revision, **where)
    return str(commit.commit_url), stale


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@contextlib.contextmanager
def _errors_of_the_hub(repository: Repository) -> Iterator[None]:
    """Turn errors of the hub and of the way to it into one line that says what to do."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of its HTTP client
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except InputError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        reason = error.server_message or str(error).splitlines()[0]
        todo = {401: "run `hf auth login`, or set HF_TOKEN", 403: "the token needs the right to write there"}
        what = todo.get(status, "see the hub's answer") if isinstance(status, int) else "try again"
        raise InputError(f"{repository.url}: the hub refused ({status}: {' '.join(str(reason).split())}); {what}") from None
    except OfflineModeIsEnabled:
        raise InputError(
            "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or write the folder with --dry-run"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{repository.url}: the push failed ({reason}); the same command tries again") from None
