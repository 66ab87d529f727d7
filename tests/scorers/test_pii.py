"""The pii scorer says what scrubadub says."""

import functools
import os
import pickle
import re
import string
import sys
from datetime import date
from pathlib import Path

import dateparser
import faker
import numpy as np
import pytest
import scrubadub
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import phf.scorers
from phf.corpora import PythonDocs
from phf.errors import InputError
from phf.scorers import Finding
from phf.scorers.pii import EXTENDED
from phf.scorers.pii.date_of_birth import whole_date
from phf.scorers.pii.prefilters import GATES, fold

MAKE = faker.Faker("en_US")
MAKE.seed_instance(0)
TEXTS = [
    "",
    "Nothing to see here.",
    "Write to jane.doe@example.com or see https://example.com/jane, thanks.",
    "Call +1 650 253 0000 or (650) 253-0000 today. @someone_else said so.",
    "username: root password: toor",
    "My number is 123-45-6789 and my card 4242424242424242 is gone.",
]


@pytest.fixture
def default():
    return phf.scorers.load("pii", detectors="default")


@pytest.fixture
def extended():
    return phf.scorers.load("pii")


def test_default_equals_scrubadub(default):
    counts = [len(scrubadub.list_filth(text)) for text in TEXTS]
    expected = np.array([-count / max(len(text), 1) for count, text in zip(counts, TEXTS)], dtype=np.float32)
    rewards = default.score(TEXTS)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, expected)
    assert sum(counts) >= 7


def test_findings(default):
    text = "Write to jane.doe@example.com please"
    assert default.findings(text) == [Finding(9, 29, "email")]


def test_extended_finds_more(default, extended):
    born = "She was born on 3 March 1975."
    home = "I live at 6919 Bell  Drive,\nEast Springfield, MO 76908, and so on."
    skype = "my skype: bobby_smiith99 add me"
    for text, kind in [(born, "date_of_birth"), (home, "address"), (skype, "skype")]:
        assert default.findings(text) == []
        assert [finding.kind for finding in extended.findings(text)] == [kind]
    [found] = extended.findings(home)
    assert home[found.start : found.end] == "6919 Bell  Drive,\nEast Springfield, MO 76908"


def test_pickles(extended):
    again = pickle.loads(pickle.dumps(extended))
    np.testing.assert_array_equal(again.score(TEXTS), extended.score(TEXTS))


# What the gates hold back, the detectors would not have matched -----------------------------------------------------------------

# Pieces of what the detectors match, and what comes close: of each the first few are taken, in any order, with any joint.
WORDS = {
    "credential": [
        "username",
        "login",
        "u:",
        "U:",
        "password",
        "pw",
        "p:",
        "u\u017fername",
        "pas\u017fword",
        "root",
        "log\u0130n",
    ],
    "number": ["650", "253", "0000", "310", "1234", "011", "44", "20", "7946", "0958", "1", "7", "12", "800", "123456", "555"],
    "other digits": ["\u0663\u0661\u0660", "\uff16\uff15\uff10", "\u0967\u0968\u0969\u096a", "\u00b2", "\uff0b"],
    "extension": ["ext", "ext. 5", "extn", "xtension", "x9", "int 4", "anexo 3", ";ext=5", "#7", "\u0434\u043e\u0431", "x", "X"],
    "card": ["4242424242424242", "378282246310005", "5555555555554444", "6011111111111117", "424242424242", "30569309025904"],
    "security": ["123-45-6789", "123.45.6789", "123 45 6789", "123-45-678", "12-345-6789", "987-65-4321"],
    "email": ["@", "at", "dot", "gmail", "com", "a.b", "-", "jane.doe", "x" * 64, "me@x.org", "me at x dot org", ".", "\u212aim"],
    "url": ["http", "https://", "http://", "www.", "WWW.", "://", "example.com", "/a?b=c", "#d", ".co", "ftp://x.org"],
    "handle": ["@", "@a", "@admin", "@twitter", "@some_one", "@\u0131nka", "@exactly15chars_", "@@b2"],
    "birth": [
        "born",
        "Birth",
        "d.o.b.",
        "DOB",
        "b\u0130rth",
        "1975-03-21",
        "03/21/1975",
        "21/03/1975",
        "March 3, 1975",
        "5 May 2023",
    ],
    "date": [
        "75",
        "1975",
        "1899",
        "10:30",
        "40 years ago",
        "two decades",
        "forty years",
        "yesterday",
        "March",
        "1e9",
        "999999999",
    ],
    "address": ["6919 Bell Drive", "One hundred Main St", "1 NW 2nd Ave", "P.O. Box 12", "Apt 4", "East Springfield", "Suite 5"],
    "state": ["MO", "MO 76908", "California", "new york", "NY", "DC 20001-1234", "Guam", "puerto rico 00907", "USA", "mo", "Or"],
}
KINDS = {
    "default": [[name] for name in list(WORDS)[:9]] + [list(WORDS)[:9]] * 4,
    "extended": [["birth", "date"], ["birth", "number"], ["address", "state"], ["address", "state", "number"], list(WORDS)],
}
JOINTS = ["", "", " ", " ", " ", "\n", ", ", "-", ".", ": ", "(", ") ", "\t", "\u00a0", "\u2013", "/", "_", "\r\n", "'"]


