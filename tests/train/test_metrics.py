"""Lines of metrics, spikes, and operations."""

import json

import numpy as np
import pytest

from phf.errors import InputError
from phf.train.metrics import MetricsWriter, RunningMeans, SpikeDetector, flops_per_token, peak_flops
from phf.train.model import build_model


def test_a_torn_or_later_line_is_cut_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path, 0)
    for step in (1, 2, 3):
        writer.write({"step": step, "loss": float("nan") if step == 2 else 1.0}, 0.5)
    path.write_text(path.read_text() + '{"step": 4, "lo')
    MetricsWriter(path, 2).write({"step": 3, "loss": 7.0}, 0.25)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["loss"] for line in lines] == [1.0, None, 7.0]
    assert [line["seconds"] for line in lines] == [0.5, 1.0, 1.25], "the time before the stop counts"


def test_means_are_over_the_steps_that_have_the_fact():
    means = RunningMeans()
    for facts in ({"loss": 1.0}, {"loss": 3.0, "weight_max": 5.0}):
        means.add(facts)
    assert means.means() == {"loss": 2.0, "weight_max": 5.0}
    assert means.steps == 2


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[]", b"{}", b'{"step": 1}', b"null", b'{"step": "one", "seconds": 1}', b""])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "seconds": 0.5}\n' + line + b"\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: damaged"):
        MetricsWriter(path, 5)


def test_a_spike_is_reported_once_and_a_falling_or_noisy_loss_is_none():
    random = np.random.default_rng(0)
    falling = [10 * 0.98**step + random.normal(0, 0.05) for step in range(300)]
    spikes = SpikeDetector()
    assert [spikes.update(loss) for loss in falling] == [None] * 300
    found = spikes.update(3.0)
    assert found.startswith("3, where the 100 before it had 0.0")
    again = SpikeDetector(**spikes.state())
    assert spikes.update(3.0) is again.update(3.0) is None, "it is reported once"
    assert [SpikeDetector().update(loss) for loss in [1.0] * 19 + [9.0]] == [None] * 20, "too few to tell"
    assert SpikeDetector().update(float("inf")) is None


def test_operations_are_six_for_a_parameter_and_attention():
    model = build_model({"preset": "gpt2-small"}, 50257, 1024, 0, 0)
    without_positions = 124_439_808 - 1024 * 768
    assert flops_per_token(model, 1024) == pytest.approx(6 * without_positions + 12 * 12 * 768 * 1024)
    untied = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = build_model({**untied, "tie_word_embeddings": False}, 300, 32, 0, 0)
    counted = sum(parameter.numel() for parameter in llama.parameters()) - 300 * 16
    assert flops_per_token(llama, 32) == 6 * counted + 12 * 2 * 16 * 32


def test_peaks():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("a toaster") is None
