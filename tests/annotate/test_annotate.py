import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phf import checksums, config
from phf.annotate import annotate, resources
from phf.annotate.supervisor import _START, WorkerSupervisor
from phf.corpora import Row
from phf.documents import read_annotated
from phf.errors import InputError
from support import toy_components as toy_scorers


@pytest.fixture(autouse=True)
def _toys(tmp_path_factory, monkeypatch):
    toy_scorers.install(tmp_path_factory.mktemp("plugin"), monkeypatch)


def options(**fields):
    defaults = {"scorer": "toy", "segmenter": "lines", "part": 10, "workers": 1, "timeout": 5.0}
    return config.check(config.Annotate, {**defaults, **fields}, "annotate")


def corpus_of(path, texts):
    path.write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    return config.Corpus(inputs=[str(path)])


def poem(count, seed=0):
    rng = random.Random(seed)
    words = ["stone", "river", "sky", "rhythm", "oak", "a", "myth"]
    return ["".join(" ".join(rng.choices(words, k=5)) + "\n" for _ in range(rng.randint(1, 6))) for _ in range(count)]


def parts_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def quarantine(folder):
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def test_every_segment_is_scored_in_order(tmp_path):
    texts = poem(25)
    summary = annotate(corpus_of(tmp_path / "c.jsonl", texts), options(), tmp_path / "out")
    documents = list(read_annotated(tmp_path / "out"))
    assert [document.id for document in documents] == [f"d{i}" for i in range(25)]
    assert [document.text for document in documents] == texts
    for document in documents:
        expected = np.array([toy_scorers.reward(piece) for piece in document.segments], np.float32)
        np.testing.assert_array_equal(document.rewards, expected)
    assert summary.parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert (summary.documents, summary.characters) == (25, sum(map(len, texts)))
    assert summary.segments == sum(len(document.segments) for document in documents)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["documents"] == 25
    assert manifest["versions"]["phf"]


def test_parts_do_not_depend_on_workers_and_a_finished_folder_is_left_alone(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(45))
    annotate(corpus, options(workers=1), tmp_path / "one")
    annotate(corpus, options(workers=3), tmp_path / "three")
    assert parts_of(tmp_path / "one") == parts_of(tmp_path / "three")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    again = annotate(corpus, options(workers=2), tmp_path / "one")
    assert again.was_finished
    assert again.documents == 45
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}


