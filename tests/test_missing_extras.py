"""Every component without the libraries of its extra: an error that names the extra, never rewards or numbers."""

import json
import subprocess
import sys

import pytest

from phf import config, plugins

LIBRARIES = (
    "datasets", "fsspec", "jinja2", "lm_eval", "matplotlib", "openai", "phonenumbers", "presidio_analyzer", "profanity_check",
    "pyap", "pycodestyle", "ray", "ruff", "scrubadub", "sklearn", "spacy", "textblob", "triton", "zstandard",
)  # fmt: skip
PROGRAM = """
import json, os, sys
os.environ["PATH"] = ""  # ruff may be a program on it

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {libraries}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from phf import config, errors, plugins
import numpy as np

def outcome(action):
    try:
        return np.asarray(action()).tolist()
    except errors.MissingExtra as error:
        return str(error)

{actions}
print(json.dumps(outcomes))
"""
SCORERS = {
    "classifier": ({"model": "/no/such/model"}, None),  # transformers comes with phf; the model itself is missing
    "judge": ({"url": "http://127.0.0.1:1/v1", "model": "m", "rubric": "Kind? {text}", "max_calls": 1}, "judge"),
    "pep8": ({}, "pep8"),
    "pep8-ruff": ({}, "pep8"),
    "pii": ({}, "pii"),
    "presidio": ({}, "second"),
    "profanity": ({}, "second"),
    "published": ({}, None),
    "python": ({"function": "builtins.len"}, None),
    "regex": ({"patterns": ["a"]}, []),
    "toxicity": ({}, []),
}
SEGMENTERS = {"document": None, "lines": None, "paragraphs": None, "sentences": "sentences"}
EVALUATIONS = {
    "finetune": "glue.read('rte', 'hf:nyu-mll/glue')",
    "kl": "lm.load('openai:http://127.0.0.1:1/v1#m')",
    "zeroshot": "plugins.build('evaluations', 'zeroshot', {'tasks': ['lambada_openai']}).reads()",
}
"""What the evaluations that need an extra do first; the others need none."""


def run(actions):
    program = PROGRAM.format(libraries=set(LIBRARIES), actions=actions)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_scorer_whose_extra_is_missing_is_an_error():
    available = {name: entry for name, entry in plugins.available("scorers").items() if entry.value.startswith("phf.")}
    assert set(available) <= set(SCORERS), "a new scorer: what does it do without its extra?"
    fields = {name: SCORERS[name][0] for name in available if SCORERS[name][1] is not None}
    outcomes = run(
        "def score(name, fields):\n"
        "    return plugins.build('scorers', name, fields).score(['import os'])\n"
        f"outcomes = {{name: outcome(lambda: score(name, each)) for name, each in {fields!r}.items()}}\n"
    )
    for name, found in outcomes.items():
        extra = SCORERS[name][1]
        if extra:
            assert "not installed" in found or "needs" in found, f"{name}: {found}"
            assert f"pip install 'phf[{extra}]'" in found, f"{name}: {found}"
        else:
            assert isinstance(found, list), f"{name}: {found}"


def test_every_segmenter_whose_extra_is_missing_is_an_error():
    available = [name for name, entry in plugins.available("segmenters").items() if entry.value.startswith("phf.")]
    assert set(available) == set(SEGMENTERS), "a new segmenter: what does it do without its extra?"
    outcomes = run(
        f"outcomes = {{name: outcome(lambda: plugins.build('segmenters', name).segment('A. B.')) for name in {available!r}}}\n"
    )
    for name, found in outcomes.items():
        if SEGMENTERS[name]:
            assert f"pip install 'phf[{SEGMENTERS[name]}]'" in found
        else:
            assert "".join(found) == "A. B."


def test_the_default_segmenter_needs_no_extra():
    assert SEGMENTERS[config.Annotate().segmenter.name] is None


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation_whose_extra_is_missing_is_an_error(name):
    outcomes = run(
        f"from phf import lm\nfrom phf.evaluate.finetune import glue\noutcomes = outcome(lambda: {EVALUATIONS[name]})\n"
    )
    assert "pip install 'phf[" in outcomes
