"""Keys and addresses of servers: a key comes from the environment or a file, and no address holds a secret.

What an address held would be repeated by records, journals, pages and error messages, so one with a user, a password or a
query is refused before anything is written.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from phf.errors import InputError


def check_url(url: str) -> str:
    """Return a server's address if it is one and holds nothing secret.

    Raises:
        InputError: if it is no http address, or holds a user, a password or a query; the message repeats none of them.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"server {without_secrets(url)}: expected http://host:port/v1 or https://...")
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, parts.username is not None or parts.password is not None or bool(parts.query)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"server {without_secrets(url)}: not an address ({error})") from None
    if not host:
        raise InputError(f"server {without_secrets(url)}: has no host; expected http://host:port/v1")
    if secret:
        raise InputError(
            f"server {without_secrets(url)}: its address holds a user, a password or a query, which outputs and messages would "
            "repeat; write the address without them, and put the key into OPENAI_API_KEY, or into a file that "
            "OPENAI_API_KEY_FILE names"
        )
    return url


def api_key() -> str:
    """Return the key for servers: OPENAI_API_KEY, else what the file OPENAI_API_KEY_FILE names holds; "none" without either.

    Raises:
        InputError: if that file cannot be read or is empty.
    """
    if key := os.environ.get("OPENAI_API_KEY"):
        return key
    file = os.environ.get("OPENAI_API_KEY_FILE")
    if not file:
        return "none"
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"OPENAI_API_KEY_FILE: {file}: cannot be read ({type(error).__name__})") from None
    if not key:
        raise InputError(f"OPENAI_API_KEY_FILE: {file}: is empty; expected the key alone")
    return key


def without_secrets(url: str) -> str:
    """Return an address up to what may be secret: its user and password, its query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return (url.rpartition("@")[2] or "(empty)").partition("?")[0]
    authority, slash, path = rest.partition("?")[0].partition("/")
    if "@" in path:  # a password with a slash in it
        authority, slash, path = path.rpartition("@")[2], "", ""
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def scrubbed(text: str) -> str:
    """Return a message with what is secret taken out of the addresses in it: users and passwords, and queries."""
    text = re.sub(r"([A-Za-z][\w+.-]*://)[^\s@#'\"]*@", r"\1", text)
    return re.sub(r"([A-Za-z][\w+.-]*://[^\s?#'\"]*)\?[^\s#'\"\])]*", r"\1", text)
