"""pass@k as it is estimated, and verdicts that no program can forge."""

import gzip
import json
import math
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from phf import plugins, sandbox
from phf.errors import InputError
from phf.evaluate.humaneval import HumanEval, Problem, cut, grade, pass_at, read_problems
from phf.evaluate.protocol import EvalContext
from phf.lm.protocol import Completion
from phf.segmenters import Lines
from support.hub_data import write_hub_data
from support.sandboxed import needs_sandbox

HUMAN_EVAL = Path(__file__).parents[3] / "shared" / "data" / "eval" / "HumanEval.jsonl.gz"

PROMPT = 'from typing import List\n\n\ndef double(values: List[int]) -> List[int]:\n    """Double each."""\n'
TEST = """
def check(candidate):
    assert candidate([1, 2]) == [2, 4]
    assert candidate([]) == []
    assert candidate([0.5]) == [1.0]
"""
DOUBLE = Problem("Test/0", PROMPT, "double", TEST)
RIGHT = "    return [2 * value for value in values]\n"


def outcome(completion, problem=DOUBLE, timeout=3.0):
    return next(iter(grade([(problem, completion)], timeout, workers=1)))


def test_pass_at_k_is_the_share_of_groups_that_hold_one_that_passes():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                groups = list(combinations([True] * c + [False] * (n - c), k))
                assert pass_at(k, n, c) == pytest.approx(np.mean([any(group) for group in groups]))


def test_pass_at_k_is_stable_for_many_samples():
    assert pass_at(100, 10_000, 1) == pytest.approx(0.01)
    exact = 1 - math.comb(1990, 100) / math.comb(2000, 100)
    assert pass_at(100, 2000, 10) == pytest.approx(exact, rel=1e-12)
    assert pass_at(1, 200, 0) == 0
    assert pass_at(10, 20, 11) == 1


def test_a_completion_ends_where_the_function_does():
    assert cut("    return 1\n\ndef other():\n    pass") == "    return 1\n"
    assert cut("    x = 1\n    if x:\n        print(x)\n    return x") == "    x = 1\n    if x:\n        print(x)\n    return x"
    assert cut("    return 1\nprint(f(2))") == "    return 1"
    assert cut("    return 1\n# more\nclass A:") == "    return 1"


@needs_sandbox
@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (RIGHT, "passed"),
        ("    return tuple(2 * value for value in values)\n", "failed"),
        ("    return [2.0 * value for value in values]\n", "passed"),
        ("    return None\n", "failed"),
        ("", "failed"),
        ("    return values[7]\n", "raised"),
        ("    return undefined\n", "raised"),
        ("    return [2 *\n", "does not compile"),
        ("    return 1\0\n", "does not compile"),
        ("    return '\ud800'\n", "does not compile"),
        ("    # " + "x" * 1_000_000 + "\n" + RIGHT, "too long"),
        ("    return " + "(" * 20_000 + "\n", "does not compile"),
        ("    while True: pass\n", "timed out"),
        ("    import time; time.sleep(100)\n", "timed out"),
        ("    import os; os._exit(0)\n", "died"),
        ("    return object()\n", "not graded"),
        ("    return bytearray(10 ** 12)\n", "raised"),
        ("    raise SystemExit(0)\n", "raised"),
        ("    raise KeyboardInterrupt\n", "raised"),
        ("    raise AssertionError\n", "failed"),
        ("    return 0\nimport sys; sys.exit(0)\n", "raised"),
        ("    return 0\ndel double\n", "raised"),
    ],
)
def test_what_becomes_of_a_program(completion, expected):
    assert outcome(completion, timeout=1.0) == expected


