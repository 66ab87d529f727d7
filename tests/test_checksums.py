"""Outputs are compared with the checksums that they were written with: nobody goes on with a damaged one in silence."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from phf import artifacts, checksums, config, lm
from phf.cli import main
from phf.config import read_yaml
from phf.documents import AnnotatedCorpus, read_annotated
from phf.errors import InputError
from phf.tokens import TokenStore, load_tokenizer
from phf.train import train
from support import tiny_corpora as tiny


def flip(path: Path, offset: int | None = None) -> None:
    """Flip a bit, in the middle by default, and restore the file's time; its size stays."""
    about, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2 if offset is None else offset] ^= 1 << 4
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def go(store: Path, out: Path):
    return train(store, out, "run", config.Component(name="mle"), tiny.train_options())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    annotated = tiny.token_store(folder).parent / "annotated"
    checksums.record_folder(annotated)
    go(folder / "tokens", folder / "runs" / "mle")
    return folder


@pytest.fixture
def copy(outputs, tmp_path):
    shutil.copytree(outputs, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_checksum_is_that_of_the_file_read_in_pieces(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 5)
    whole = checksums.Checksum.of(path)
    monkeypatch.setattr(checksums, "_AT_ONCE", 7)
    assert checksums.Checksum.of(path) == whole
    assert (whole.bytes, len(whole.blake2b)) == (1280, 32)
    assert not whole.problem(path)
    flip(path)
    assert "checksum" in whole.problem(path)


def test_a_file_that_grows_is_compared_up_to_where_it_was_recorded(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n{}\n")
    checksums.record(path, grows=True)
    with path.open("ab") as file:
        file.write(b"[]\n")
    checksums.verify(path)
    flip(path, offset=1)
    with pytest.raises(checksums.Damaged, match=r"a\.jsonl"):
        artifacts.whole_lines(path)
    path.write_bytes(b"{}\n")
    with pytest.raises(checksums.Damaged, match="has 3 bytes, but 6 were written"):
        checksums.verify(path)


def test_at_no_moment_does_a_checksum_contradict_its_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"value": 1}, recorded=True)
    done, moments = [], []

    def killed_after(call, number):
        def instead(*arguments):
            moments.append(number)
            if len(moments) == len(done) + 1:
                done.append(number)
                raise KeyboardInterrupt
            return call(*arguments)

        return instead

    monkeypatch.setattr(checksums, "write", killed_after(checksums.write, "checksums"))
    monkeypatch.setattr(Path, "replace", killed_after(Path.replace, "rename"))
    value = 1
    for attempt in range(2, 20):
        moments.clear()
        try:
            artifacts.write_json(path, {"value": attempt})
        except KeyboardInterrupt:
            assert artifacts.read_json(path)["value"] in (value, attempt)
            value = artifacts.read_json(path)["value"]
        else:
            break
    assert artifacts.read_json(path) == {"value": attempt}
    assert done == ["checksums", "rename", "rename", "checksums", "rename"]
    flip(path)
    with pytest.raises(checksums.Damaged):
        artifacts.read_json(path)


def test_what_was_recorded_may_be_replaced_by_whoever_writes_the_file(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, 1, recorded=True)
    artifacts.write_json(path, [2] * 100)
    assert artifacts.read_json(path) == [2] * 100
    assert checksums.check_all(tmp_path).damaged == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"files": {}, "blake2b": "00"}', b"\xff\xfe"])
def test_damaged_checksums_are_named_themselves(tmp_path, content):
    artifacts.write_json(tmp_path / "a.json", 1, recorded=True)
    (tmp_path / checksums.CHECKSUMS).write_bytes(content)
    with pytest.raises(InputError, match=r"checksums\.json: damaged"):
        artifacts.read_json(tmp_path / "a.json")
    (tmp_path / checksums.CHECKSUMS).unlink()
    assert artifacts.read_json(tmp_path / "a.json") == 1


def test_every_bit_of_the_checksums_themselves_counts(tmp_path):
    artifacts.write_json(tmp_path / "a.json", 1, recorded=True)
    path = tmp_path / checksums.CHECKSUMS
    whole, known = path.read_bytes(), checksums.read(tmp_path)
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with contextlib.suppress(checksums.Damaged):
            assert checksums.read(tmp_path) == known, offset  # white space may be other white space


