"""What a judge was asked and answered, and what it cost, in one SQLite file that processes and runs share."""

import math
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phf.errors import InputError
from phf.scorers import ScorerUnusable

FILE = "answers.sqlite"
_KEYS_AT_ONCE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, model TEXT NOT NULL, answer TEXT NOT NULL, reward REAL, time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS calls (number INTEGER PRIMARY KEY, cost REAL NOT NULL, time REAL NOT NULL);
"""


@dataclass(frozen=True)
class Budget:
    """What may be spent, ever, by all runs that share a store.

    Args:
        calls: requests.
        cost: money; None for no limit.
        where: the store, for messages.
    """

    calls: int
    cost: float | None
    where: str


class Store:
    """Answers by the fingerprint of their question, and calls with their cost. Safe to use from several threads.

    Args:
        folder: made if it is not there.

    Raises:
        InputError: if there is another kind of file, or none can be made.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(folder / FILE, timeout=60, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.executescript(_TABLES)
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"judge.cache: {folder / FILE} cannot be opened: {error}") from None

    def rewards(self, keys: Iterable[str]) -> dict[str, float]:
        """Return the rewards that are known, by key; NaN for an answer that could not be understood."""
        wanted = list(dict.fromkeys(keys))
        rewards: dict[str, float] = {}
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[start : start + _KEYS_AT_ONCE]
            query = f"SELECT key, reward FROM answers WHERE key IN ({','.join('?' * len(some))})"
            with self._lock:
                rows = self._connection.execute(query, some).fetchall()
            rewards.update({key: math.nan if reward is None else reward for key, reward in rows})
        return rewards

    def keep(self, key: str, text: str, model: str, answer: str, reward: float) -> None:
        """Keep an answer, understood or not."""
        row = (key, text, model, answer, None if math.isnan(reward) else reward, time.time())
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)

    def spent(self) -> tuple[int, float]:
        """Return the calls so far and their cost."""
        with self._lock:
            calls, cost = self._connection.execute("SELECT count(*), coalesce(sum(cost), 0) FROM calls").fetchone()
        return int(calls), float(cost)

    def call(self, budget: Budget, highest_cost: float) -> "Call":
        """Return what books the requests of one question."""
        return Call(self, budget, highest_cost)

    def reserve(self, budget: Budget, cost: float) -> int:
        """Book a call before it is sent, at the most it can cost, and return its number.

        Raises:
            ScorerUnusable: if it could pass the budget.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")  # other processes wait: two cannot take the last call
            try:
                calls, spent = self._connection.execute("SELECT count(*), coalesce(sum(cost), 0) FROM calls").fetchone()
                if calls >= budget.calls:
                    limit = f"{budget.calls:,} calls (judge.max_calls)"
                elif budget.cost is not None and spent + cost > budget.cost:
                    limit = f"{budget.cost:g} (judge.max_cost; {spent:.6g} spent, the next call could cost {cost:.6g})"
                else:
                    values = (cost, time.time())
                    return int(self._connection.execute("INSERT INTO calls (cost, time) VALUES (?, ?)", values).lastrowid or 0)
            finally:
                self._connection.execute("COMMIT")
        raise ScorerUnusable(
            f"judge: its budget of {limit} is spent. Answers so far are kept in {budget.where}: raise the budget and run again"
        )

    def book(self, number: int, cost: float) -> None:
        """Replace the cost that was reserved for a call by what it came to."""
        with self._lock:
            self._connection.execute("UPDATE calls SET cost = ? WHERE number = ?", (cost, number))


class Call:
    """Books the requests that one question takes."""

    def __init__(self, store: Store, budget: Budget, highest_cost: float) -> None:
        self._store, self._budget, self._highest_cost = store, budget, highest_cost
        self._open: int | None = None

    def begin(self) -> None:
        """Book a request that is about to be sent. One that is still open was turned away, and cost nothing."""
        if self._open is not None:
            self._store.book(self._open, 0.0)
        self._open = self._store.reserve(self._budget, self._highest_cost)

    def finished(self, cost: float) -> None:
        """Book what the request came to."""
        if self._open is not None:
            self._store.book(self._open, cost)
        self._open = None

    def failed(self, status: int | None) -> None:
        """Book a request that the server turned away at nothing; one without a status may have been charged for."""
        if self._open is not None and status is not None:
            self._store.book(self._open, 0.0)
        self._open = None
