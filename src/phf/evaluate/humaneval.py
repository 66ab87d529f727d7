"""Whether a model writes programs that work: pass@k on problems with tests, run in a sandbox only.

Legend: n samples of a problem, c of them pass.
"""

import contextlib
import gzip
import json
import logging
import queue
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from phf import config, sandbox, statistics
from phf.artifacts import write_table
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext, Workload
from phf.hub import load_table
from phf.lm import Ban, LanguageModel, Sampling
from phf.machine import usable_cores
from phf.records import Record
from phf.sandbox import BROKEN, CALL, PASSED, READY, REFUSED, Died, Sandbox, TimedOut, pack, unpack

log = logging.getLogger("phf")

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""A completion ends before the first of these: what follows the function (Chen et al. 2021)."""
LONGEST = 100_000
"""Characters of a program that is run; a longer one has failed."""

_COLUMNS = ("task_id", "prompt", "entry_point", "test")
_EXPECTED = "hf:openai/openai_humaneval, or a file as HumanEval.jsonl.gz is (task_id, prompt, entry_point, test)"

Outcome = Literal["passed", "failed", "raised", "does not compile", "timed out", "died", "too long", "not graded"]
"""The outcome of a program: it `failed` an assertion of the test, `raised` an error of its own, `died` without an answer, or was
`not graded`, because a value would not have reached the test as it is."""

_SHARES: tuple[tuple[str, Outcome], ...] = (
    ("syntax_error_share", "does not compile"), ("timed_out_share", "timed out"), ("not_graded_share", "not graded"),
)  # fmt: skip

SCHEMA = pa.schema({
    **dict.fromkeys(("task", "prompt", "text"), pa.string()), "finished": pa.bool_(),
    **dict.fromkeys(("completion", "outcome"), pa.string()), "passed": pa.bool_(),
})  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A function to write.

    Args:
        task: its name.
        prompt: a program's beginning, that ends in the function's head and docstring.
        entry: the function's name.
        test: a program that defines `check(candidate)`.
    """

    task: str
    prompt: str
    entry: str
    test: str


