"""Units of two runs are matched by name, whatever their order, or not at all."""

import numpy as np
import pytest

from phf import per_example, statistics
from phf.errors import InputError
from phf.layout import RunFolder


def kept(folder, name, ids, numerators, denominators):
    file = RunFolder(folder).per_example_of(name, 3)
    per_example.write(file, ids, {"bits_per_byte": (np.array(numerators), np.array(denominators))})
    return file


def test_units_are_matched_by_name(tmp_path):
    one = kept(tmp_path, "one", ["a", "b", "c"], [1.0, 2.0, 3.0], [1, 2, 4])
    other = kept(tmp_path, "other", ["c", "a", "b"], [6.0, 1.0, 2.0], [4, 1, 2])
    found = per_example.difference(one, other, "bits_per_byte")
    assert found == statistics.ratio_difference(
        (np.array([1.0, 2, 3]), np.array([1.0, 2, 4])), (np.array([1.0, 2, 6]), np.array([1.0, 2, 4]))
    )
    assert found.value == pytest.approx(6 / 7 - 9 / 7)


def test_other_units_other_metrics_and_missing_files_give_no_difference(tmp_path):
    one = kept(tmp_path, "one", ["a", "b"], [1.0, 2.0], [1, 2])
    assert per_example.difference(one, kept(tmp_path, "other", ["a", "c"], [1.0, 2.0], [1, 2]), "bits_per_byte") is None
    assert per_example.difference(one, kept(tmp_path, "fewer", ["a"], [1.0], [1]), "bits_per_byte") is None
    assert per_example.difference(one, one, "kl") is None
    assert per_example.difference(one, tmp_path / "none.parquet", "bits_per_byte") is None
    twice = kept(tmp_path, "twice", ["a", "a"], [1.0, 2.0], [1, 2])
    assert per_example.difference(twice, twice, "bits_per_byte") is None


def test_a_broken_file_is_named(tmp_path):
    file = RunFolder(tmp_path).per_example_of("one", 3)
    file.parent.mkdir()
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"one-step-3\.parquet"):
        per_example.read(file, "kl")
