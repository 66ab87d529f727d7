"""Bits per byte: nats and bytes of the right segments, and nothing charged for being told to be aligned."""

import math

import numpy as np
import pytest
import torch

from phf import lm
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.heldout import HeldOut
from phf.evaluate.protocol import EvalContext, hashed_subset
from phf.segmenters import Sentences
from support.checkpoints import CONTROLS, checkpoint

torch.set_num_threads(1)


def documents(count: int = 6) -> list[Document]:
    made = []
    for number in range(count):
        segments = [f"Naïve reader {number}. ", "Write to a@b.org! ", "Done."]
        made.append(Document(f"d{number}", segments, np.array([0, -0.1, np.nan if number == 0 else 0.0], np.float32)))
    return [*made, Document("empty", [], np.array([], np.float32)), Document("blank", [""], np.array([0], np.float32))]


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "heldout", tmp_path, None, Sentences(), 0, lambda: hashed_subset(documents(), None))


class OneNatAByte:
    """A model whose every segment costs its number of bytes in nats; twice as much under another placement."""

    placement = "start"
    control = None

    def with_control_placement(self, placement):
        raise AssertionError

    def segment_logprobs(self, given, placement=None, guidance=None):
        factor = 2 if placement == "every" else 1
        return [-factor * np.array([float(len(segment.encode())) for segment in document]) for document in given]


def values(measure: HeldOut, model, setting) -> dict[str, float]:
    return {record.metric: record.value for record in measure.measure(model, setting)}


def test_a_nat_a_byte_is_so_many_bits_a_byte_whatever_the_segments(setting):
    found = values(HeldOut(), OneNatAByte(), setting)
    assert {name for name in found if "." not in name} == {
        "bits_per_byte", "bits_per_byte_aligned", "bits_per_byte_misaligned"
    }  # fmt: skip
    for value in found.values():
        assert value == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize("own", ["start", "every"])
@pytest.mark.parametrize("field", ["auto", "start", "every"])
def test_the_metric_without_a_suffix_is_that_of_a_token_in_front_of_every_segment(setting, own, field):
    model = OneNatAByte()
    model.control, model.placement = "<|aligned|>", own
    found = values(HeldOut(placement=field), model, setting)
    assert found["bits_per_byte"] == pytest.approx(2 / math.log(2))
    assert found["bits_per_byte_aligned_start"] == pytest.approx(1 / math.log(2))
    assert not [name for name in found if name.endswith("_every")]


@pytest.mark.parametrize("controls", [(), CONTROLS])
def test_bits_are_those_of_the_segments_of_each_kind(tmp_path, setting, controls):
    model = lm.load(str(checkpoint(tmp_path / "run", controls=controls)))
    records = {record.metric: record for record in HeldOut().measure(model, setting)}
    given = [document for document in setting.held_out if document.text]
    bits = {"": 0.0, "_aligned": 0.0, "_misaligned": 0.0}
    size = dict.fromkeys(bits, 0)
    for document in given:
        for segment, nats, reward in zip(
            document.segments, model.segment_logprobs([document.segments], "every")[0], document.rewards, strict=True
        ):
            kinds = ["", *(["_aligned"] if reward >= 0 else []), *(["_misaligned"] if reward < 0 else [])]
            for kind in kinds:
                bits[kind] -= nats / math.log(2)
                size[kind] += len(segment.encode())
    for kind in bits:
        assert records[f"bits_per_byte{kind}"].value == pytest.approx(bits[kind] / size[kind], rel=1e-5)
        assert records[f"bits_per_byte{kind}"].n == 6
        assert records[f"bits_per_byte{kind}"].stderr > 0
    assert ("bits_per_byte_start" in records) is bool(controls)


def test_bits_per_byte_of_all_segments_is_that_of_whole_texts(tmp_path, setting):
    model = lm.load(str(checkpoint(tmp_path / "run")))
    found = values(HeldOut(), model, setting)
    texts = [document.text for document in setting.held_out if document.text]
    whole = -model.logprobs(texts).sum() / math.log(2) / sum(len(text.encode()) for text in texts)
    assert found["bits_per_byte"] == pytest.approx(whole)


def test_the_threshold_parts_aligned_from_misaligned(setting):
    records = {record.metric: record for record in HeldOut(threshold=-0.5).measure(OneNatAByte(), setting)}
    assert math.isnan(records["bits_per_byte_misaligned"].value)
    assert records["bits_per_byte_misaligned"].n == 0
    assert records["bits_per_byte_aligned"].n == 6


def test_fewer_documents_are_the_same_ones_each_time(setting):
    records = [record.to_json() for record in HeldOut(documents=3).measure(OneNatAByte(), setting)]
    assert '"n": 3' in records[0]
    assert [record.to_json() for record in HeldOut(documents=3).measure(OneNatAByte(), setting)] == records


def test_a_model_without_segments_is_measured_on_whole_texts(setting):
    class Whole:
        def logprobs(self, texts):
            return -np.array([float(len(text.encode())) for text in texts])

    found = values(HeldOut(), Whole(), setting)
    assert found["bits_per_byte"] == pytest.approx(1 / math.log(2))
    assert "bits_per_byte_aligned" not in found


def test_no_held_out_document_is_an_error(tmp_path):
    nothing = EvalContext("run", 7, "heldout", tmp_path, None, Sentences(), 0, lambda: [])
    with pytest.raises(InputError, match="no held-out document"):
        values(HeldOut(), OneNatAByte(), nothing)
