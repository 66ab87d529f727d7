"""The address of a model behind a server: the server, the model's name, and what begins and ends a document there."""

from urllib.parse import parse_qs

from phf.credentials import check_url, without_secrets
from phf.errors import InputError

SERVER = "openai:"
"""Begins the spec of a model behind an OpenAI-compatible server."""


def split_address(address: str) -> tuple[str, str, dict[str, str]]:
    """Split `http://host:port/v1#model?start=TEXT&end=TEXT` into the server's address, the model's name and the options.

    Raises:
        InputError: for an address that `phf.openai_client.check_url` refuses, and for options that are unknown.
    """
    url, _, name = address.partition("#")
    name, _, options = name.partition("?")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"openai:{without_secrets(url)}: expected openai:http://host:port/v1#model")
    said = parse_qs(options, keep_blank_values=True)
    if unknown := sorted(set(said) - {"start", "end"}):
        raise InputError(f"openai:{check_url(url)}#{name}: unknown option {unknown[0]!r}; expected start= or end=")
    return check_url(url), name, {key: values[0] for key, values in said.items()}


def check_spec(spec: str) -> str:
    """Return a model's spec if it holds nothing secret: of a server's address no user, password or query.

    Raises:
        InputError: if it does; the message repeats none of them.
    """
    if spec.startswith(SERVER):
        split_address(spec.removeprefix(SERVER))
    return spec