VALUES = {
    "a view is not the list of its items": ("return {'a': 1}.keys()", "assert candidate() == ['a']", "failed"),
    "a view is the view": ("return {'a': 1}.keys()", "assert candidate() == {'a'} and list(candidate()) == ['a']", "passed"),
    "an iterator is not a list": ("return map(str, [1])", "assert candidate() == ['1']", "failed"),
    "an iterator of its kind": ("return zip('a', 'b')", "assert type(candidate()) is zip", "passed"),
    "an exception with its arguments": (
        "raise ValueError('a', 2)", "try: candidate()\n    except ValueError as e: assert e.args == ('a', 2)\n    else: assert 0",
        "passed",
    ),
    "an exception of the library": (
        "import json; json.loads('{')",
        "from json import JSONDecodeError\n    try: candidate()\n    except JSONDecodeError as e: assert e.pos == 1\n"
        "    else: assert 0",
        "passed",
    ),
    "an exception of the program's own, by what it extends": (
        "class Mine(KeyError): pass\n    raise Mine('k')",
        "try: candidate()\n    except RuntimeError: assert 0\n    except LookupError as e: assert type(e).__name__ == 'Mine'",
        "passed",
    ),
    "an exception of the prompt's": ("raise Ours('x')", "try: candidate()\n    except Ours: pass\n    else: assert 0", "passed"),
    "a value that cannot cross is no TypeError": (
        "return object()", "try: candidate()\n    except TypeError: pass", "not graded",
    ),
    "equality of its own": ("return type('Y', (int,), {'__eq__': lambda *_: True})(3)", "assert candidate() == 4", "not graded"),
    "nonsense in the channel is no ValueError": (
        "import os; os.write(3, b'\\0\\0\\0\\2V{')", "try: candidate()\n    except ValueError: pass", "raised",
    ),
    "an argument that cannot cross": ("return a[0](1)", "assert candidate([abs]) == 1", "not graded"),
    "an argument that is changed": (
        "a[0].sort(); a[1].clear()", "x, y = [2, 1], {1: 2}\n    candidate(x, y)\n    assert (x, y) == ([1, 2], {})", "passed",
    ),
    "an argument that should be changed": ("pass", "x = [2, 1]\n    candidate(x)\n    assert x == [1, 2]", "failed"),
    "an endless iterator": ("import itertools; return itertools.count()", "assert next(candidate()) == 0", "not graded"),
}  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize("case", VALUES)
def test_the_test_sees_the_value_itself_or_nothing_is_graded(case):
    body, test, expected = VALUES[case]
    prompt = "class Ours(Exception):\n    pass\n\n\ndef f(*a):\n"
    problem = Problem("Test/9", prompt, "f", f"def check(candidate):\n    {test}\n")
    assert outcome(f"    {body}\n", problem) == expected


@needs_sandbox
def test_a_problem_that_writes_to_the_grader_s_descriptor_is_an_error_or_a_failure():
    for text in (b"\0\0\0\1F", b"\0\0\0\2F{", b"\0\0\0\3B[]"):
        test = f"import os\ndef check(candidate):\n    os.write(3, {text!r})\n"
        with pytest.raises(InputError, match=r"Test/8: its own prompt or test cannot be run .ValueError: it writes to"):
            outcome(RIGHT, Problem("Test/8", PROMPT, "double", test))
    for text in (b"\xff\xff\xff\xff", b"junk", b"\0\0\0\1C"):
        test = f"import os\ndef check(candidate):\n    os.write(3, {text!r})\n    os._exit(0)"
        assert outcome(RIGHT, Problem("Test/8", PROMPT, "double", test), 1.0) in ("died", "timed out")


FORGERIES = {
    "prints that it passed": "    print('passed', flush=True); return 1\n",
    "writes a verdict into the channel": (
        "    import os\n    for mark in b'PRVX':\n        os.write(3, (1).to_bytes(4, 'big') + bytes([mark]))\n    return 1\n"
    ),
    "writes into every descriptor": (
        "    import os\n    for fd in range(64):\n        try: os.write(fd, b'\\0\\0\\0\\1P')\n        except OSError: pass\n"
        "    return 1\n"
    ),
    "leaves with 0": "    import os, sys\n    sys.exit(0)\n",
    "leaves with 0 at once": "    import os\n    os._exit(0)\n",
    "leaves at the end": "    import atexit, os\n    atexit.register(os._exit, 0)\n    return 1\n",
    "closes its descriptors": "    import os\n    os.closerange(0, 64)\n    return 1\n",
    "replaces assertions": "    import builtins\n    builtins.AssertionError = type('Never', (Exception,), {})\n    return 1\n",
    "replaces the grader's functions": (
        "    import sys\n    for module in list(sys.modules.values()):\n"
        "        for name in ('check', 'examine', 'send', 'pack', 'unpack', '_ask'):\n"
        "            if hasattr(module, name): setattr(module, name, lambda *a, **k: b'P')\n    return 1\n"
    ),
    "rewrites its caller": (
        "    import sys\n    frame = sys._getframe()\n    while frame:\n        frame.f_globals['PASSED'] = b'V'\n"
        "        frame.f_globals['check'] = lambda c: None\n        frame = frame.f_back\n    return 1\n"
    ),
    "equals everything": "    class Yes(list):\n        def __eq__(self, other): return True\n    return Yes()\n",
    "equals everything, as an object": "    class Yes:\n        def __eq__(self, other): return True\n    return Yes()\n",
    "looks for the answers": (
        "    import gc, sys\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'check' in o]\n"
        "    return [found, [o for o in gc.get_objects() if isinstance(o, str) and 'candidate([' in o]][1]\n"
    ),
    "raises what is no Exception": "    class Odd(BaseException):\n        def __str__(self): raise self\n    raise Odd\n",
    "raises with a name of its own": "    raise type('P', (Exception,), {})('passed')\n",
    "signals": "    import os\n    os.kill(os.getppid(), 0)\n    os.kill(-1, 0)\n    return 1\n",
    "traces": "    import signal, sys\n    sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)\n    return 1\n",
    "catches its own end": "    try:\n        while True: pass\n    except BaseException:\n        return 1\n",
}


