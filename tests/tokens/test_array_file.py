"""Arrays in files: ranges of them are what slices are, in memory or not, and a file that got shorter is named."""

import gc
import os
import pickle

import numpy as np
import pytest

from phf.errors import InputError
from phf.tokens import array_file
from phf.tokens.array_file import ArrayFile, read_ranges
from phf.tokens.shard import SEGMENT


@pytest.fixture
def arrays(tmp_path):
    """Three arrays, each with its file; the second begins at an odd place in its file."""
    rng, found = np.random.default_rng(0), []
    for number, offset in enumerate([0, 7, 128]):
        array = np.zeros(20_000, SEGMENT)
        array["start"], array["reward"] = np.arange(len(array)) + 1_000_000 * number, rng.random(len(array))
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"x" * offset + array.tobytes())
        found.append((array, ArrayFile(path, SEGMENT, len(array), offset)))
    return found


def refuse(file, buffers, offset, flags=0):
    """Read as on a file system that does not say what is in memory."""
    if flags:
        raise OSError(95, "Operation not supported")
    return PREADV(file, buffers, offset)


def cut(file, buffers, offset, flags=0):
    """Read as where only some of a range is in memory, and as a call that is interrupted."""
    (buffer,) = buffers
    return PREADV(file, [buffer[: (len(buffer) + 1) // 2]], offset)


PREADV = os.preadv


@pytest.mark.parametrize("read", [PREADV, refuse, cut])
@pytest.mark.parametrize("evicted", [False, True])
def test_ranges_are_slices(arrays, monkeypatch, read, evicted):
    monkeypatch.setattr(os, "preadv", read)
    rng = np.random.default_rng(1)
    which = rng.integers(0, 3, 200)
    starts = rng.integers(0, 19_000, 200)
    stops = starts + np.where(rng.random(200) < 0.2, 0, rng.integers(1, 1000, 200))
    places = np.cumsum(stops - starts + 1) - (stops - starts)  # with an item between any two
    into = np.full(int(places[-1] + stops[-1] - starts[-1]) + 1, -1, SEGMENT)
    expected = into.copy()
    for number, start, stop, place in zip(which, starts, stops, places, strict=True):
        expected[place : place + stop - start] = arrays[number][0][start:stop]
    if evicted and hasattr(os, "posix_fadvise"):
        for _, file in arrays:
            os.fsync(file.file)
            os.posix_fadvise(file.file, 0, 0, os.POSIX_FADV_DONTNEED)
    read_ranges([arrays[number][1] for number in which], starts, stops, into, places)
    assert into.tobytes() == expected.tobytes()


def test_all_or_a_part_is_read(arrays):
    array, file = arrays[1]
    assert file.read().tobytes() == array.tobytes()
    assert file.read(5, 9).tobytes() == array[5:9].tobytes()
    assert file.read(19_990, 20_010).tobytes() == array[19_990:].tobytes()
    assert len(pickle.loads(pickle.dumps(file)).read(3, 4)) == 1, "another process opens it again"


def test_a_file_that_got_shorter_is_named(arrays):
    array, file = arrays[0]
    os.truncate(file.path, 1200)
    into = np.empty(200, SEGMENT)
    with pytest.raises(InputError, match=r"0.bin: ends at byte 1200"):
        read_ranges([file], np.array([50]), np.array([250]), into, np.array([0]))
    read_ranges([file], np.array([50]), np.array([100]), into, np.array([0]))
    assert into[:50].tobytes() == array[50:100].tobytes()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_files_are_closed_with_their_arrays(tmp_path):
    (tmp_path / "array.bin").write_bytes(bytes(12))
    before = len(os.listdir("/proc/self/fd"))
    files = [ArrayFile(tmp_path / "array.bin", SEGMENT, 1) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before + 50
    del files
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_in_memory_is_asked_for_before_it_is_waited_for(arrays, monkeypatch):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system takes no hints")
    calls = []

    def refuse_and_note(file, buffers, offset, flags=0):
        calls.append(flags)
        return refuse(file, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", refuse_and_note)
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: calls.append("hint"))
    starts, stops = np.array([5, 100, 900]), np.array([6, 200, 1000])
    read_ranges([arrays[0][1]] * 3, starts, stops, np.empty(201, SEGMENT), np.array([0, 1, 101]))
    if array_file._ONLY_CACHED:
        assert calls == [array_file._ONLY_CACHED] * 3 + ["hint"] * 3 + [0] * 3
