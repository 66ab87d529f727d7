"""Values that cross from one caged process into another: plain data only, rebuilt by the reader, so that no code comes along.

JSON with what it lacks in objects of one key: {"tuple": [...]}, {"dict": [[key, value], ...]}, {"int": "0x..."} and so on.
Subclasses cross as what they extend. An iterator crosses as its items.
"""

import collections
import decimal
import fractions
import json
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

_SAFE_INTEGER = 1 << 53
_EMPTY: dict[int, int] = {}
_VIEWS: tuple[type, ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
_ITERATORS: tuple[type, ...] = (
    *(GeneratorType, map, filter, zip, enumerate, reversed),
    *(type(iter(empty)) for empty in (list[int](), tuple[int, ...](), set[int](), _EMPTY, "", range(0))),
)


def pack(value: Any) -> bytes:
    """Write a value.

    Raises:
        TypeError: for a value that is not plain data, which names its type.
    """
    return json.dumps(_tagged(value), separators=(",", ":")).encode()


def unpack(data: bytes) -> Any:
    """Read a value: whoever wrote it, what comes out is plain data.

    Raises:
        ValueError: if it is not what `pack` writes.
    """
    return _rebuilt(json.loads(data))


def _tagged(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        return int(value) if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"int": hex(value)}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    sequences: tuple[tuple[type[Iterable[Any]], str], ...] = (
        (tuple, "tuple"),
        (set, "set"),
        (frozenset, "frozenset"),
        (collections.deque, "deque"),
    )
    for kind, name in sequences:
        if isinstance(value, kind):
            return {name: [_tagged(item) for item in value]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [_tagged(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, fractions.Fraction):
        return {"fraction": [_tagged(value.numerator), _tagged(value.denominator)]}
    if isinstance(value, (*_ITERATORS, *_VIEWS)):
        items: Iterable[Any] = value  # type: ignore[assignment]
        return {"iterator" if isinstance(value, _ITERATORS) else "list": list(map(_tagged, items))}
    raise TypeError(f"a {type(value).__name__} is not plain data")


_REBUILD: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(map(_rebuilt, items)),
    "set": lambda items: set(map(_rebuilt, items)),
    "frozenset": lambda items: frozenset(map(_rebuilt, items)),
    "deque": lambda items: collections.deque(map(_rebuilt, items)),
    "list": lambda items: list(map(_rebuilt, items)),
    "iterator": lambda items: iter(list(map(_rebuilt, items))),
    "dict": lambda pairs: {_rebuilt(key): _rebuilt(item) for key, item in pairs},
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*map(_rebuilt, parts)),
    "decimal": decimal.Decimal,
    "fraction": lambda parts: fractions.Fraction(*map(_rebuilt, parts)),
}


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or next(iter(value)) not in _REBUILD:
        raise ValueError(f"not a packed value: {str(value)[:60]}")
    ((name, content),) = value.items()
    try:
        return _REBUILD[name](content)
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a packed {name}: {error}") from None