@needs_sandbox
@pytest.mark.parametrize("how", FORGERIES)
def test_no_program_passes_that_does_not_answer_right(how):
    assert outcome(FORGERIES[how], timeout=1.0) != "passed"
    assert outcome(RIGHT) == "passed"


@needs_sandbox
def test_tests_are_not_in_the_program_s_memory():
    """The answer is nowhere to be found where the program runs: not in objects, nor in the bytes of its memory."""
    secret = "".join(["s3cr", "et-", "answer"])
    problem = Problem("Test/1", "def f(x):\n", "f", f"def check(candidate):\n    assert candidate(1) == {secret!r}\n")
    look = """    import gc, sys
    part = 's3cr' + 'et-'
    seen = set()
    def walk(o, depth):
        if id(o) in seen or depth > 6: return None
        seen.add(id(o))
        if isinstance(o, str) and o.startswith(part) and len(o) > 7: return o
        for inner in gc.get_referents(o):
            found = walk(inner, depth + 1)
            if found: return found
    for o in gc.get_objects():
        found = walk(o, 0)
        if found: return found
    return 'nothing'
"""
    assert outcome(look, problem, timeout=10.0) == "failed"
    honest = f"    return {secret!r}\n"
    assert outcome(honest, problem) == "passed"


@needs_sandbox
def test_tests_see_the_prompt_s_own_helpers_and_not_the_program_s():
    prompt = "def helper(x):\n    return x + 1\n\ndef f(x):\n    '''Undo helper.'''\n"
    test = "def check(candidate):\n    assert candidate(helper(3)) == 3\n    assert f(helper(4)) == 4\n"
    problem = Problem("Test/2", prompt, "f", test)
    assert outcome("    return x - 1\n", problem) == "passed"
    assert outcome("    return x\nhelper = lambda x: x\n", problem) == "failed"


@needs_sandbox
def test_a_program_keeps_its_state_between_the_calls_of_one_test_and_no_longer():
    problem = Problem("Test/3", "def f():\n", "f", "def check(candidate):\n    assert [candidate(), candidate()] == [1, 2]\n")
    counts = "    global count\n    count = globals().get('count', 0) + 1\n    return count\n"
    assert list(grade([(problem, counts), (problem, counts + "\n")], 3.0, workers=1)) == ["passed", "passed"]


@needs_sandbox
def test_a_problem_whose_test_is_broken_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"Test/4: its own prompt or test cannot be run .SyntaxError"):
        outcome(RIGHT, Problem("Test/4", PROMPT, "double", "def check(:"))
    with pytest.raises(InputError, match=r"Test/5: its own prompt or test cannot be run .KeyError: 'check'"):
        outcome(RIGHT, Problem("Test/5", PROMPT, "double", "pass"))


@needs_sandbox
def test_a_hanging_sample_costs_its_own_time_only():
    hanging = [(DOUBLE, f"    while True: {number}\n") for number in range(3)]
    quick = [(DOUBLE, RIGHT + "\n" * number) for number in range(20)]
    start = time.monotonic()
    found = list(grade(hanging + quick, 1.0, workers=2))
    assert found == ["timed out"] * 3 + ["passed"] * 20
    assert time.monotonic() - start < 60  # of a machine that has other work, too


class Writes:
    """A model that writes the same completions in turn."""

    def __init__(self, *texts):
        self.texts = texts

    def generate(self, prompts, sampling, on_progress=None):
        self.prompts = list(prompts)
        return [Completion(self.texts[place % len(self.texts)], True) for place in range(len(prompts))]

    def logprobs(self, texts):
        raise AssertionError


@pytest.fixture
def setting(tmp_path):
    return EvalContext("run", 7, "humaneval", tmp_path, None, Lines(), 0, list)