def test_a_folder_made_from_something_else_is_refused(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    annotate(corpus, options(), tmp_path / "out")
    kept = parts_of(tmp_path / "out")
    with pytest.raises(InputError, match=r"annotate\.segmenter\.name was \"lines\", now \"document\""):
        annotate(corpus, options(segmenter="document"), tmp_path / "out")
    with pytest.raises(InputError, match=r"annotate\.scorer\.offset was null, now 1"):
        annotate(corpus, options(scorer={"name": "toy", "offset": 1.0}), tmp_path / "out")
    corpus_of(tmp_path / "c.jsonl", poem(5, seed=1))
    with pytest.raises(InputError, match=r"inputs\.bytes was \d+, now \d+"):
        annotate(corpus, options(), tmp_path / "out")
    assert parts_of(tmp_path / "out") == kept
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other" / "mine.parquet")
    with pytest.raises(InputError, match="choose another output folder"):
        annotate(corpus, options(), tmp_path / "other")


def test_several_scorers_in_one_pass(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(12))
    annotate(corpus, options(also={"place": "toy-document", "low": {"name": "toy", "offset": 2.0}}), tmp_path / "out")
    main = list(read_annotated(tmp_path / "out"))
    for column, expected in (
        ("place", lambda document: -np.arange(len(document.segments), dtype=np.float32)),
        ("low", lambda document: np.array([toy_scorers.reward(piece) - 2 for piece in document.segments], np.float32)),
    ):
        for document, other in zip(main, read_annotated(tmp_path / "out", column), strict=True):
            np.testing.assert_array_equal(other.rewards, expected(document))
    alone = tmp_path / "alone"
    annotate(corpus, options(), alone)
    for document, other in zip(main, read_annotated(alone), strict=True):
        np.testing.assert_array_equal(document.rewards, other.rewards)


def test_each_scorer_is_given_as_much_at_once_as_it_likes(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", ["x" * 400] * 9)
    also = {"few": {"name": "toy-batch", "batch_characters": 700}, "many": {"name": "toy-batch", "batch_characters": 3_000}}
    annotate(corpus, options(scorer="toy-batch", also=also), tmp_path / "out")
    given = {name: [float(each.rewards[0]) for each in read_annotated(tmp_path / "out", name)] for name in ("rewards", *also)}
    # The largest takes eight documents of 400 characters and then one; the others cut these again.
    assert given["many"] == [-3200] * 8 + [-400]
    assert given["rewards"] == [-1200] * 6 + [-800] * 2 + [-400]
    assert given["few"] == [-800] * 8 + [-400]


def test_a_document_that_brings_the_scorer_down_costs_only_itself(tmp_path):
    texts = poem(40)
    bad = {3: "!raise", 4: "!short", 11: "!hang", 17: "!crash", 22: "!exit", 39: "!sleep"}
    for index, what in bad.items():
        texts[index] += what + "\n"
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    summary = annotate(corpus, options(timeout=1.0, max_failures=1.0, workers=2), tmp_path / "out")
    assert summary.failed == len(bad)
    reasons = {each["id"]: each["reason"] for each in quarantine(tmp_path / "out")}
    assert reasons == {
        "d3": "RuntimeError: no good",
        "d4": "IndexError",
        "d11": "took longer than 1 s",
        "d17": "the scoring process was ended by SIGSEGV",
        "d22": "the scoring process ended with status 3",
        "d39": "took longer than 1 s",
    }
    for index, document in enumerate(read_annotated(tmp_path / "out")):
        assert document.text == texts[index]
        if index in bad:
            assert np.isnan(document.rewards).tolist() == [True]
        else:
            np.testing.assert_array_equal(
                document.rewards, np.array([toy_scorers.reward(piece) for piece in document.segments], np.float32)
            )
    assert summary.unscored == len(bad)


def test_a_scorer_that_cannot_be_interrupted_costs_the_document(tmp_path):
    texts = poem(20)
    bad = {1: "!ignore", 5: "!block", 12: "!stop", 18: "!fork"}
    for index, what in bad.items():
        texts[index] += what + "\n"
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    start = time.monotonic()
    summary = annotate(corpus, options(timeout=0.5, max_failures=1.0), tmp_path / "out")
    assert time.monotonic() - start < 60
    assert summary.failed == len(bad)
    reasons = {each["id"]: each["reason"] for each in quarantine(tmp_path / "out")}
    late = "took longer than 0.5 s"
    assert reasons == {"d1": late, "d5": late, "d12": late, "d18": "the scoring process ended with status 4"}


def test_what_a_scorer_gets_wrong_for_one_document_costs_that_document(tmp_path):
    texts = poem(20)
    bad = {1: "!text", 4: "!count", 6: "!none", 7: "!infinite", 11: "!input", 17: "!surrogate"}
    for index, what in bad.items():
        texts[index] = what + "\n"
    summary = annotate(corpus_of(tmp_path / "c.jsonl", texts), options(max_failures=1.0), tmp_path / "out")
    assert (summary.documents, summary.failed, summary.unscored) == (20, len(bad), len(bad))
    reasons = {each["id"]: each["reason"] for each in quarantine(tmp_path / "out")}
    assert reasons == {
        "d1": "ValueError: could not convert string to float: 'no numbers'",
        "d4": "ValueError: Toy returned rewards of shape (10000,) for 1 segments",
        "d6": "ValueError: Toy returned rewards of shape () for 1 segments",
        "d7": "ValueError: Toy returned an infinite reward",
        "d11": "not this text",
        "d17": "RuntimeError: half \\ud83d a pair",
    }


def test_what_a_scoring_process_sends_is_not_unpickled(tmp_path):
    mark = tmp_path / "mark"
    texts = ["a line\n", f"!pickle {mark} \n", "another\n"]
    annotate(corpus_of(tmp_path / "c.jsonl", texts), options(max_failures=1.0), tmp_path / "out")
    assert not mark.exists()
    (failure,) = quarantine(tmp_path / "out")
    assert failure["id"] == "d1"
    assert failure["reason"].startswith("the scoring process broke the protocol: ")


def test_a_document_is_segmented_once(tmp_path):
    texts = [f"text{i}\nand more\n" for i in range(12)]
    texts[3] += "!exit\n"
    log = tmp_path / "log"
    segmenter = {"name": "toy-logging", "log": str(log)}
    annotate(corpus_of(tmp_path / "c.jsonl", texts), options(segmenter=segmenter, max_failures=1.0), tmp_path / "out")
    counts = Counter(log.read_text().split())
    assert {word: counts[word] for word in counts if word != "A"} == {
        # The first process fell over a batch of ten; the second scored each alone, and fell over one.
        **{f"text{i}": 2 for i in range(4)},
        **{f"text{i}": 2 for i in range(4, 10)},
        "text10": 1,
        "text11": 1,
    }


def test_too_many_unscored_segments_stop_with_the_scorer_named(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", ["fine\n" * 48 + "?\n?\n"] * 10)
    unsure = options(scorer={"name": "toy", "unsure": True}, part=5)
    message = r"10 of 250 segments have no reward, more than annotate\.max_unscored=0\.01 allows \(scorer: toy\)"
    with pytest.raises(InputError, match=message):
        annotate(corpus, unsure, tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["finished"]
    allowed = unsure.model_copy(update={"max_unscored": 0.05})
    assert annotate(corpus, allowed, tmp_path / "out").unscored == 20


@pytest.mark.parametrize("name", ["id", "segments", "rewards", "texts", "scores", "", "a\0b", "half \ud800"])
def test_further_scorers_cannot_take_the_names_of_other_columns(name):
    with pytest.raises(InputError, match=r"annotate: also: found the name"):
        options(also={name: "toy"})


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_finished_part_that_is_missing_or_truncated_is_scored_again(tmp_path, damage):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(25))
    annotate(corpus, options(), tmp_path / "out")
    expected = parts_of(tmp_path / "out")
    path = tmp_path / "out" / "part-00001.parquet"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    summary = annotate(corpus, options(), tmp_path / "out")
    assert not summary.was_finished
    assert summary.documents == 25
    assert parts_of(tmp_path / "out") == expected
    assert annotate(corpus, options(), tmp_path / "out").was_finished


def test_size_and_checksum_of_each_part_are_recorded(tmp_path):
    annotate(corpus_of(tmp_path / "c.jsonl", poem(25)), options(), tmp_path / "out")
    recorded = checksums.read(tmp_path / "out")
    assert set(recorded) == {*parts_of(tmp_path / "out"), "manifest.json", "journal.jsonl", "quarantine.jsonl"}
    for name, content in parts_of(tmp_path / "out").items():
        assert recorded[name].bytes == len(content)
        assert recorded[name].blake2b == hashlib.blake2b(content, digest_size=16).hexdigest()


@pytest.mark.parametrize("content", ["[]", "{}", '{"finished": true, "made_from": {}}', '{"finished": false, "made_from": 1}'])
def test_a_manifest_of_another_shape_is_an_input_error(tmp_path, content):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    annotate(corpus, options(), tmp_path / "out")
    checksums.forget(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: not the manifest of an annotated corpus"):
        annotate(corpus, options(), tmp_path / "out")


def test_a_journal_of_another_shape_is_an_input_error(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    annotate(corpus, options(), tmp_path / "out")
    checksums.forget(tmp_path / "out")
    for content in ("[1]\n", "{}\n", "x\n", '{"part": 0}\n', "\xff\n"):
        (tmp_path / "out" / "journal.jsonl").write_bytes(content.encode("latin-1"))
        with pytest.raises(InputError, match=r"journal\.jsonl, line 1: not a line that phf wrote"):
            annotate(corpus, options(), tmp_path / "out")


def test_a_document_that_asks_for_all_memory_is_set_aside(tmp_path):
    texts = poem(12)
    texts[5] += "!memory\n"
    annotate(corpus_of(tmp_path / "c.jsonl", texts), options(memory=0.5, max_failures=0.5, timeout=30.0), tmp_path / "out")
    assert quarantine(tmp_path / "out") == [
        {"id": "d5", "reason": "needed more than 0.5 GiB of memory", "part": "part-00000.parquet"}
    ]


def test_too_many_failures_stop_with_the_counts_and_finished_parts_stay(tmp_path):
    texts = poem(40)
    texts[12] += "!raise\n"
    texts[13] += "!raise\n"
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    with pytest.raises(InputError, match=r"2 of 20 documents failed, more than annotate\.max_failures=0\.05 .*d12: RuntimeError"):
        annotate(corpus, options(max_failures=0.05), tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["finished"]
    assert [each["id"] for each in quarantine(tmp_path / "out")] == ["d12", "d13"]
    kept = parts_of(tmp_path / "out")
    assert set(kept) >= {"part-00000.parquet", "part-00001.parquet"}
    stamps = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}
    summary = annotate(corpus, options(max_failures=0.1), tmp_path / "out")
    assert (summary.documents, summary.failed) == (40, 2)
    assert stamps == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}


def test_a_slow_scorer_is_not_taken_for_bad_documents(tmp_path):
    # A batch of six documents takes twice the limit of one document, a document a third of it.
    rows = [Row(f"d{i}", "x" * 999 + "\n") for i in range(6)]
    scorer = {"name": "toy", "rest": 0.0005, "batch_characters": 9_000}
    supervisor = WorkerSupervisor(options(scorer=scorer, timeout=1.5), memory=2.0)
    try:
        assert supervisor.score_part(tmp_path / "0.parquet", rows).failures == []
        process = supervisor._process
        assert supervisor.score_part(tmp_path / "1.parquet", rows).failures == []
        assert supervisor._process is process, "the second batch was given the time of six documents"
    finally:
        supervisor.close()


def test_a_scorer_or_segmenter_that_cannot_work_stops_at_once(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    with pytest.raises(InputError, match=r"5 of 5 documents failed.* d0: document 'd0'.*Lossy do not join"):
        annotate(corpus, options(segmenter="toy-lossy"), tmp_path / "out")
    with pytest.raises(InputError, match="spaCy has no language 'xx-no'"):
        annotate(corpus, options(segmenter={"name": "sentences", "language": "xx-no"}), tmp_path / "out2")


def test_a_disk_that_cannot_be_written_is_an_error_not_a_bad_document(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    annotate(corpus, options(), tmp_path / "out")
    checksums.forget(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "finished": False}))
    (tmp_path / "out" / "part-00000.parquet").unlink()
    (tmp_path / "out" / "part-00000.parquet").mkdir()
    (tmp_path / "out" / "part-00000.parquet" / "in-the-way").touch()
    (tmp_path / "out" / "journal.jsonl").unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet: cannot be written"):
        annotate(corpus, options(), tmp_path / "out")


def test_a_limit_on_file_sizes_is_an_error_that_names_the_file(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", [f"{random.Random(i).getrandbits(1000):x}\n" for i in range(40)])
    program = tmp_path / "limited.py"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
    program.write_text(KILLED.replace("    annotate(", f"    {limit}    annotate(").replace('"part": 4', '"part": 400'))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, program, corpus.inputs[0], tmp_path / "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert re.search(r"InputError: .*part-00000\.parquet: could not be written: .*File too large", done.stderr), done.stderr[
        -500:
    ]
    assert not (tmp_path / "out" / "part-00000.parquet").exists()


def test_rows_that_cannot_be_used_are_listed_and_empty_ones_counted(tmp_path):
    good = poem(30)
    lines = [json.dumps({"id": f"d{i}", "text": text}).encode() for i, text in enumerate(good)]
    lines[4:4] = [
        b'{"id": "null", "text": null}',
        b'{"id": "number", "text": 5}',
        b'{"id": "list", "text": ["a", 1]}',
        b'{"id": "surrogate", "text": "a\\ud800b"}',
        b'{"id": "bad\\udfffid", "text": "a"}',
        b'{"id": "no text"}',
        b'{"id": {}, "text": "a"}',
        b'{"id": "empty", "text": ""}',
        b'{"id": "nul", "text": "a\\u0000b\\n"}',
        b'{"id": "latin", "text": "caf\xe9"}',
        b'{"id": "torn", "te',
        b"[1]",
        b"",
    ]
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    summary = annotate(config.Corpus(inputs=[str(path)]), options(max_failures=1.0), tmp_path / "out")
    assert summary.empty == 1
    assert summary.documents == 31
    reasons = {each["id"]: each["reason"] for each in quarantine(tmp_path / "out")}
    assert len(reasons) == summary.failed == 10
    assert reasons["null"] == f"'text' is null, expected a string ({path}, line 5)"
    assert reasons["number"] == f"'text' is of type int, expected a string ({path}, line 6)"
    assert "lone surrogate" in reasons["surrogate"]
    assert "U+D800" in reasons["surrogate"]
    assert "lone surrogate" in reasons["bad?id"]
    assert reasons["no text"] == f"'text' is missing, expected a string ({path}, line 10)"
    assert reasons[f"{path}, line 11"] == "'id' is of type dict, expected a string or an integer"
    assert "not UTF-8: byte 0xe9" in reasons[f"{path}, line 14"]
    assert "not JSON" in reasons[f"{path}, line 15"]
    texts = {document.id: document.text for document in read_annotated(tmp_path / "out")}
    assert texts["nul"] == "a\0b\n"
    assert [texts[f"d{i}"] for i in range(30)] == good


def test_a_document_of_20_mb_is_a_document(tmp_path):
    text = "some words, and a stop. \n" * 840_000
    corpus = corpus_of(tmp_path / "c.jsonl", ["short\n", text, "last\n"])
    summary = annotate(corpus, options(scorer="toy-document", segmenter="lines", timeout=60.0), tmp_path / "out")
    assert summary.segments == 840_002
    assert [len(document.text) for document in read_annotated(tmp_path / "out")] == [6, len(text), 5]


def test_an_empty_corpus_is_an_error(tmp_path):
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(InputError, match="no documents in it"):
        annotate(config.Corpus(inputs=[str(tmp_path / "c.jsonl")]), options(), tmp_path / "out")
    with pytest.raises(InputError, match="only empty ones"):
        annotate(corpus_of(tmp_path / "d.jsonl", ["", ""]), options(), tmp_path / "out2")


def test_progress_counts_up_to_the_whole(tmp_path):
    heard = []
    annotate(corpus_of(tmp_path / "c.jsonl", poem(25)), options(), tmp_path / "out", heard.append)
    done = [progress.done for progress in heard]
    assert done == sorted(done)
    assert all(progress.total in (None, 25) for progress in heard)
    assert (heard[-1].done, heard[-1].total, heard[-1].stage, heard[-1].unit) == (25, 25, "annotate", "documents")


def test_workers_are_spread_over_gpus_if_a_scorer_asks_for_one(monkeypatch):
    def environments(gpus, device="auto", **fields):
        monkeypatch.setattr(resources, "visible_gpus", lambda: gpus)
        scorer = "toy" if device is None else {"name": "toy-device", "device": device}
        return resources.worker_environments(options(scorer=scorer, **fields))

    monkeypatch.setattr(resources, "usable_cores", lambda: 3)
    assert environments([], workers=None) == [{}] * 3
    assert environments(["0", "1"], None, workers=None) == [{}] * 3
    assert environments(["0", "1"], "cpu", workers=None) == [{}] * 3
    both = [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    assert environments(["4", "7"], workers=None) == both
    assert environments(["4", "7"], workers=3) == [*both, both[0]]
    assert environments(["0", "1"], "cuda:1", workers=None) == [{}]
    assert environments([], "cuda:1", workers=2) == [{}, {}]


KILLED = """
import sys
from pathlib import Path
from phf import config
from phf.annotate import annotate
from phf.corpora import Row
options = {"scorer": {"name": "toy", "rest": 0.0005}, "segmenter": "lines", "part": 4, "workers": 2}
if __name__ == "__main__":
    annotate(config.Corpus(inputs=[sys.argv[1]]), config.Annotate(**options), Path(sys.argv[2]))
"""


def run_and_kill(tmp_path, corpus, out, after):
    """Start annotation as a program of its own, kill it without notice, and give whether it was killed in time."""
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, program, corpus.inputs[0], out], env=environment)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0
    return False


def resume_after_kills(tmp_path, kills, seed):
    texts = poem(60)
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    straight = options(scorer={"name": "toy", "rest": 0.0005}, part=4)
    annotate(corpus, straight, tmp_path / "straight")
    start = time.monotonic()
    assert not run_and_kill(tmp_path, corpus, tmp_path / "timed", None)
    length = time.monotonic() - start
    rng = random.Random(seed)
    killed, finished = 0, 0
    for attempt in range(kills):
        out = tmp_path / f"killed-{attempt}"
        while run_and_kill(tmp_path, corpus, out, rng.uniform(0.1, 1.0) * length):
            killed += 1
            whole = parts_of(out)
            assert all(whole[name] == parts_of(tmp_path / "straight")[name] for name in whole)
            if killed % 2:
                break
        annotate(corpus, options(scorer={"name": "toy", "rest": 0.0005}, part=4, workers=2), out)
        assert parts_of(out) == parts_of(tmp_path / "straight")
        assert (out / "quarantine.jsonl").read_bytes() == (tmp_path / "straight" / "quarantine.jsonl").read_bytes()
        assert not list(out.glob(".*.tmp"))
        finished += 1
    return killed, finished


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    _, finished = resume_after_kills(tmp_path, kills=1, seed=1)
    assert finished == 1


@pytest.mark.slow
def test_ten_killed_runs_go_on_to_the_same_bytes(tmp_path):
    killed, finished = resume_after_kills(tmp_path, kills=10, seed=2)
    assert finished == 10
    assert killed >= 5


def test_no_scoring_process_outlives_its_supervisor(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", ["!hang\n"])
    program = tmp_path / "program.py"
    program.write_text(KILLED.replace('"workers": 2', '"workers": 1, "timeout": 2.0'))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, program, corpus.inputs[0], tmp_path / "out"], env=environment)

    def children():
        found = Path(f"/proc/{process.pid}/task").glob("*/children")
        return [int(pid) for path in found for pid in path.read_text().split()]

    deadline = time.monotonic() + 60
    while not children() and time.monotonic() < deadline:
        time.sleep(0.05)
    child = children()[0]
    process.kill()
    process.wait()
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a thread looks for the parent")
def test_a_scoring_process_whose_supervisor_is_gone_ends_before_it_imports_what_scorers_need():
    gone = "1234567"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", _START, "0", gone, *sys.path], capture_output=True, text=True
    )
    assert done.returncode == 128 + signal.SIGKILL
    assert "phf.processes" in done.stderr
    assert "numpy" not in done.stderr
