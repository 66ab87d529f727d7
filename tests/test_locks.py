"""One process works on a folder at a time, and the second one is told which."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phf.errors import InputError
from phf.locks import LOCK, OWNER, InUse, exclusive, locks_output, owner

HOLD = """
import sys
from pathlib import Path
from phf.locks import exclusive
with exclusive(Path("work"), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait(timeout=30)


def test_a_second_process_is_told_who_works_there(tmp_path):
    process = holder(tmp_path)
    try:
        said = rf"work: `phf train` \(process {process.pid} of .+ on .+, since 20..-.+\) is at work"
        with pytest.raises(InUse, match=said), exclusive(tmp_path / "work", "evaluate"):
            pass
        assert owner(tmp_path / "work")["pid"] == process.pid
    finally:
        assert end(process) == 0
    assert not (tmp_path / "work").exists(), "nothing was written, so nothing is left"
    with exclusive(tmp_path / "work", "evaluate"):
        assert json.loads((tmp_path / "work" / OWNER).read_text())["task"] == "evaluate"


def test_the_lock_of_a_killed_process_is_free(tmp_path, caplog):
    process = holder(tmp_path)
    process.kill()
    end(process)
    assert (tmp_path / "work" / OWNER).exists()
    assert owner(tmp_path / "work") is None
    with caplog.at_level("INFO", "phf"), exclusive(tmp_path / "work", "train"):
        (tmp_path / "work/result").touch()
    assert f"`phf train` (process {process.pid} on " in caplog.text
    assert os.listdir(tmp_path / "work") == ["result"]


def test_a_lock_is_released_after_an_error_and_one_folder_does_not_lock_another(tmp_path):
    b, a, c = (exclusive(tmp_path / name, "train") for name in ("a/b", "a", "a/c"))
    with pytest.raises(ZeroDivisionError), b, a, c:
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file; expected a folder"), exclusive(tmp_path / "file", "run"):
        pass
    below = pytest.raises(InputError, match="file/work: a part of this path is a file; expected a folder")
    with below, exclusive(tmp_path / "file/work", "run"):
        pass


def test_many_processes_enter_one_by_one(tmp_path):
    program = (
        "from pathlib import Path; from phf.locks import InUse, exclusive\n"
        "for turn in range(40):\n"
        "    try:\n"
        "        with exclusive(Path('work'), 'train'):\n"
        "            Path('inside').touch(exist_ok=False); Path('inside').unlink()\n"
        "    except InUse: pass\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        assert process.communicate(timeout=60)[1] == ""
    assert not (tmp_path / "inside").exists()
    assert owner(tmp_path / "work") is None


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    """`Path.mkdir` finds a folder there, and then, looking whether it is one, finds nothing."""
    mkdir, failures = Path.mkdir, [FileExistsError, FileExistsError]

    def removed_at_once(path, *arguments, **options):
        if path == tmp_path / "work" and failures:
            raise failures.pop()
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", removed_at_once)
    with exclusive(tmp_path / "work", "train"):
        assert owner(tmp_path / "work")["task"] == "train"
    assert not failures


def test_a_folder_that_is_removed_after_the_first_look_at_it_is_made_again(tmp_path, monkeypatch):
    """Another process works there, writes nothing, and removes it as it ends."""
    folder, stat, looks = tmp_path / "work", Path.stat, []
    folder.mkdir()

    def removed_after(path, **options):
        seen = stat(path, **options)
        if path == folder and not looks:
            looks.append(path)
            folder.rmdir()
        return seen

    monkeypatch.setattr(Path, "stat", removed_after)
    with exclusive(folder, "train"):
        assert owner(folder)["task"] == "train"
    assert looks


def test_a_stage_locks_its_output_and_other_ranks_do_not(tmp_path, monkeypatch):
    @locks_output("train")
    def stage(corpus, out):
        """Do the work."""
        return (out / LOCK).exists()

    assert stage("corpus", tmp_path / "work") is True
    assert stage(out=tmp_path / "work", corpus="corpus") is True
    assert stage.__doc__ == "Do the work."
    monkeypatch.setenv("RANK", "1")
    (tmp_path / "work").mkdir()
    assert stage("corpus", tmp_path / "work") is False


@pytest.mark.parametrize("command", ["annotate", "tokenize", "train", "evaluate", "redteam", "run", "report"])
def test_every_command_that_writes_refuses_a_folder_in_use(tmp_path, command):
    from support import tiny_corpora as tiny

    store = tiny.token_store(tmp_path / "made")
    (tmp_path / "recipe.yaml").write_text("runs: {mle: mle}\ncorpus: {inputs: [x.jsonl]}\ntrain: {tokens: 1M}\nevaluate: {}")
    (tmp_path / "x.jsonl").write_text('{"text": "One. Two."}\n')
    arguments = {
        "annotate": ["x.jsonl", "--scorer", "regex", 'annotate.scorer.patterns=["x"]', "--out", "work"],
        "tokenize": [str(tmp_path / "made/annotated"), "--out", "work"],
        "train": [str(store), "--objective", "mle", "--out", "work", "train.tokens=1M"],
        "evaluate": ["somewhere", "--annotated", str(tmp_path / "made/annotated"), "--out", "work"],
        "redteam": ["somewhere", "--annotated", str(tmp_path / "made/annotated"), "--out", "work", "--prompts", "x.jsonl"],
        "run": ["recipe.yaml", "--out", "work", "evaluate.evaluations={heldout: heldout}"],
        "report": ["somewhere", "--out", "work"],
    }[command]
    process = holder(tmp_path)
    before = sorted(os.listdir(tmp_path / "work"))
    try:
        done = subprocess.run([sys.executable, "-m", "phf", command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    finally:
        end(process)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("phf: error: ")]
    assert len(lines) == 1, done.stderr
    assert re.search(rf"work: `phf train` \(process {process.pid} of .* is at work", lines[0]), done.stderr
    assert before == sorted([LOCK, OWNER])


def test_where_the_file_system_has_no_locks_a_file_takes_their_place(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = (exclusive(tmp_path / "work", "train") for _ in range(2))
    with pytest.warns(UserWarning, match="flock not supported"):
        first.__enter__()
    with pytest.raises(InUse, match="`phf train`"), second:
        pass
    first.__exit__(None, None, None)
    assert not (tmp_path / "work").exists()


def test_a_lock_that_a_dying_child_still_holds_is_waited_for(tmp_path):
    program = (
        "import os, subprocess, sys\nfrom pathlib import Path\nfrom phf.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'annotate'):\n"
        "    handles = [int(name) for name in os.listdir('/proc/self/fd')]\n"
        "    held = [h for h in handles if os.path.realpath(f'/proc/self/fd/{h}').endswith('.lock')]\n"
        "    subprocess.Popen(['sleep', '1'], pass_fds=held)\n"
        "    os._exit(9 if held else 1)\n"
    )
    out = tmp_path / "out"
    assert subprocess.Popen([sys.executable, "-c", program, str(out)]).wait(60) == 9  # its child is still there
    with exclusive(out, "annotate"):
        pass
