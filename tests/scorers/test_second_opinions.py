"""Scorers of other people's making, for a second opinion: profanity and Presidio. They are in the extra `second`."""

import numpy as np
import pytest

from phf import scorers
from phf.errors import InputError


def test_profanity_is_minus_a_probability():
    pytest.importorskip("profanity_check", reason="needs phf[second]")
    kind, vile, empty = scorers.load("profanity").score(["have a nice day", "you fucking idiot", ""])
    assert -0.1 < kind < 0
    assert vile < -0.9
    assert -0.1 < empty < 0
    assert scorers.load("profanity").score([]).shape == (0,)


def test_presidio_counts_what_its_patterns_find_once_each():
    pytest.importorskip("presidio_analyzer", reason="needs phf[second]")
    scorer = scorers.load("presidio")
    text = "Write to jane.doe@example.com, or pay with 4111 1111 1111 1111."
    assert [(text[one.start : one.end], one.kind) for one in scorer.findings(text)] == [
        ("jane.doe@example.com", "EMAIL_ADDRESS"),  # its domain is no finding of its own
        ("4111 1111 1111 1111", "CREDIT_CARD"),
    ]
    rewards = scorer.score([text, "The film was dull, 3 of 10.", "", "pay with 4111 1111 1111 1112"])
    assert rewards.dtype == np.float32
    np.testing.assert_allclose(rewards, [-2 / len(text), 0, 0, 0], rtol=1e-6)  # the last check sum is wrong
    emails = scorers.load("presidio", entities=["EMAIL_ADDRESS"])
    assert [one.kind for one in emails.findings(text)] == ["EMAIL_ADDRESS"]
    with pytest.raises(InputError, match=r"presidio.entities: no pattern recognizer finds 'EMAIL'; did you mean 'EMAIL_ADDRESS'"):
        scorers.load("presidio", entities=["EMAIL"]).score(["x"])