def write_problems(path, problems):
    names = ("task_id", "prompt", "entry_point", "test")
    rows = [dict(zip(names, (p.task, p.prompt, p.entry, p.test), strict=True)) for p in problems]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@needs_sandbox
@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_records_and_samples(setting, tmp_path, name):
    halve = Problem("Test/9", "def halve(x):\n", "halve", "def check(candidate):\n    assert candidate(4) == 2\n")
    file = write_problems(tmp_path / name, [DOUBLE, halve])
    model = Writes(RIGHT + "\ndef more(): pass", "    return [2 *", "    return x / 2\n", "    return 2\n")
    records = {r.metric: r for r in HumanEval(problems=file, n=4, k=[1, 4]).measure(model, setting)}
    assert model.prompts == [PROMPT] * 4 + ["def halve(x):\n"] * 4
    assert records["pass@1"].value == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert records["pass@4"].value == 1
    assert records["pass@1"].n == 2
    assert records["pass@1"].stderr == pytest.approx(0.125)
    assert records["syntax_error_share"].value == 0.25
    rows = pq.read_table(setting.samples_of("humaneval")).to_pylist()
    assert [row["outcome"] for row in rows[:2]] == ["passed", "does not compile"]
    assert rows[0]["completion"] == RIGHT
    assert rows[0]["text"].endswith("def more(): pass")


def test_problems_come_from_a_data_set_by_its_name(tmp_path):
    """Columns as those of openai/openai_humaneval."""
    row = {"task_id": "T/0", "prompt": DOUBLE.prompt, "canonical_solution": "", "test": DOUBLE.test, "entry_point": DOUBLE.entry}
    folder = write_hub_data(tmp_path / "he", {"openai_humaneval": {"test": {name: [value] for name, value in row.items()}}})
    assert read_problems(f"hf:{folder}") == [Problem("T/0", DOUBLE.prompt, DOUBLE.entry, DOUBLE.test)]
    assert HumanEval().files() == {}
    assert HumanEval(problems="x.jsonl").files() == {"problems": "x.jsonl"}
    broken = write_hub_data(tmp_path / "no", {"default": {"test": {"task_id": ["T/0"], "prompt": [""]}}})
    with pytest.raises(InputError, match=r"no: test: no column 'entry_point'; found task_id, prompt"):
        read_problems(f"hf:{broken}")


def test_bad_files_and_fields_are_named(tmp_path):
    path = tmp_path / "p.jsonl"
    with pytest.raises(InputError, match=r"p\.jsonl: no such file of problems"):
        read_problems(path)
    for content, message in (
        (b"", "empty"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"{}\n", "line 1: no problem, or something else than texts; expected hf:openai/openai_humaneval, or a file"),
        (b"not json\n", "line 1: not JSON"),
        (b"[1]\n", "line 1: no problem"),
        (b'{"task_id": 1, "prompt": "", "entry_point": "f", "test": ""}\n', "line 1: no problem, or something else than texts"),
        (b'{"task_id": "a", "prompt": "", "entry_point": "f", "test": ""}\n' * 2, "line 2: a second problem called 'a'"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_problems(path)
    with pytest.raises(InputError, match=r"humaneval\.k: found \[1, 30\], expected numbers of at most n, 20"):
        plugins.build("evaluations", "humaneval", {"problems": "x", "k": [1, 30]})


def test_a_system_without_a_sandbox_is_refused_before_anything_is_sampled(setting, monkeypatch):
    def none():
        raise InputError("no sandbox")

    monkeypatch.setattr(sandbox, "check", none)
    with pytest.raises(InputError, match="no sandbox"):
        list(HumanEval(problems="x").measure(Writes("x"), setting))


@needs_sandbox
@pytest.mark.skipif(not HUMAN_EVAL.exists(), reason="HumanEval.jsonl.gz is not on this machine")
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_every_canonical_solution_passes_and_none_that_does_nothing(every):
    problems = read_problems(HUMAN_EVAL)
    assert len(problems) == 164
    problems = problems[::every]
    lines = gzip.decompress(HUMAN_EVAL.read_bytes()).decode().splitlines()[::every]
    solutions = [json.loads(line)["canonical_solution"] for line in lines]
    assert set(grade(list(zip(problems, solutions, strict=True)), 10.0)) == {"passed"}
    for nothing in ("", "    return None\n", "    return True\n", "    return 0\n"):
        assert "passed" not in set(grade([(problem, nothing) for problem in problems], 10.0))