MADE = {
    kind: [str(made) for made in makers]
    for kind, makers in {
        "default": (MAKE.phone_number, MAKE.email, MAKE.url, MAKE.ssn, MAKE.credit_card_number, MAKE.user_name),
        "extended": (MAKE.address, MAKE.date_of_birth, MAKE.date, MAKE.street_address, MAKE.state_abbr, MAKE.sentence),
    }.items()
    for makers in [[make() for _ in range(12) for make in makers]]
}
"""Findings and sentences, always the same ones."""


@st.composite
def changed(draw, kind):
    """Take something that would be found, and insert or replace a character, or leave one out."""
    text = draw(st.sampled_from(MADE[kind]))
    place = draw(st.integers(0, len(text)))
    return (
        text[:place]
        + draw(st.sampled_from(["", "", *"0 7x.-+@(\n,/:a\u0663\uff11\u0130\u017f"]))
        + text[place + draw(st.integers(0, 1)) :]
    )


@st.composite
def near_misses(draw, kind):
    """Write a text of pieces of one kind or of all, of findings with a character changed, and of anything."""
    some = draw(st.sampled_from(KINDS[kind]))
    words = st.sampled_from([word for name in some for word in WORDS[name]])
    pieces = draw(st.lists(st.one_of(words, words, words, changed(kind), st.text(max_size=3)), max_size=12))
    return "".join(piece + draw(st.sampled_from(JOINTS)) for piece in pieces)


def plain_findings(scorer, text):
    """Ask scrubadub about everything: (start, end, kinds) of what it finds, or None where one of its detectors fails."""
    try:
        found = list(scorer.plain().iter_filth(text))
    except Exception:
        return None
    return [(each.beg, each.end, set(each.placeholder.lower().split("+"))) for each in found]


def check_against_plain(scorer, text):
    expected = plain_findings(scorer, text)
    if expected is None:
        return  # a detector has failed; the scorer may not have asked it
    assert [(each.start, each.end, set(each.kind.split("+"))) for each in scorer.findings(text)] == expected
    assert scorer.score([text])[0] == np.float32(-len(expected) / max(len(text), 1))


EXAMPLES = int(os.environ.get("PHF_EXAMPLES", "0"))  # more of them than the suite takes
quietly = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=EXAMPLES or 300, **quietly)
@given(text=near_misses("default"))
@example(text="\u0661 (650) 253 0000 x9")
@example(text="310-1234 or 1 310 1234, +44 20 7946 0958 ext. 5")
@example(text="log\u0130n: me pas\u017fword: 1")
@example(text="jane at example dot com, jane@example dot com")
def test_default_finds_what_the_plain_detectors_find(text):
    check_against_plain(phf.scorers.load("pii", detectors="default"), text)


@settings(max_examples=EXAMPLES or 100, **quietly)
@given(text=near_misses("extended"))
@example(text="Born:\n1975-03-21\nand 03/21/1975, the dob")
@example(text="my skype is foobarx, SKYPE foobarx, message me")
@example(text="One hundred Main St, new york NY")
def test_extended_finds_what_the_plain_detectors_find(text):
    check_against_plain(phf.scorers.load("pii", spacy_model=None), text)