@dataclass(frozen=True)
class HumanEval:
    """pass@k: the chance that one of k samples passes the tests of a problem. Runs what the model writes, in a sandbox only.

    Args:
        problems: a data set of the hub with columns task_id, prompt, entry_point and test, as `hf:NAME`; or a file as
            HumanEval.jsonl.gz is: JSON Lines with the same keys, gzipped or not.
        n: samples of each problem.
        k: of pass@k, each at most n.
        limit: take only the first so many problems.
        temperature: logits are divided by it.
        top_p: probability of the tokens sampled from.
        max_tokens: at which a sample is cut off.
        batch: samples in one forward pass.
        ban: control tokens that cannot be sampled; see `phf.lm.Sampling`.
        timeout: seconds a program has for all calls of its test.
        memory: bytes a program may hold.
        workers: programs tested side by side; as many as cores by default.
    """

    problems: str = "hf:openai/openai_humaneval"
    n: config.Count = 20
    k: list[config.Count] = field(default_factory=lambda: [1, 10])
    limit: config.Count | None = None
    temperature: Annotated[float, Field(gt=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: config.Count = 512
    batch: config.Count = 64
    ban: Ban = "auto"
    timeout: Annotated[float, Field(gt=0)] = 3.0
    memory: config.Count = sandbox.MEMORY
    workers: config.Count | None = None

    def __post_init__(self) -> None:
        self._sampling(0)
        if not self.k or max(self.k) > self.n:
            raise InputError(f"humaneval.k: found {self.k}, expected numbers of at most n, {self.n}")
        if self.memory < 1 << 27:
            raise InputError(f"humaneval.memory: found {self.memory:,} bytes, expected 128 MiB (134,217,728) at least")

    def files(self) -> dict[str, str]:
        """Return the file of problems."""
        return {} if self.problems.startswith("hf:") else {"problems": self.problems}

    def workload(self) -> Workload:
        """Return what it amounts to: n samples of each problem; of a data set on the hub, of HumanEval's 164."""
        count = 164 if self.problems.startswith("hf:") else len(read_problems(self.problems))
        return Workload(self.n * min(count, self.limit or count), self.max_tokens)

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Sample, cut at the stop sequences, test, keep every sample, and estimate; n = problems.

        Raises:
            InputError: for a file of problems that cannot be read, or a system without a sandbox; before anything is sampled.
        """
        sandbox.check()
        problems = read_problems(self.problems)[: self.limit]
        asked = [problem for problem in problems for _ in range(self.n)]
        setting.report(0, len(asked), "samples")
        texts = model.generate(
            [problem.prompt for problem in asked],
            self._sampling(setting.seed),
            lambda done: setting.report(done, len(asked), "samples"),
        )
        completions = [cut(text) for text in texts]
        outcomes: list[Outcome] = []
        for outcome in grade(list(zip(asked, completions, strict=True)), self.timeout, self.memory, self.workers):
            outcomes.append(outcome)
            setting.report(len(outcomes), len(asked), "programs tested")
        outcomes_of = np.array(outcomes).reshape(len(problems), self.n)
        columns = {
            "task": [problem.task for problem in asked],
            "prompt": [problem.prompt for problem in asked],
            "text": list(map(str, texts)),
            "finished": [text.finished for text in texts],
            "completion": completions,
            "outcome": outcomes,
            "passed": [outcome == "passed" for outcome in outcomes],
        }
        write_table(setting.samples_of(setting.name), pa.Table.from_pydict(columns, SCHEMA))
        if refused := int((outcomes_of == "not graded").sum()):
            log.warning("%s: %d of %d programs were not graded and count as not passed: a value of theirs would not have reached "
                        "the test as it is", setting.name, refused, len(asked))  # fmt: skip
        passed = (outcomes_of == "passed").sum(axis=1)
        for k in self.k:
            chances = np.array([pass_at(k, self.n, int(c)) for c in passed])
            yield from setting.records(f"pass@{k}", statistics.mean(chances, setting.seed))
        for metric, outcome in _SHARES:
            yield from setting.records(metric, statistics.mean((outcomes_of == outcome).mean(axis=1), setting.seed))

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, 1, self.max_tokens, seed=seed, batch=self.batch, ban=self.ban)


def pass_at(k: int, n: int, c: int) -> float:
    """Return the chance that k of n samples, taken without replacement, include one of the c that pass.

    1 - C(n - c, k) / C(n, k), as 1 - product over i from n - c + 1 to n of (1 - k / i), which stays small in between.
    Unbiased for pass@k (Chen et al. 2021, arXiv 2107.03374, section 2.1).
    """
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def cut(text: str) -> str:
    """End a completion before the first stop sequence."""
    return text[: min((place for stop in STOPS if (place := text.find(stop)) >= 0), default=len(text))]


def read_problems(source: str | Path) -> list[Problem]:
    """Read problems from a data set of the hub, as `hf:NAME`, or from JSON Lines, gzipped or not.

    Raises:
        InputError: for a file that is missing, broken or empty, a line or row that is no problem, by its number, and a data set
            that cannot be read.
    """
    problems: dict[str, Problem] = {}
    for where, row in _rows(str(source)):
        if not isinstance(row, dict) or not all(isinstance(row.get(column), str) for column in _COLUMNS):
            raise InputError(f"{where}: no problem, or something else than texts; expected {_EXPECTED}")
        problem = Problem(*(row[column] for column in _COLUMNS))
        if problem.task in problems:
            raise InputError(f"{where}: a second problem called {problem.task!r}")
        problems[problem.task] = problem
    if not problems:
        raise InputError(f"{source}: empty; expected {_EXPECTED}")
    return list(problems.values())


def _rows(source: str) -> Iterator[tuple[str, Any]]:
    """Yield each row of a data set, or value of a line, with where it stands."""
    if source.startswith("hf:"):
        for number, row in enumerate(load_table(source.removeprefix("hf:"), None, "test", _COLUMNS, _EXPECTED)):
            yield f"{source}, row {number}", row
        return
    path = Path(source)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of problems; expected {_EXPECTED}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected {_EXPECTED}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error.msg}); expected {_EXPECTED}") from None


def grade(
    samples: Sequence[tuple[Problem, str]], timeout: float, memory: int = sandbox.MEMORY, workers: int | None = None
) -> Iterator[Outcome]:
    """Test completions side by side, and yield the outcome of each, in order. The same one twice is tested once.

    Args:
        samples: each a problem and a completion of its prompt.
        timeout: seconds each has.
        memory: bytes each may hold.
        workers: how many at a time; as many as cores if None.

    Raises:
        InputError: for a problem whose own test cannot be run.
    """
    distinct = list(dict.fromkeys(samples))
    workers = min(workers or usable_cores(), len(distinct)) or 1
    with contextlib.ExitStack() as stack:
        free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        for _ in range(workers):
            free.put(stack.enter_context(Sandbox(memory)))

        def test(sample: tuple[Problem, str]) -> Outcome:
            within = free.get()
            try:
                return verdict(within, *sample, timeout)
            finally:
                free.put(within)

        pool = stack.enter_context(ThreadPoolExecutor(workers))
        stack.callback(pool.shutdown, cancel_futures=True)
        outcomes = dict(zip(distinct, (pool.submit(test, sample) for sample in distinct), strict=True))
        for sample in samples:
            yield outcomes[sample].result()


def verdict(within: Sandbox, problem: Problem, completion: str, timeout: float) -> Outcome:
    """Test one completion: one sandboxed process holds the program, another the test; calls and answers pass through here.

    Raises:
        InputError: if the test itself cannot be run.
    """
    program = problem.prompt + completion
    if len(program) > LONGEST:
        return "too long"
    with within.start("answer", timeout) as holder, within.start("examine", timeout) as examiner:
        try:
            examiner.send(pack({"given": problem.prompt, "test": problem.test, "entry": problem.entry}))
            holder.send(pack({"program": program, "entry": problem.entry}))
            ready = holder.receive()
            if ready[:1] == BROKEN:
                return "does not compile"
            if ready[:1] != READY:
                return "raised"
            while (asked := examiner.receive())[:1] == CALL:
                holder.send(asked)
                examiner.send(holder.receive())
        except TimedOut:
            return "timed out"
        except Died:
            return "died"
    mark = asked[:1]
    if mark == PASSED:
        return "passed"
    if mark == REFUSED:
        return "not graded"
    try:
        kind, message = unpack(asked[1:])
    except (ValueError, TypeError):
        mark, kind, message = BROKEN, "ValueError", "it writes to the descriptor of the sandbox's channel"
    if mark == BROKEN:
        raise InputError(f"{problem.task}: its own prompt or test cannot be run ({kind}: {message})")
    return "failed" if kind == "AssertionError" else "raised"
