"""What the annotation engine gives: two workers against one, memory at ten times the corpus, sentences against plain spaCy."""

import gzip
import json
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

REPEATS = 2
WORKERS_CHARACTERS = 8_000_000
MEMORY_CHARACTERS = 3_000_000
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
    """Highest memory of the process and of its workers together, at a corpus and at one ten times as large."""
    with tempfile.TemporaryDirectory() as name:
        yield from of_memory(Path(name))


def of_memory(folder):
    texts = documentation(MEMORY_CHARACTERS)
    peaks, seconds = {}, {}
    for times in (3, 30):
        corpus = written((f"{i} {text}" for i in range(times) for text in texts), folder / f"memory-{times}.jsonl.gz")
        options = config.Annotate(
            scorer={"name": "regex", "patterns": ["bad|worse"]}, segmenter={"name": "lines"}, workers=2, part=500
        )
        with Watch() as watch:
            start = time.perf_counter()
            annotate(corpus, options, folder / f"memory-{times}")
        peaks[times], seconds[times] = watch.peak, time.perf_counter() - start
    against = f"a corpus of {3 * sum(map(len, texts)):,} characters"
    yield row("memory: corpus 10 times as large", peaks[30] / peaks[3], "x", against, "<= 1.1")
    yield row("memory: corpus 10 times as large", peaks[30] / 2**20, "MiB")
    yield row(
        "memory: time of a corpus 10 times as large", seconds[30] / seconds[3], "x", f"{against} ({seconds[3]:.1f} s)", "<= 11"
    )


class Watch:
    """Sees the resident memory of this process and its children, twenty times a second."""

    def __enter__(self):
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.05):
            children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
            self.peak = max(self.peak, sum(map(resident, ["self", *children])))


def resident(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


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