def test_folding_keeps_places_and_takes_what_ignoring_case_takes():
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    assert all(len(fold(character)) == 1 for character in every)
    for letter in string.ascii_lowercase:
        assert {fold(taken) for taken in re.findall(letter, "".join(every), re.IGNORECASE)} == {letter}


def test_documentation_and_made_up_people():
    texts = [text for _, text in PythonDocs(limit_characters=60_000).texts()]
    texts += [" ".join(MADE["default"][i : i + 6] + MADE["extended"][i : i + 6]) for i in range(0, 60, 6)]
    texts += [
        f"{MAKE.name()}, born {MAKE.date_of_birth()}, lives at {MAKE.address()}.\nCall {MAKE.phone_number()}." for _ in range(20)
    ]
    default, extended = phf.scorers.load("pii", detectors="default"), phf.scorers.load("pii", spacy_model=None)
    for scorer in (default, extended):
        for text in texts:
            check_against_plain(scorer, text)
    assert -(extended.score(texts) * [len(text) for text in texts]).sum() > 50


@settings(max_examples=50, **quietly)
@given(st.dates(date(1000, 1, 1), date(2100, 1, 1)), st.sampled_from(["%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y"]))
def test_whole_dates_are_read_as_dateparser_reads_them(day, shape):
    text = day.strftime(shape)
    found = whole_date(text)
    assert found is None or found == dateparser.parse(text, languages=["en"]) == dateparser.parse(text)
    assert found is not None or day.day > 12  # beyond the 28th, or a day where the month should be


def test_every_detector_but_the_model_has_a_gate(extended):
    assert set(GATES) == set(EXTENDED)
    assert set(extended.plain()._detectors) >= set(GATES)


def test_a_text_of_which_a_detector_fails_is_unknown(extended, monkeypatch):
    from phf.scorers import pii
    from phf.scorers.pii import detectors

    def fail(*_):
        raise OverflowError

    monkeypatch.setattr(detectors.SkypeDetector, "iter_filth", fail)
    monkeypatch.setattr(pii, "_gated", pii._gated.__wrapped__)
    np.testing.assert_array_equal(np.isnan(extended.score(["no name", "skype me"])), [False, True])
    assert extended.findings("skype me") == []


def test_named_entities_need_a_model_that_is_there():
    with pytest.raises(InputError, match="'en_none' is neither an installed spaCy model nor a folder with one"):
        phf.scorers.load("pii", spacy_model="en_none").score(["Jane Doe"])


def test_named_entities_of_a_model(tmp_path):
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    ruler = model.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "PERSON", "pattern": "Jane Doe"}, {"label": "ORG", "pattern": "Acme"}, {"label": "GPE", "pattern": "Rome"}]
    )
    model.to_disk(tmp_path / "model")
    scorer = phf.scorers.load("pii", spacy_model=str(tmp_path / "model"))
    text = "Jane Doe of Acme was born in Rome, 1975-03-21."
    assert [(text[each.start : each.end], each.kind) for each in scorer.findings(text)] == [
        ("Jane Doe", "name"), ("Acme", "organization"), ("1975-03-21", "date_of_birth"),
    ]  # fmt: skip
    check_against_plain(scorer, text)


def test_auto_without_a_spacy_model_warns_once_with_the_command(monkeypatch, caplog):
    from phf.scorers import pii

    monkeypatch.setattr(pii, "_warn_of_names", functools.cache(pii._warn_of_names.__wrapped__))
    monkeypatch.setattr(pii, "entry_points", lambda group: [])
    for _ in range(2):
        phf.scorers.load("pii")
    phf.scorers.load("pii", spacy_model=None)
    phf.scorers.load("pii", detectors="default")
    (message,) = caplog.messages
    assert "names of people and organisations are not found" in message
    assert "python -m spacy download en_core_web_sm" in message


def test_the_papers_recipe_names_the_model_of_its_entities():
    from phf import config

    recipe = config.read_recipe(Path(__file__).parents[2] / "recipes" / "paper-pii.yaml")
    scorers = [recipe.annotate.scorer, *recipe.annotate.also.values()]
    found = [part for scorer in scorers for part in (scorer.fields, scorer.fields.get("samples") or {})]
    assert "en_core_web_sm" in [fields.get("spacy_model") for fields in found]
