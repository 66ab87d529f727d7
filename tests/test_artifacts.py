"""Outputs are whole or absent, and know what they were made from."""

import os
import shutil
import stat

import pytest

from phf.artifacts import (
    check_unchanged,
    fingerprint,
    read_json,
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