def test_each_file_of_a_folder_is_read_once_and_those_inside_it_are_compared(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    for name in ("small", "inner/small", "large"):
        (tmp_path / name).write_bytes(bytes(20 if "small" in name else 200))
    checksums.record_folder(tmp_path)
    read, pieces = [], checksums._pieces
    monkeypatch.setattr(checksums, "SMALL", 100)
    monkeypatch.setattr(checksums, "_pieces", lambda file, limit=None: read.append(Path(file.name)) or pieces(file, limit))
    checksums.verify_folder(tmp_path)
    checksums.verify_folder(tmp_path)
    assert sorted(read) == [tmp_path / "inner/small", tmp_path / "large", tmp_path / "small"]
    for name in ("large", "inner/small"):
        flip(tmp_path / name)
        with pytest.raises(checksums.Damaged, match=name):
            checksums.verify_folder(tmp_path)
        flip(tmp_path / name)
    (tmp_path / "inner/small").unlink()
    with pytest.raises(checksums.Damaged, match="inner/small: missing"):
        checksums.verify_folder(tmp_path)


READERS = {
    "annotated/part-00001.parquet": lambda work: list(read_annotated(work / "annotated")),
    "annotated/manifest.json": lambda work: AnnotatedCorpus(work / "annotated"),
    "tokens/meta.json": lambda work: TokenStore.open(work / "tokens"),
    "tokens/tokens-00000.bin": lambda work: TokenStore.open(work / "tokens"),
    "tokens/segments-00000.npy": lambda work: TokenStore.open(work / "tokens"),
    "tokens/held-out/documents-00000.npy": lambda work: TokenStore.open(work / "tokens", held_out=True),
    "tokens/tokenizer/tokenizer.json": lambda work: load_tokenizer(work / "tokens" / "tokenizer"),
    "runs/mle/config.yaml": lambda work: read_yaml(work / "runs/mle/config.yaml"),
    "runs/mle/metrics.jsonl": lambda work: artifacts.whole_lines(work / "runs/mle/metrics.jsonl"),
    "runs/mle/checkpoints/step-*/phf.json": lambda work: lm.find_checkpoint(str(work / "runs/mle")),
    "runs/mle/checkpoints/step-*/config.json": lambda work: lm.load(str(work / "runs/mle")),
    "runs/mle/checkpoints/step-*/model.safetensors": lambda work: lm.load(str(work / "runs/mle")),
}


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("pattern", READERS)
def test_a_flipped_bit_is_found_by_who_reads_the_file(copy, monkeypatch, pattern, small):
    (path,) = copy.glob(pattern)
    READERS[pattern](copy)
    flip(path)
    if not small:  # as if it were large
        monkeypatch.setattr(checksums, "SMALL", 0)
        if path.name in ("tokens-00000.bin", "segments-00000.npy", "documents-00000.npy"):
            READERS[pattern](copy)  # its size alone is checked
            assert list(checksums.check_all(copy).damaged) == [path]
            return
    with pytest.raises(InputError, match=path.name):
        READERS[pattern](copy)


def test_a_damaged_state_is_not_resumed_from(copy):
    shutil.rmtree(copy / "runs/mle/checkpoints")
    (state,) = (copy / "runs/mle").glob("state-*")
    for name in ("learner.safetensors", "optimizer.pt", "random.pt", "position.json", "loop.json"):
        flip(state / name)
        with pytest.raises(InputError, match=name):
            go(copy / "tokens", copy / "runs/mle")
        flip(state / name)
    go(copy / "tokens", copy / "runs/mle")


def test_training_stops_before_it_saves_what_it_learnt_from_a_damaged_store(copy, monkeypatch):
    monkeypatch.setattr(checksums, "SMALL", 0)
    path = copy / "tokens" / "tokens-00000.bin"
    flip(path)
    with pytest.raises(InputError, match=rf"{path.name}: damaged.*[Nn]othing was saved"):
        go(copy / "tokens", copy / "runs/other")
    assert not list((copy / "runs/other").glob("state-*"))
    assert not list((copy / "runs/other").glob("checkpoints/step-*"))
    flip(path)
    assert go(copy / "tokens", copy / "runs/other").checkpoint.is_dir()


def test_a_damaged_index_is_computed_again(copy):
    go(copy / "tokens", copy / "runs/again")
    for path in (copy / "tokens" / "indexes").rglob("*"):
        if path.is_file() and path.stat().st_size:
            flip(path)
            go(copy / "tokens", copy / "runs" / f"after-{path.name}")
    weights = {path.read_bytes() for path in copy.glob("runs/*/checkpoints/step-*/model.safetensors")}
    assert len(list(copy.glob("runs/*/checkpoints/step-*"))) > 5
    assert len(weights) == 1


def test_outputs_without_checksums_are_read_unchecked(copy):
    for path in list(copy.rglob(checksums.CHECKSUMS)):
        path.unlink()
    for pattern, reader in READERS.items():
        if "part" in pattern or "manifest" in pattern or "phf.json" in pattern:
            reader(copy)
    go(copy / "tokens", copy / "runs/other")
    with pytest.raises(InputError, match="nothing to compare with"):
        checksums.check_all(copy / "annotated")


def run_check(capsys, *arguments):
    try:
        main(["check", *map(str, arguments)])
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_check_says_what_it_checked(copy, capsys):
    status, out, err = run_check(capsys, copy)
    assert (status, err) == (0, "")
    known = [folder / name for folder in checksums.folders(copy) for name in checksums.read(folder)]
    assert f"{len(known):,} files" in out
    assert f"{sum(path.stat().st_size for path in known):,} bytes" in out
    assert len(known) > 30


def test_check_names_every_damaged_and_missing_file(copy, capsys):
    flip(copy / "tokens" / "tokens-00000.bin")
    (copy / "runs" / "mle" / "config.yaml").unlink()
    (copy / "annotated" / checksums.CHECKSUMS).write_text("{}")
    status, _, err = run_check(capsys, copy)
    assert status == 2
    for name in ("tokens-00000.bin", "config.yaml: missing", "checksums.json"):
        assert name in err
    assert "Traceback" not in err
    status, out, _ = run_check(capsys, copy, "--json")
    assert status == 2
    found = json.loads(out)
    assert len(found["damaged"]) == 3
    assert found["files"] > 20


@pytest.mark.parametrize("what", ["missing", "file", "empty"])
def test_check_of_what_is_no_output_is_refused(tmp_path, capsys, what):
    path = tmp_path / what
    if what == "file":
        path.write_text("")
    if what == "empty":
        path.mkdir()
    status, _, err = run_check(capsys, path)
    assert status == 2
    assert str(path) in err


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_of_a_small_job_is_named_or_changes_nothing(tmp_path):
    from attacks import stages

    attempts = list(stages.damage(0, tmp_path, kinds=["the middle bit"]))
    assert len(attempts) > 50
    failures = [f"{what}: {failure}" for what, _, failure in attempts if failure]
    assert not failures, "\n".join(failures)
