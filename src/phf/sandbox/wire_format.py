"""Values that cross from one sandboxed process into another: plain data only, rebuilt by the reader, so that no code crosses.

JSON, with what it lacks as objects of one key: {"tuple": [...]}, {"dict": [[key, value], ...]}, {"int": "0x..."} and so on. A
value arrives with its exact type and content, or `pack` refuses it: a subclass may behave unlike what it extends.
"""

import collections
import decimal
import fractions
import itertools
import json
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

_SAFE_INTEGER = 1 << 53
_MOST_ITEMS = 100_000
"""Items of an iterator that cross; one that has more may have no end."""
_EMPTY: dict[int, int] = {}
_FACTORIES: dict[str, Any] = {kind.__name__: kind for kind in (int, float, str, bool, list, tuple, set, dict)}


def pack(value: Any) -> bytes:
    """Write a value.

    Raises:
        TypeError: for a value that would not arrive as it is; the message has its type.
        RecursionError: for one that contains itself, or is nested too deeply.
    """
    return json.dumps(_tagged(value), separators=(",", ":")).encode()


def unpack(data: bytes) -> Any:
    """Read a value: whoever wrote it, the result is plain data.

    Raises:
        ValueError: if it is not what `pack` writes.
    """
    return _rebuilt(json.loads(data))


def _tagged(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"int": hex(value)}
    if kind is list:
        return _items(value)
    if kind not in _TAG:
        raise TypeError(f"a {kind.__name__} is not plain data")
    name, write = _TAG[kind]
    return {name: write(value)}


def _items(values: Iterable[Any]) -> list[Any]:
    return [_tagged(item) for item in values]


def _pairs(value: Any) -> list[list[Any]]:
    return [[_tagged(key), _tagged(item)] for key, item in value.items()]


def _with_factory(value: Any) -> list[Any]:
    factory = value.default_factory
    if factory is not None and _FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise TypeError(f"a defaultdict of {factory!r:.60} is not plain data")
    return [None if factory is None else factory.__name__, _pairs(value)]


def _iterated(value: Any) -> list[Any]:
    items = list(itertools.islice(value, _MOST_ITEMS + 1))
    if len(items) > _MOST_ITEMS:
        raise TypeError(f"a {type(value).__name__} of more than {_MOST_ITEMS:,} items is not plain data")
    return _items(items)


_TAG: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: ("tuple", _items),
    set: ("set", _items),
    frozenset: ("frozenset", _items),
    collections.deque: ("deque", lambda value: [_items(value), value.maxlen]),
    dict: ("dict", _pairs),
    collections.OrderedDict: ("ordered", _pairs),
    collections.Counter: ("counter", _pairs),
    collections.defaultdict: ("defaults", _with_factory),
    type(_EMPTY.keys()): ("keys", _items),
    type(_EMPTY.values()): ("values", _items),
    type(_EMPTY.items()): ("items", _items),
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytearray", bytearray.hex),
    complex: ("complex", lambda value: [value.real, value.imag]),
    range: ("range", lambda value: _items([value.start, value.stop, value.step])),
    decimal.Decimal: ("decimal", str),
    fractions.Fraction: ("fraction", lambda value: _items([value.numerator, value.denominator])),
    GeneratorType: ("generator", _iterated),
    map: ("map", _iterated),
    filter: ("filter", _iterated),
    zip: ("zip", _iterated),
    enumerate: ("enumerate", _iterated),
    type(iter(list[int]())): ("list iterator", _iterated),
    type(iter(tuple[int, ...]())): ("tuple iterator", _iterated),
    type(reversed(list[int]())): ("reversed", _iterated),
}
"""How a value is written, by its exact type: under which name, and what."""

_REBUILD: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(map(_rebuilt, items)),
    "set": lambda items: set(map(_rebuilt, items)),
    "frozenset": lambda items: frozenset(map(_rebuilt, items)),
    "deque": lambda parts: collections.deque(map(_rebuilt, parts[0]), parts[1]),
    "dict": lambda pairs: _dict(pairs),
    "ordered": lambda pairs: collections.OrderedDict(_dict(pairs)),
    "counter": lambda pairs: collections.Counter(_dict(pairs)),
    "defaults": lambda parts: collections.defaultdict(None if parts[0] is None else _FACTORIES[parts[0]], _dict(parts[1])),
    "keys": lambda items: dict.fromkeys(map(_rebuilt, items)).keys(),
    "values": lambda items: dict(enumerate(map(_rebuilt, items))).values(),
    "items": lambda items: dict(map(_rebuilt, items)).items(),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*map(_rebuilt, parts)),
    "decimal": decimal.Decimal,
    "fraction": lambda parts: fractions.Fraction(*map(_rebuilt, parts)),
    "generator": lambda items: (item for item in list(map(_rebuilt, items))),
    "map": lambda items: map(lambda item: item, list(map(_rebuilt, items))),  # noqa: C417
    "filter": lambda items: filter(lambda _: True, list(map(_rebuilt, items))),
    "zip": lambda items: zip(*zip(*map(_rebuilt, items), strict=True), strict=True),
    "enumerate": lambda items: enumerate([_rebuilt(item)[1] for item in items], _rebuilt(items[0])[0] if items else 0),
    "list iterator": lambda items: iter(list(map(_rebuilt, items))),
    "tuple iterator": lambda items: iter(tuple(map(_rebuilt, items))),
    "reversed": lambda items: reversed(list(map(_rebuilt, items))[::-1]),  # noqa: C415
}


def _dict(pairs: Any) -> dict[Any, Any]:
    return {_rebuilt(key): _rebuilt(item) for key, item in pairs}


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
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"not a packed {name}: {error}") from None
