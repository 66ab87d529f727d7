"""Object stores as fsspec opens them: addresses without secrets, versions of objects, and errors in a line."""

import contextlib
from collections.abc import Iterator
from typing import Any

from phf.credentials import scrubbed, without_secrets
from phf.errors import InputError, MissingExtra, require


def checked(address: str) -> str:
    """Check that an address holds no secret: it is repeated by messages."""
    shown = without_secrets(address)
    if shown != address:
        raise InputError(
            f"{shown}: the address holds a user, a password or a query, which outputs and messages would repeat; write it "
            "without them, and give keys as the store's own tools take them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "~/.aws, a role)"
        )
    return address


def filesystem_of(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there.

    Raises:
        InputError: if there is no such kind of store, or its library is not installed.
    """
    scheme = address.partition("://")[0]
    fsspec = require("fsspec", "data", f"the address {address}")
    try:
        filesystem, root = fsspec.core.url_to_fs(address)
    except ImportError:
        extra = f"pip install 'phf[{scheme}]'" if scheme == "s3" else f"the library of fsspec for {scheme}://"
        raise MissingExtra(f"{address}: needs a library that is not installed: {extra}") from None
    except ValueError as error:
        raise InputError(f"{address}: not an address of a store ({error})") from None
    return filesystem, str(root).rstrip("/")


@contextlib.contextmanager
def said(address: str) -> Iterator[None]:
    """Turn what a store answers into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in (
            "botocore",
            "aiobotocore",
            "aiohttp",
        ):
            raise
        raise InputError(f"{address}: {scrubbed(str(error)) or type(error).__name__}; are its keys and its region set?") from None


def version(about: dict[str, Any]) -> str:
    """Return a text that changes when an object does."""
    tags = (about.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"))
    return f"{about['size']} {next((str(tag) for tag in tags if tag), '')}"
