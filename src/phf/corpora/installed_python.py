"""Corpora made of the Python on this machine: its documentation and its source. Nothing is imported or downloaded."""

import ast
import gc
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from hashlib import blake2b
from inspect import cleandoc
from pathlib import Path
from typing import Literal

from phf.corpora.packages import Installed, find_installed, versions_of

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_HEADING = re.compile(r"^(?:#{1,6} .*|(?P<over>[^\s].*)\n(?:={3,}|-{3,}|~{3,}|\^{3,})[ \t]*)$", re.MULTILINE)
_CODE = re.compile(r">>> |```|~~~|::[ \t]*\n")
_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class _Installed:
    packages: list[str] = field(default_factory=list)
    min_characters: int = 0
    max_characters: int = 10**9
    limit_characters: int | None = None
    package_characters: int | None = None
    tests: bool = False

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when a file of the corpus is added, removed or changes its size.

        Raises:
            InputError: for a package that is not installed.
        """
        digest = blake2b(digest_size=8)
        installed = self._installed()
        for path, name in sorted([*installed.files, *installed.descriptions], key=lambda source: source[1]):
            digest.update(f"{name} {path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def versions(self) -> dict[str, str]:
        """Return the versions of Python and of the packages, by name."""
        return versions_of(self.packages)

    def _installed(self) -> Installed:
        return find_installed(self.packages, self.tests)

    def _taken(self, sources: Iterator[tuple[str, Iterator[tuple[str, str]]]]) -> Iterator[tuple[str, str]]:
        """Drop what is too short, too long or a repetition (white space and case aside), and stop at the limits.

        Args:
            sources: (file, its documents); the documents of a file are not read if its package has yielded enough.
        """
        seen: set[bytes] = set()
        total = 0
        of_package: Counter[str] = Counter()
        for source, documents in sources:
            package = re.split("[./:]", source)[0]
            if self.package_characters is not None and of_package[package] >= self.package_characters:
                continue
            for name, text in documents:
                if not self.min_characters <= len(text) <= self.max_characters:
                    continue
                key = blake2b(" ".join(text.lower().split()).encode("utf-8", "surrogatepass"), digest_size=12).digest()
                if key in seen or not _is_writable(text):
                    continue
                seen.add(key)
                of_package[package] += len(text)
                total += len(text)
                yield name, text
                if self.limit_characters is not None and total >= self.limit_characters:
                    return


@dataclass(frozen=True, kw_only=True)
class PythonDocs(_Installed):
    """Documentation found on this machine: docstrings of the standard library and of installed packages, and the
    sections of the descriptions that packages carry in their metadata. One docstring or section a document.

    Documents come file by file in the order of a hash of the file's path, so that every beginning of the corpus is a
    mixture of packages; the same installation gives the same documents in the same order.

    Args:
        packages: what to read: distributions as pip calls them (their own files alone), top-level modules, and
            `standard-library`; one that is not installed is an error. Everything installed if empty: then the corpus changes
            with every package that is installed.
        min_characters: shorter texts are left out; they are rarely sentences.
        max_characters: longer texts are left out.
        limit_characters: stop after so many characters.
        package_characters: read no further file of a package that has yielded so many, so that large ones do not dominate.
        tests: read test suites too.
        code: keep texts with code in them (doctest prompts, fenced and literal blocks); without, what is left is prose.
    """

    min_characters: int = 100
    max_characters: int = 10_000
    code: bool = True

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text): `json.decoder:JSONDecoder.decode`, or `requests (description):2`."""
        return self._taken(self._found())

    def _found(self) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
        installed = self._installed()
        sources = [(path, name, _docstrings) for path, name in installed.files]
        sources += [(path, name, _sections) for path, name in installed.descriptions]
        for path, name, extract in sorted(sources, key=lambda source: _mixed(source[1])):
            documents = extract(path, name)
            yield name, documents if self.code else ((name, text) for name, text in documents if not _CODE.search(text))


