"""Outputs on object stores: a folder here, uploaded so that what is there is never called finished before it is."""

import json

import pytest

from phf import artifacts, checksums, object_store
from phf.errors import InputError
from support.command_line import phf

pytest.importorskip("fsspec")


@pytest.fixture
def store():
    """A store in memory, empty again afterwards."""
    import fsspec

    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Set which machine this is: each has a cache of its own."""

    def be(name):
        monkeypatch.setenv("PHF_CACHE", str(tmp_path / name))

    be("one")
    return be


def there(store, address="/bucket/out"):
    return {path.removeprefix(f"{address}/"): store.cat(path) for path in store.find(address)}


def test_an_output_resumes_on_another_machine(store, machine):
    with object_store.output("memory://bucket/out") as folder:
        (folder / "meta.json").write_text("{}")
        (folder / "state-1").mkdir()
        (folder / "state-1" / "weights").write_bytes(b"1" * 1000)
        (folder / ".half.tmp").write_text("not whole")
    assert set(there(store)) == {"meta.json", "state-1/weights", ".phf-files.json"}
    machine("two")
    with object_store.output("memory://bucket/out/") as folder:
        assert (folder / "state-1" / "weights").read_bytes() == b"1" * 1000
        (folder / "state-1" / "weights").unlink()
        (folder / "meta.json").write_text('{"finished": true}')
        (folder / "weights").write_bytes(b"2")
    assert set(there(store)) == {"meta.json", "weights", ".phf-files.json"}, "what was deleted here is deleted there"
    machine("one")
    copy = object_store.local_copy("memory://bucket/out")
    assert json.loads((copy / "meta.json").read_text())["finished"]
    assert not (copy / "state-1" / "weights").exists()
    with pytest.raises(InputError, match=r"memory://bucket/none: nothing there"):
        object_store.local_copy("memory://bucket/none")
    assert object_store.local_copy("a/path").as_posix() == "a/path"


def test_what_describes_data_is_uploaded_after_it(store, machine, monkeypatch):
    order = []
    mirror = object_store.Mirror("memory://bucket/out")
    for name in ("put_file", "pipe_file"):
        usual = getattr(mirror._filesystem, name)
        place = 1 if name == "put_file" else 0
        monkeypatch.setattr(mirror._filesystem, name, lambda *a, f=usual, i=place: (order.append(a[i].rpartition("/")[2]), f(*a)))
    mirror.pull()
    for name in ("manifest.json", "journal.jsonl", "part-1", "part-0", "quarantine.jsonl"):
        (mirror.folder / name).write_text(name)
    mirror.push()
    first, *middle, last = order
    assert first == last == ".phf-files.json"
    assert middle == ["part-0", "part-1", "quarantine.jsonl", "journal.jsonl", "manifest.json"]
    order.clear()
    mirror.push()
    assert order == [], "nothing has changed"
    # The stage finishes while data is uploaded: its last word waits for the next upload.
    usual = mirror._upload

    def finish_meanwhile(name):
        usual(name)
        (mirror.folder / "part-3").write_text("3")
        (mirror.folder / "manifest.json").write_text("finished")

    monkeypatch.setattr(mirror, "_upload", finish_meanwhile)
    (mirror.folder / "part-2").write_text("2")
    mirror.push()
    assert there(store)["manifest.json"] == b"manifest.json"
    assert "part-3" not in there(store)
    monkeypatch.setattr(mirror, "_upload", usual)
    mirror.push()
    assert there(store)["manifest.json"] == b"finished"
    assert there(store)["part-3"] == b"3"


def test_checksums_are_uploaded_last_and_a_copy_keeps_them(store, machine, monkeypatch):
    order = []
    with object_store.output("memory://bucket/out") as folder:
        for name in ("part-0", "manifest.json"):
            with artifacts.whole_file(folder / name, recorded=True) as temporary:
                temporary.write_text(name)
        usual = store.pipe_file
        monkeypatch.setattr(
            store, "pipe_file", lambda path, *rest, **more: (order.append(path.rpartition("/")[2]), usual(path, *rest, **more))
        )
    assert order == [".phf-files.json", "manifest.json", "checksums.json", ".phf-files.json"]
    checksums_there = store.cat("/bucket/out/checksums.json")
    machine("two")
    object_store.local_copy("memory://bucket/out")
    store.pipe("/bucket/out/part-0", b"part-1")  # a bit flipped
    copy = object_store.local_copy("memory://bucket/out")
    assert (copy / "checksums.json").read_bytes() == checksums_there
    with pytest.raises(InputError, match="part-0: damaged"):
        checksums.verify(copy / "part-0")
    with object_store.output("memory://bucket/out"):
        pass
    assert store.cat("/bucket/out/checksums.json") == checksums_there, "what is not changed is not uploaded"


def test_what_was_uploaded_half_is_not_read(store, machine):
    with object_store.output("memory://bucket/out") as folder:
        (folder / "data").write_text("whole")
    store.pipe("/bucket/out/state-9/weights", b"half a state")
    machine("two")
    assert [path.name for path in object_store.local_copy("memory://bucket/out").iterdir()] == ["data"]
    store.pipe("/bucket/foreign/data", b"copied there by other means")
    assert (object_store.local_copy("memory://bucket/foreign") / "data").exists()


def test_two_writers_are_an_error_and_lose_nothing(store, machine):
    with pytest.raises(InputError, match="another process has written there meanwhile"):  # noqa: SIM117
        with object_store.output("memory://bucket/out") as folder:
            (folder / "data").write_text("of the first")
            machine("two")
            with object_store.output("memory://bucket/out") as second:
                (second / "data").write_text("of the second")
    assert there(store)["data"] == b"of the second"
    assert (folder / "data").read_text() == "of the first"


def test_files_that_another_process_uploads(store, machine):
    with object_store.output("memory://bucket/out", keep="*.json*") as folder:
        path = folder / "annotated" / "part-0.parquet"
        assert object_store.address_of(path) == "memory://bucket/out/annotated/part-0.parquet"
        path.parent.mkdir()
        (folder / "other").write_text("x")
        object_store.upload_file(folder / "other", object_store.address_of(path))
        assert object_store.size_of(path) is None
        object_store.note_uploaded(path, 1)
        assert object_store.size_of(path) == 1
        assert object_store.names_in(path.parent) == {"part-0.parquet"}
        object_store.fetch_missing(path.parent)
        assert path.read_text() == "x"
    assert not (folder / "other").exists(), "what is not kept here is deleted once it is uploaded"
    assert set(there(store)) == {"annotated/part-0.parquet", "other", ".phf-files.json"}
    assert object_store.address_of(path) is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://AKIA:s3cret@bucket/out", r"^s3://bucket/out: the address holds a user, a password or a query"),
        ("https://host/out?X-Amz-Signature=s3cret", r"^https://host/out: the address holds"),
        ("nosuch://bucket/out", r"^nosuch://bucket/out: not an address of a store"),
    ],
)
def test_addresses_that_hold_secrets_or_name_no_store(machine, address, said):
    with pytest.raises(InputError, match=said) as raised:  # noqa: SIM117
        with object_store.output(address):
            pass
    assert "s3cret" not in str(raised.value)
    assert not object_store.is_address("openai:http://host/v1#model")
    assert not object_store.is_address("work/out")


def test_a_dry_run_does_not_pretend_to_know_an_address(tmp_path):
    _, said = phf("run", "pii-demo", "--dry-run", "--out", "s3://bucket/work", cwd=tmp_path, code=2)
    assert said.startswith("phf: error: --dry-run does not look at what is done at s3://bucket/work; leave --out out")
