"""What the annotation engine gives: two workers against one, memory at ten times the corpus, sentences against plain spaCy."""

import gzip
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import spacy

from annotation import Rows, documentation, interleaved, row
from phf import config
from phf.annotate import annotate
from phf.corpora import PythonSource
from phf.segmenters import Sentences
from phf.tokens import train_tokenizer

REPEATS = 2
WORKERS_CHARACTERS = 8_000_000
MEMORY_CHARACTERS = 3_000_000
SHARD_TOKENS = 2**19
SENTENCES_CHARACTERS = 3_000_000


def written(texts, path):
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    return config.Corpus(inputs=[str(path)])


def rate(moments, out, first):
    """Documents a second, from when the first parts are written: by then every process is up and has loaded its scorer."""
    written_at = max((out / f"part-{part:05d}.parquet").stat().st_mtime for part in range(first))
    start, before = next((moment, done) for moment, done in moments if moment >= written_at)
    end, after = moments[-1]
    return (after - before) / (end - start)


def workers(data: Path) -> Rows:
    """Documents a second of two workers against one, on Python source scored by pycodestyle."""
    with tempfile.TemporaryDirectory() as name:
        yield from of_workers(Path(name))


def of_workers(folder):
    source = [text for _, text in PythonSource(limit_characters=WORKERS_CHARACTERS, max_characters=20_000).texts()]
    corpus = written(source, folder / "workers.jsonl.gz")
    best = {1: 0.0, 2: 0.0}
    for repeat in range(REPEATS):
        for count in best:
            options = config.Annotate(scorer={"name": "pep8"}, segmenter={"name": "lines"}, workers=count, part=25)
            moments = []
            out = folder / f"workers-{count}-{repeat}"
            annotate(corpus, options, out, lambda at, to=moments: to.append((time.time(), at.done)))
            best[count] = max(best[count], rate(moments, out, count))
    yield row("workers: 2 against 1, pep8", best[2] / best[1], "x", f"1 worker, {len(source):,} files", ">= 1.8")
    yield row("workers: 1, pep8", best[1], "documents/s")


def memory(data: Path) -> Rows:
    """Peak of anonymous memory of all processes together, at a corpus and at one ten times as large: annotating, tokenising."""
    with tempfile.TemporaryDirectory() as name:
        yield from of_memory(Path(name))


# A shard of 64 million tokens is held in memory; smaller ones, so that both corpora fill several.
TOKENIZE = f"import phf.tokenize; phf.tokenize._SHARD_TOKENS = {SHARD_TOKENS}; from phf.cli import main; main()"


def of_memory(folder):
    texts = documentation(MEMORY_CHARACTERS)
    train_tokenizer(texts, 4096).save_pretrained(folder / "tokenizer")
    peaks, seconds = {}, {}
    for times in (3, 30):
        written((f"{i} {text}" for i in range(times) for text in texts), folder / f"memory-{times}.jsonl.gz")
        annotated, tokens = str(folder / f"annotated-{times}"), str(folder / f"tokens-{times}")
        scorer = 'annotate.scorer={name: regex, patterns: ["bad|worse"]}'
        changes = [scorer, "annotate.segmenter={name: lines}", "annotate.workers=2", "annotate.part=500"]
        annotate_it = ["annotate", str(folder / f"memory-{times}.jsonl.gz"), "--out", annotated, *changes]
        peaks["annotate", times], seconds["annotate", times] = peak_memory(["-m", "phf", *annotate_it])
        changes = [f"tokenize.tokenizer={folder / 'tokenizer'}", "tokenize.workers=2"]
        peaks["tokenize", times], seconds["tokenize", times] = peak_memory(
            ["-c", TOKENIZE, "tokenize", annotated, "--out", tokens, *changes]
        )
    for stage in ("annotate", "tokenize"):
        against = f"a corpus of {3 * sum(map(len, texts)):,} characters ({peaks[stage, 3] / 2**20:.0f} MiB)"
        if stage == "tokenize":
            against += f"; shards of {SHARD_TOKENS:,} tokens"
        what = f"memory: {stage}, corpus 10 times as large"
        yield row(what, peaks[stage, 30] / peaks[stage, 3], "x", against, "<= 1.1")
        yield row(what, peaks[stage, 30] / 2**20, "MiB of RssAnon, all processes")
        against = f"a corpus of {3 * sum(map(len, texts)):,} characters ({seconds[stage, 3]:.1f} s)"
        yield row(f"memory: {stage}, time of a corpus 10 times as large", seconds[stage, 30] / seconds[stage, 3], "x", against)


def peak_memory(arguments):
    """Peak of anonymous memory of a Python process and all its descendants together, looked at every 20 ms; and its seconds."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        drain = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        errors = []
        drain.start()
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous, family(process.pid))))
            time.sleep(0.02)
        drain.join()
    if process.returncode:
        raise RuntimeError(f"{arguments}: ended with {process.returncode}: {errors[0].decode()[-500:]}")
    return peak, time.perf_counter() - start


def family(pid):
    """Yield a process and its descendants."""
    yield pid
    try:
        children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    except OSError:
        return
    for child in children:
        yield from family(child)


def anonymous(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.split("RssAnon:")[1].split()[0]) if "RssAnon:" in status else 0


def sentences(data: Path) -> Rows:
    """Characters a second of the segmenter against spaCy's own way, nlp.pipe, on the same documents."""
    texts = documentation(SENTENCES_CHARACTERS)
    size = sum(map(len, texts)) / 1e6
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    segmenter = Sentences()
    ways = {
        "ours": lambda: [segmenter.segment(text) for text in texts],
        "spaCy": lambda: [[sentence.text_with_ws for sentence in document.sents] for document in pipeline.pipe(texts)],
    }
    best = interleaved(ways, REPEATS)
    yield row("sentences", best["spaCy"] / best["ours"], "x", "spaCy's nlp.pipe")
    yield row("sentences", size / best["ours"], "MB/s")