@dataclass(frozen=True, kw_only=True)
class PythonSource(_Installed):
    """Python source found on this machine: the standard library and installed packages.

    Documents come file by file in the order of a hash of the file's path, as in `PythonDocs`.

    Args:
        unit: a document is a whole file, or one function or method with its decorators, indented as if it stood alone.
        packages: what to read: distributions as pip calls them (their own files alone), top-level modules, and
            `standard-library`; one that is not installed is an error. Everything installed if empty: then the corpus changes
            with every package that is installed.
        min_characters: shorter texts are left out.
        max_characters: longer texts are left out.
        limit_characters: stop after so many characters.
        package_characters: read no further file of a package that has yielded so many, so that large ones do not dominate.
        tests: read test suites too.
    """

    unit: Literal["file", "function"] = "file"
    min_characters: int = 60
    max_characters: int = 100_000

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text): `json/decoder.py`, or `json.decoder:JSONDecoder.decode`."""
        return self._taken(self._found())

    def _found(self) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
        read = _functions if self.unit == "function" else _file
        for path, name in sorted(self._installed().files, key=lambda source: _mixed(source[1])):
            yield name, read(path, name)


def _mixed(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _source(path: Path) -> str | None:
    """Read a file with its line ends as Python reads them; None for what is not UTF-8 or not there any more."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _docstrings(path: Path, name: str) -> Iterator[tuple[str, str]]:
    source = _source(path)
    if source is None or ('"""' not in source and "'''" not in source):
        return
    for qualified, node in _documented(source):
        text = node.body and _docstring(node.body[0])
        if text:
            yield f"{_module(name)}:{qualified}".removesuffix(":"), text


def _docstring(first: ast.stmt) -> str:
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return cleandoc(first.value.value).strip()
    return ""


def _file(path: Path, name: str) -> Iterator[tuple[str, str]]:
    if (text := _source(path)) is not None:
        yield name, text


def _functions(path: Path, name: str) -> Iterator[tuple[str, str]]:
    source = _source(path)
    if source is None or "def " not in source:
        return
    lines = source.split("\n")  # not splitlines: a form feed ends no line of Python
    for qualified, node in _documented(source, into_functions=False):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            indent = lines[node.lineno - 1][: node.col_offset]
            text = "\n".join(line.removeprefix(indent) for line in lines[first : node.end_lineno])
            yield f"{_module(name)}:{qualified}", text + "\n"


def _documented(source: str, into_functions: bool = True) -> Iterator[tuple[str, "ast.Module | ast.ClassDef | ast.FunctionDef"]]:
    """Yield (qualified name, node) of the module, its classes and its functions; a name met again gets #2, #3, ..."""
    tree = _parsed(source)
    if tree is None:
        return
    counts: dict[str, int] = {}
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, _DOCUMENTED):
            counts[prefix] = counts.get(prefix, 0) + 1
            yield prefix if counts[prefix] == 1 else f"{prefix}#{counts[prefix]}", node  # type: ignore[misc]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not into_functions:
                continue
        for child in reversed(list(_statements(node))):
            named = isinstance(child, _DOCUMENTED)
            waiting.append((f"{prefix}.{child.name}".lstrip(".") if named else prefix, child))  # type: ignore[attr-defined]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may hold a definition: statements, and what compound statements consist of. No expression does."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            if hasattr(child, "body"):
                yield child


def _parsed(source: str) -> ast.Module | None:
    """Parse a file; None if it is not Python of this version."""
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree is many small objects without cycles: collecting while it grows costs a third of the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    finally:
        if collecting:
            gc.enable()


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _sections(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Cut a package's description at its headings (Markdown or reStructuredText) that stand outside code."""
    try:
        message = message_from_bytes(path.read_bytes())
        payload = message.get_payload(decode=True) or b""
        text = payload.decode() if isinstance(payload, bytes) else ""
    except (OSError, UnicodeDecodeError):
        return
    text = text if text.strip() else str(message.get("Description", ""))
    code = [match.span() for match in _FENCE.finditer(text)]
    starts = [m.start() for m in _HEADING.finditer(text) if not any(begin <= m.start() < end for begin, end in code)]
    ends = [*starts, len(text)]
    for number, (start, end) in enumerate(zip([0, *starts], ends, strict=True)):
        yield f"{name}:{number}", text[start:end].strip()
