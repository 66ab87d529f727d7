"""Outputs are whole or absent, and know what they were made from."""

import errno
import os
import shutil
import stat
import subprocess
import sys

import pytest

from phf import checksums
from phf.artifacts import (
    check_unchanged,
    fingerprint,
    read_json,
    read_object,
    remove_directory,
    sweep,
    whole_directory,
    whole_file,
    whole_lines,
    write_json,
)
from phf.errors import InputError


class Crash(Exception):
    """Stands for anything that goes wrong."""


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert os.listdir(path.parent) == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Crash), whole_file(path) as temporary:
        temporary.write_text("half")
        raise Crash
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_directory_appears_whole_and_replaces_the_old(tmp_path):
    path = tmp_path / "d"
    for content in ("one", "two"):
        with whole_directory(path) as temporary:
            (temporary / "x").write_text(content)
    assert (path / "x").read_text() == "two"
    with pytest.raises(Crash), whole_directory(path) as temporary:
        (temporary / "x").write_text("half")
        raise Crash
    assert (path / "x").read_text() == "two"
    assert os.listdir(tmp_path) == ["d"]


def test_sweep_deletes_only_leftovers(tmp_path):
    (tmp_path / ".part-0.abc.tmp").write_text("half")
    (tmp_path / ".dir.abc.tmp").mkdir()
    (tmp_path / ".dir.abc.tmp" / "x").write_text("half")
    (tmp_path / "part-0").write_text("whole")
    (tmp_path / ".hidden").write_text("not ours")
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "part-0"]


def test_a_directory_is_deleted_whole(tmp_path, monkeypatch):
    (tmp_path / "state-1").mkdir()
    (tmp_path / "state-1" / "weights").write_text("all of them")

    def killed(path, **_):
        assert not (tmp_path / "state-1").exists(), "it is out of sight before the first of its files is gone"
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(shutil, "rmtree", killed)
        remove_directory(tmp_path / "state-1")
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / "state-2").mkdir()
    remove_directory(tmp_path / "state-2")
    assert os.listdir(tmp_path) == []


def test_json_round_trips_and_says_what_is_wrong(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None, 2.5]})
    assert read_json(tmp_path / "a.json") == {"ü": [1, None, 2.5]}
    with pytest.raises(InputError, match="not found"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "c.json")


def test_fingerprints_do_not_depend_on_key_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_change_is_named_with_both_values(tmp_path):
    check_unchanged(tmp_path, {"a": {"b": 1}}, {"a": {"b": 1}})
    with pytest.raises(InputError, match=r"a\.b was 1, now 2") as error:
        check_unchanged(tmp_path, {"a": {"b": 1, "c": 3}}, {"a": {"b": 2}})
    assert "a.c was 3, now null" in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_torn_last_line_is_no_line_and_is_cut_off_where_asked(tmp_path):
    path = tmp_path / "log.jsonl"
    assert whole_lines(path) == []
    path.write_bytes(b"one\n\xfftwo\r\n{")
    assert whole_lines(path) == [b"one", b"\xfftwo\r"]
    assert path.read_bytes().endswith(b"{")
    assert whole_lines(path, cut=True) == [b"one", b"\xfftwo\r"]
    assert path.read_bytes() == b"one\n\xfftwo\r\n"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_of_a_directory_have_the_mode_of_the_umask_whatever_wrote_them(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_directory(tmp_path / "a") as folder:
            (folder / "deep").mkdir(mode=0o700)
            (folder / "deep" / "weights").touch(mode=0o600)
        assert stat.S_IMODE((tmp_path / "a" / "deep" / "weights").stat().st_mode) == 0o666 & ~mask
        assert stat.S_IMODE((tmp_path / "a" / "deep").stat().st_mode) == 0o777 & ~mask
        assert stat.S_IMODE((tmp_path / "a" / "checksums.json").stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("201437 requested and 71680 written")],
    ids=["errno", "numpy"],
)
@pytest.mark.parametrize("writes", [whole_file, whole_directory])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, writes, error):
    with pytest.raises(InputError, match=r"tokens\.bin: could not be written: the disk is full"), writes(tmp_path / "tokens.bin"):
        raise error
    assert os.listdir(tmp_path) == []


def test_a_limit_on_file_sizes_is_named_too(tmp_path):
    program = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from phf.artifacts import whole_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "with whole_file(Path(sys.argv[1])) as path:\n"
        "    np.zeros(50_000).tofile(path)\n"
    )
    path = tmp_path / "tokens.bin"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert f"InputError: {path}: could not be written" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "null", "{}", '{"other": 1}'])
def test_an_object_of_another_shape_is_named_with_its_file(tmp_path, content):
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(InputError, match=r"meta\.json: not what phf wrote"):
        read_object(tmp_path / "meta.json", "finished")


def test_what_rust_raises_on_a_full_disk_is_put_into_words_and_other_errors_are_not(tmp_path):
    said = r"out: could not be written: .* \(File too large \(os error 27\)\)"
    with pytest.raises(InputError, match=said), whole_directory(tmp_path / "out"):
        raise Exception("File too large (os error 27)")
    with pytest.raises(RuntimeError, match="bug"), whole_directory(tmp_path / "out"):
        raise RuntimeError("a bug (os error 2)")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_when_checksums_are_written_names_the_output_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = r"out: could not be written: the disk is full"
    with pytest.raises(InputError, match=said), whole_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    with pytest.raises(OSError, match="No space"):
        checksums.record_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
