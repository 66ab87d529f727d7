import io
import time
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phf import plugins
from phf.errors import InputError
from phf.segmenters import Lines, Paragraphs, Sentences, Whole, segment, sentences

SEGMENTERS = [Lines(), Paragraphs(), Sentences(), Sentences(space="after"), Whole()]
any_text = st.text(st.characters(codec="utf-8"), max_size=200)
# What moves the borders of sentences: stops, quotes and brackets, white space of every kind, and ordinary words.
spaces = [" ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u2003", "\x1c", "\r\n"]
words = ["Hello", "they", "it's", "can't", "e.g.", "U.S.", "Dr.", "a.m.", "3.5", "10km.", "http://x.org/a.html.", "I", "end."]
pieces = st.sampled_from([*".!?…。\"')](,;%$-—¿", "...", "..", "?!", *spaces, *words])
prose = st.lists(st.one_of(pieces, st.just(" ")), max_size=40).map("".join)


@cache
def spacy_pipeline():
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def spacy_starts(text):
    """Give where spaCy's sentences start, moved on to what is visible, but for the first."""
    document = spacy_pipeline()(text)
    starts = [sentence.start_char for sentence in document.sents][1:]
    moved = [len(text) - len(text[start:].lstrip()) for start in starts]
    return [start for start in moved if start < len(text)]


@pytest.mark.parametrize("segmenter", SEGMENTERS, ids=repr)
@settings(deadline=None)
@given(text=st.one_of(any_text, prose))
@example(text="")
@example(text=" ")
@example(text="\n\n\n")
@example(text="a\0b.\0 c")
def test_segments_join_to_the_text_and_none_is_empty(segmenter, text):
    segments = segment(segmenter, "d", text)
    assert "".join(segments) == text
    assert all(segments)


@settings(deadline=None, max_examples=500)
@given(text=prose)
@example(text='He said "Stop!" and left. \n\n "Why?"')
@example(text='One.\n\n" Two')
@example(text=". . a")
def test_sentences_are_spacys(text):
    assert sentences.sentence_starts("en", text) == spacy_starts(text)


@settings(deadline=None)
@given(text=prose)
def test_the_plain_way_of_other_languages_is_spacys_too(text):
    rules = sentences._rules("en")
    assert sentences._plainly(rules.pipeline, text) == spacy_starts(text)


def test_sentences_of_this_machines_documentation_are_spacys():
    from phf.corpora import PythonDocs

    for name, text in PythonDocs(packages=["argparse", "json", "email"]).texts():
        assert sentences.sentence_starts("en", text) == spacy_starts(text), name


def test_white_space_goes_in_front_of_the_next_sentence_or_stays_behind_the_last():
    text = " First one.  \n\nSecond! Dr. Who?\n"
    assert Sentences().segment(text) == [" First one.", "  \n\nSecond!", " Dr. Who?\n"]
    assert Sentences(space="after").segment(text) == [" First one.  \n\n", "Second! ", "Dr. Who?\n"]
    assert Sentences().segment("no stop at all") == ["no stop at all"]
    with pytest.raises(InputError, match="space"):
        plugins.check_fields(Sentences, {"space": "between"}, "sentences")


@settings(deadline=None)
@given(text=prose)
def test_only_white_space_moves(text):
    before, after = Sentences().segment(text), Sentences(space="after").segment(text)
    assert [piece.strip() for piece in before] == [piece.strip() for piece in after]
    assert all(piece == piece.rstrip() for piece in before[:-1])
    assert all(piece == piece.lstrip() for piece in after[1:])


def test_a_language_whose_words_spacy_does_not_cut_at_white_space_is_asked_about_whole_texts():
    assert sentences._rules("es").stop is None
    assert Sentences(language="es").segment("Hola. Los EE. UU. son.") == ["Hola.", " Los EE. UU. son."]


def test_an_unknown_language_is_an_input_error():
    with pytest.raises(InputError, match="spaCy has no language 'zz'"):
        Sentences(language="zz").segment("a. b")


@pytest.mark.parametrize(
    "text",
    ["x" * 2_000_000 + ".", "a" * 20_000 + ". B", ".,!?" * 100_000, "word " * 200_000, ". " * 200_000, " " * 1_000_000 + "a. b"],
    ids=["one word", "long word", "punctuation", "no stops", "stops", "blanks"],
)
def test_odd_texts_take_no_longer_than_their_length(text):
    Sentences().segment("Load the rules.")
    start = time.perf_counter()
    segment(Sentences(), "d", text)
    assert time.perf_counter() - start < 10


@settings(deadline=None)
@given(text=any_text)
def test_lines_are_those_python_reads(text):
    assert Lines().segment(text) == io.StringIO(text, newline="").readlines()


def test_lines_do_not_end_at_a_form_feed_but_at_every_end_of_line():
    assert Lines().segment("a\x0cb\u2028\r\nc\rd\n\ne") == ["a\x0cb\u2028\r\n", "c\r", "d\n", "\n", "e"]


def test_paragraphs_end_with_their_blank_lines():
    text = "one\none\n\n  two\r\n\r\n \t\n    three\n"
    assert Paragraphs().segment(text) == ["one\none\n\n", "  two\r\n\r\n \t\n", "    three\n"]


def test_a_segmenter_that_does_not_join_is_an_error_that_names_the_document():
    class Upper:
        def segment(self, text):
            return [text[:3], text[3:].upper()]

    with pytest.raises(InputError, match=r"document 'd7': the segments of Upper do not join .* from character 4 on .*'BC'.*'bc'"):
        segment(Upper(), "d7", "aaaAbc")


def test_segmenters_are_found_by_name():
    for name, kind in {"lines": Lines, "sentences": Sentences, "paragraphs": Paragraphs, "document": Whole}.items():
        assert type(plugins.build("segmenters", name)) is kind
