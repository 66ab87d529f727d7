"""Components by name: found, built, checked, suggested; plugins come as built-ins do."""

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf import plugins
from phf.errors import InputError
from phf.objectives import Conditional


@dataclass(frozen=True)
class Loud:
    """A plugin of somebody else. With a second sentence."""

    volume: float
    names: list[str] = field(default_factory=list)
    derived: int = field(default=3, init=False)


@pytest.fixture
def with_plugin(monkeypatch):
    entry = EntryPoint("loud", f"{__name__}:Loud", "phf.scorers")
    broken = EntryPoint("broken", "phf.nowhere:Nothing", "phf.scorers")
    known = {**plugins.available("scorers"), "loud": entry, "broken": broken}
    monkeypatch.setattr(plugins, "available", lambda kind: known)


def test_built_ins_are_entry_points():
    assert plugins.find("objectives", "conditional") is Conditional
    assert list(plugins.available("objectives")) == sorted(plugins.available("objectives"))
    assert plugins.build("objectives", "conditional", {"threshold": 0}).threshold == 0


def test_a_plugin_is_built_like_a_built_in(with_plugin):
    assert plugins.build("scorers", "loud", {"volume": 11, "names": ["a"]}) == Loud(11, ["a"])
    assert plugins.caption("scorers", "loud") == "A plugin of somebody else. With a second sentence."


def test_a_broken_plugin_hides_no_other(with_plugin):
    assert "cannot be imported" in plugins.caption("scorers", "broken")
    assert "detectors" in plugins.caption("scorers", "pii") or plugins.caption("scorers", "pii")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"loud\.volume: missing"),
        ({"volume": "high"}, r"loud\.volume: .*number.*found 'high'"),
        ({"volume": 1, "nams": []}, r"loud\.nams: unknown key; did you mean 'names'"),
        ({"volume": 1, "names": [1]}, r"loud\.names\.0: .*string.*found 1"),
        ({"volume": 1, "derived": 4}, r"loud\.derived: unknown key"),
    ],
)
def test_fields_are_checked(with_plugin, fields, message):
    with pytest.raises(InputError, match=message):
        plugins.build("scorers", "loud", fields)


@pytest.mark.parametrize("kind", plugins.GROUPS)
def test_an_unknown_name_is_called_what_it_is(kind):
    singular = {"corpora": "corpus"}.get(kind, kind.removesuffix("s"))
    with pytest.raises(InputError, match=rf"^unknown {singular} 'zzzz' \(known: "):
        plugins.find(kind, "zzzz")


def test_the_nearest_name_is_suggested_and_all_are_listed():
    assert plugins.suggestion("mel", ["mle", "awr"]) == "; did you mean 'mle'? (known: awr, mle)"
    assert plugins.suggestion("xyz", ["mle"]) == " (known: mle)"
    assert plugins.suggestion("xyz", []) == " (known: none)"


@given(st.text(), st.lists(st.text(), max_size=4))
def test_a_suggestion_can_be_made_of_anything(name, known):
    assert plugins.suggestion(name, known).endswith(")")
