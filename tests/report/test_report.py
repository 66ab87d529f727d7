"""The report, on made-up run folders: every number and text here is synthetic and measures nothing."""

import csv
import itertools
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from phf import config, per_example
from phf.errors import InputError
from phf.layout import RunFolder
from phf.records import Record, Stamp
from phf.report import figures, metrics, palette, plots, report, shapes
from phf.report import samples as packing
from phf.report.comparison import frontier
from phf.report.differences import difference
from phf.report.run_files import read_runs

STAMP = Stamp("2026-11-22T12:00:00+00:00", "0123456789ab", "Synthetic CPU, 2 cores, Linux", {"phf": "0.1.0"}, "phf evaluate")
FINDING = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string())]))
OBJECTIVES = {
    # name: (share of samples with a finding, by scenario; bits per byte)
    "mle": ((0.016, 0.02, 0.21), 2.207),
    "filtering": ((0.009, 0.012, 0.16), 2.268),
    "conditional": ((0.001, 0.002, 0.03), 2.216),
    "unlikelihood": ((0.006, 0.009, 0.12), 2.231),
    "rwr": ((0.015, 0.019, 0.2), 2.212),
    "awr": ((0.014, 0.017, 0.19), 2.209),
}
SCENARIOS = ("no-prompt", "neutral", "adversarial")
FIELDS = {"conditional": {"threshold": 0.0, "drop": 0.01}, "filtering": {"threshold": "p50"}, "rwr": {"beta": 10.0}}
NASTY = ["</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "a & b \u2028 ]]> {{ 1 }}"]


def make_run(folder: Path, objective: str, n: int = 400, steps=(100, 200), scorer="pii", prompts=40, **train) -> Path:
    rng = np.random.default_rng(len(objective) + 7 * list(OBJECTIVES).index(objective))
    shares, bits = OBJECTIVES[objective]
    control = ["<|aligned|>", "<|misaligned|>"] if objective == "conditional" else []
    folder.mkdir(parents=True)
    resolved = {
        "name": folder.name,
        "objective": {"name": objective, **FIELDS.get(objective, {})},
        "train": {"model": "gpt2-2m", "tokens": 3_700_000, "context": 256, "lr": 1e-3, "seed": 0, **train},
        "tokens": {
            "corpus": {
                "corpus": {"inputs": [], "source": {"name": "python-docs"}},
                "annotate": {"segmenter": {"name": "sentences"}, "scorer": {"name": scorer}},
                "inputs": "00ff",
            },
            "tokenize": {"vocab_size": 1024},
            "tokens": 9_000_000,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(0, 201, 1):
            nll = bits + 4.8 * math.exp(-step / 22) + 0.9 * math.exp(-step / 120) + rng.normal(0, 0.035)
            loss = nll * {"awr": 0.5, "rwr": 0.98, "unlikelihood": 1.03}.get(objective, 1.0)
            line = {"step": step, "tokens": step * 18_500, "seconds": step * 3.3, "lr": 1e-3, "loss": loss, "nll": nll}
            file.write(json.dumps({**line, "grad_norm": 1.0, "tokens_per_second": 5600 * rng.normal(1, 0.02)}) + "\n")
    for step in steps:
        checkpoint = folder / "checkpoints" / f"step-{step}"
        checkpoint.mkdir(parents=True)
        about = {"run": folder.name, "step": step, "tokens": step * 18_500, "objective": resolved["objective"]}
        (checkpoint / "phf.json").write_text(json.dumps({**about, "control_tokens": control, "segmenter": "sentences"}))
        header = json.dumps({"wte": {"dtype": "F32", "shape": [1024, 2050], "data_offsets": [0, 0]}}).encode()
        (checkpoint / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    records = []
    for step in steps:
        late = 1 if step == steps[-1] else 1.4
        for metric, more in (("bits_per_byte", 0.006), ("bits_per_byte_aligned", 0.0), ("bits_per_byte_misaligned", 0.4)):
            records.append(record(folder.name, step, "heldout", metric, (bits + more) * (1 + (late - 1) / 4), 0.011, 612))
        for scenario, share in zip(SCENARIOS, shares, strict=True):
            for evaluation, chance in ((scenario, share * late), *([(f"{scenario}@misaligned", 0.46)] if control else [])):
                records += sample(folder, evaluation, step, chance, n, rng, prompts)
    (folder / "records.jsonl").write_text("".join(r.to_json() + "\n" for r in records))
    return folder


def record(run, step, evaluation, metric, value, stderr, n):
    return Record(run, step, evaluation, metric, value, stderr, n, STAMP)


def sample(folder, evaluation, step, chance, n, rng, prompts):
    """Write a samples file and give its records."""
    words = re.findall(r"\w+", "the function returns a list of values from each object when called with arguments and raises")
    columns: dict[str, list] = {name: [] for name in ("prompt", "text", "finished", "scored", "misalignment", "findings")}
    for index in range(n):
        text = " " + " ".join(rng.choice(words, rng.integers(14, 70))).capitalize() + "."
        findings = []
        if index < len(NASTY):
            text = NASTY[index] + text
        if rng.random() < chance:
            address = f"made.up{index}@example.org"
            start = len(text) + 10
            text += f" 🐍 Mail to {address} 🐍 for more. "
            start = text.index(address)
            findings = [{"start": start, "end": start + len(address), "kind": "email"}]
        finished = bool(rng.random() < 0.7)
        scored = text
        if index == 5 and chance < 0.01:
            findings, scored = [], None
        if not finished:
            text += " And then it was cut"
        prompt = "" if "no-prompt" in evaluation else f"Synthetic prompt {index % prompts}: see"
        row = (prompt, text, finished, scored, len(findings) / len(scored) if scored else math.nan, findings)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    table = pa.table({**columns, "findings": pa.array(columns["findings"], FINDING)})
    (folder / "samples").mkdir(exist_ok=True)
    pq.write_table(table, folder / "samples" / f"{evaluation}-step-{step}.parquet")
    scores = np.array(columns["misalignment"])
    unscored, scores = float(np.isnan(scores).mean()), scores[~np.isnan(scores)]
    means = scores[rng.integers(len(scores), size=(500, len(scores)))].mean(1)
    hits = float((scores > 0).mean())
    numbers = {
        "misalignment": scores.mean(),
        "misalignment.low": np.percentile(means, 2.5),
        "misalignment.high": np.percentile(means, 97.5),
        "misalignment_with_cut": scores.mean() * 1.02,
        "expected_max_25": np.sort(scores)[-n // 25 :].mean(),
        "expected_max_25.low": np.sort(scores)[-n // 25 :].mean() * 0.8,
        "expected_max_25.high": np.sort(scores)[-n // 25 :].mean() * 1.2,
        "hit_share": hits,
        "hit_share.low": max(hits - 1.96 * math.sqrt(hits / n), 0),
        "hit_share.high": hits + 1.96 * math.sqrt(hits / n) + 4 / n,
        "finished_share": float(np.mean(columns["finished"])),
        "unscored_share": unscored,
    }
    spread = {"misalignment": scores.std() / math.sqrt(n), "hit_share": math.sqrt(hits * (1 - hits) / n)}
    return [record(folder.name, step, evaluation, m, float(v), spread.get(m, math.nan), n) for m, v in numbers.items()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / name, name) for name in OBJECTIVES]


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory) -> Path:
    return report(runs, tmp_path_factory.mktemp("report")).parent


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures out, where a test is not about them."""
    monkeypatch.setattr(
        figures,
        "draw",
        lambda *_: dict.fromkeys(["pareto", "scenarios", "scores", "training", "course", "attack", "guided", "control"]),
    )


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def samples(self) -> dict:
        return json.loads(self.scripts[0])


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def numbers(out: Path) -> dict[tuple[str, str, str], dict]:
    return {
        (row["run"], row["evaluation"], row["metric"]): row for row in json.loads((out / "report.json").read_text())["numbers"]
    }


def test_the_page_says_what_is_compared_and_shows_every_run(out):
    page = read(out / "index.html")
    for words in (
        "Six training objectives compared on the corpus python-docs",
        "2.1M parameters, 3.7M training tokens each, 400 samples in each scenario",
        "pieces of personal data per 1,000 characters, by the scorer pii",
        "0123456789ab",
        "2026-11-22",
        "Synthetic CPU, 2 cores, Linux",
        "(↓\xa0lower\xa0is\xa0better)".replace("\xa0", " "),
        "(← lower is better)",
        "Misalignment against capability cost",
        "Loss, likelihood and speed",
        "The same model under each control token",
        "<|misaligned|>",
        "n = 400 (no prompt)",
        "2.207",  # bits per byte of mle
        "[2.185, 2.229]",
        "Δ +0.061 [+0.031, +0.091]",  # filtering against mle: 0.022 * sqrt(2) to either side
        "0 of 1,200",  # unscored
        "1 of 1,200",
    ):
        assert words in page.text, words
    for name in OBJECTIVES:
        assert page.text.count(name) > 5


def test_the_page_asks_nothing_of_the_network(out):
    html = (out / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "image"})
    for _, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
                assert re.match(r"#|report\.(csv|json)$|\.\./.*/records\.jsonl$", value), (name, value)
    styles = " ".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL) + [a.get("style", "") for _, a in page.elements])
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", styles))


def test_ids_are_unique_and_what_is_referred_to_exists(out):
    page = read(out / "index.html")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")}
    assert targets
    assert targets <= set(ids)


def test_samples_cannot_break_out_of_the_page(out):
    page = read(out / "index.html")
    assert [tag for tag, _ in page.elements].count("script") == len(page.scripts) == 2
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    assert "hacked" not in page.scripts[1] + page.text
    texts = [row[3] for row in page.samples()["rows"]]
    for nasty in NASTY:
        assert any(text.startswith(nasty) for text in texts)


def test_names_titles_and_configurations_are_escaped(tmp_path, undrawn):
    run = make_run(tmp_path / "</script><b>bold", "mle", n=20, note="</pre><script>window.hacked=1</script>")
    page = read(report([run], tmp_path / "out", config.Report(title="<img src=x onerror=alert(1)> & co")))
    assert {"img", "b"}.isdisjoint(tag for tag, _ in page.elements)
    assert len(page.scripts) == 2
    assert "<img src=x onerror=alert(1)> & co" in page.text
    assert "window.hacked=1" in page.text


def test_the_same_runs_give_the_same_bytes(runs, out, tmp_path):
    report(runs, tmp_path)
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert Path("figures/pareto.svg") in files
    for name in files:
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_figures_are_files_of_their_own(out):
    for path in (out / "figures").iterdir():
        ElementTree.parse(path)
        assert "var(--" not in path.read_text()
    assert "unlikelihood" in (out / "figures" / "pareto.svg").read_text()


def test_json_and_csv_hold_the_records(runs, out):
    given_numbers = numbers(out)
    for path in runs:
        found = [json.loads(line) for line in (path / "records.jsonl").open()]
        last = {(r["evaluation"], r["metric"]): r for r in found if r["step"] == 200}
        for (evaluation, metric), found in last.items():
            if not metric.endswith((".low", ".high")):
                row = given_numbers[path.name, evaluation, metric]
                assert (row["value"], row["stderr"], row["n"], row["step"]) == (found["value"], found["stderr"], found["n"], 200)
                if f"{metric}.low" in {m for _, m in last}:
                    assert row["low"] == last[evaluation, f"{metric}.low"]["value"]
    with (out / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(given_numbers)
    for row in rows:
        as_json = given_numbers[row["run"], row["evaluation"], row["metric"]]
        assert row["value"] == ("" if as_json["value"] is None else str(as_json["value"]))
    assert given_numbers["mle", "no-prompt", "misalignment"]["difference"] is None
    assert given_numbers["conditional", "no-prompt", "misalignment"]["difference_how"] == "", "not one sample had a finding"
    assert given_numbers["awr", "no-prompt", "misalignment"]["difference_how"] == "independent"
    assert given_numbers["conditional", "neutral", "misalignment"]["difference_how"] == "paired by prompt"
    assert given_numbers["conditional", "heldout", "bits_per_byte"]["difference_how"] == "independent"


def test_unknown_is_not_measured_and_never_zero(tmp_path, undrawn):
    run = make_run(tmp_path / "mle", "mle", n=20)
    with (run / "records.jsonl").open("a") as file:
        file.write(record("mle", 200, "heldout", "bits_per_byte_aligned", math.nan, math.nan, 0).to_json() + "\n")
    page = report([run], tmp_path / "out")
    row = numbers(page.parent)["mle", "heldout", "bits_per_byte_aligned"]
    assert row["value"] is row["low"] is row["stderr"] is None
    assert "not measured" in read(page).text
    assert not re.search(r"\bnan\b", read(page).text, re.IGNORECASE)


def sweep(run: Path, gammas=(1, 2, 5), step=200, documents=612) -> None:
    """Add records of guided decoding, the last gamma far off; by default on as many documents as those of held-out text."""
    lines = []
    for gamma in gammas:
        bits = OBJECTIVES["conditional"][1] + 0.02 * (gamma - 1) ** 2
        numbers = {
            "misalignment": 1e-4 / gamma, "misalignment.low": 5e-5 / gamma, "misalignment.high": 2e-4 / gamma,
            "hit_share": 0.01 / gamma, "finished_share": 0.7, "unscored_share": 0.0, "bits_per_byte_aligned": bits,
        }  # fmt: skip
        for name, value in numbers.items():
            count = documents if name.startswith("bits") else 300
            lines.append(record(run.name, step, f"steer@gamma={gamma}", name, value, 0.011, count))
    with (run / "records.jsonl").open("a") as file:
        file.write("".join(line.to_json() + "\n" for line in lines))


def test_guided_decoding_is_a_path_in_the_trade_off_a_figure_and_a_table(tmp_path):
    made = [make_run(tmp_path / name, name, n=60) for name in ("mle", "conditional")]
    sweep(made[1])
    page = read(report(made, tmp_path / "out"))
    figures_of = {name: (tmp_path / "out" / "figures" / f"{name}.svg").read_text() for name in ("pareto", "guided")}
    assert "γ 2" in figures_of["pareto"]
    assert "γ 5" not in figures_of["pareto"]  # so far off that the runs could not be told apart
    assert "γ 5" in figures_of["guided"]
    assert "shown under “Steering”: γ 5." in page.text
    assert "conditional, γ = 5" in page.text.replace("\xa0", " ")
    assert "Steer" not in page.text.replace("Steering", "")  # no scenario of its own, only a note of the measure's name
    rows = numbers(tmp_path / "out")
    assert rows["conditional", "steer@gamma=2", "misalignment"]["value"] == 5e-5
    assert not (tmp_path / "out" / "figures" / "steer.svg").exists()
    (found,) = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    found = found.replace("\xa0", " ")
    assert found.endswith("Guided, conditional gives 0.050 [0.025, 0.100] at γ = 2 and 0.020 [0.010, 0.040] at γ = 5.")
    assert found in page.text.replace("\xa0", " "), "the words of the page"


def test_what_guided_decoding_gives_is_said_where_no_run_is_below_mle_too(tmp_path):
    made = [make_run(tmp_path / name, name, n=60) for name in ("mle", "conditional")]
    records = made[1] / "records.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    for line in lines:
        line["value"] *= 100 if line["metric"] == "misalignment" else 1
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sweep(made[1], gammas=(2,))
    report(made, tmp_path / "out")
    (found,) = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    expected = r"No run is below mle, \S+ .*, in the scenario “no prompt”\. Guided, conditional gives \S+ .* at γ = 2\."
    assert re.fullmatch(expected, found.replace("\xa0", " ")), found


def test_guided_decoding_from_other_prompts_is_not_set_against_the_runs(tmp_path):
    made = [make_run(tmp_path / name, name, n=60) for name in ("mle", "conditional")]
    sweep(made[1], gammas=(2,))
    fields = {"no-prompt": {"name": "samples", "prompts": ["Contact:"]}, "steer@gamma=2": {"name": "steer", "gammas": [2]}}
    entries = {f"conditional step 200 {name}": {"evaluation": one} for name, one in fields.items()}
    (made[1] / "evaluations.json").write_text(json.dumps(entries))
    page = read(report(made, tmp_path / "out"))
    assert "γ 2" not in (tmp_path / "out" / "figures" / "pareto.svg").read_text()
    assert "Guided decoding of conditional (steer) has other prompts than “no prompt”, so it is in its table alone" in page.text
    assert "conditional, γ = 2" in page.text.replace("\xa0", " ")
    (found,) = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    assert "Guided" not in found


def test_guided_decoding_on_other_documents_is_not_set_against_the_runs(tmp_path):
    made = [make_run(tmp_path / name, name, n=60) for name in ("mle", "conditional")]
    sweep(made[1], documents=100)
    page = read(report(made, tmp_path / "out", markdown=tmp_path / "claims.md"))
    assert "γ 2" not in (tmp_path / "out" / "figures" / "pareto.svg").read_text()
    assert "conditional, γ = 2" in page.text.replace("\xa0", " "), "in the table"
    claims = (tmp_path / "claims.md").read_text().replace("\xa0", " ")
    (line,) = [line for line in claims.splitlines() if line.startswith("| held-out") and "γ = 2" in line]
    assert "not compared: of other documents" in line


def test_every_capability_measure_has_a_plane_and_a_curve(tmp_path):
    made = [make_run(tmp_path / name, name, n=40) for name in ("mle", "conditional")]
    for run in made:
        with (run / "records.jsonl").open("a") as file:
            for step in (100, 200):
                for evaluation, metric, value in (
                    ("kl", "kl", 30.0), ("kl", "kl_per_token", 0.9), ("kl", "kl_per_byte", 0.3), ("zeroshot", "lambada.acc", 0.2),
                    ("finetune", "cola.mcc", 0.1), ("finetune", "score", 0.6), ("heldout", "bits_per_byte_start", 3.0),
                ):  # fmt: skip
                    file.write(record(run.name, step, evaluation, metric, value, 0.01, 50).to_json() + "\n")
    report(made, tmp_path / "out")
    planes, curves = ((tmp_path / "out" / "figures" / f"{name}.svg").read_text() for name in ("scenarios", "course"))
    for svg in (planes, curves):
        plain = " ".join(re.sub(r"<[^>]+>", " ", svg).split()).replace("\xa0", " ").lower()
        for words in ("nats per token", "lambada acc", "mean score of finetuning", "held-out text"):
            assert words in plain, words
        for words in ("cola", "nats per byte", "at its start only"):
            assert words not in plain, words
        assert "higher is better" in plain


@pytest.mark.parametrize("train", [{"init": {"run": "mle", "at": "50%"}}, {"model": "from:runs/mle"}])
def test_finetuning_is_marked(tmp_path, undrawn, train):
    made = [make_run(tmp_path / "mle", "mle", n=20), make_run(tmp_path / "late", "conditional", n=20, **train)]
    assert [run.finetuned for run in read_runs(made)] == [False, True]
    assert "finetuned · conditional" in read(report(made, tmp_path / "out")).text


def test_tokens_of_a_checkpoint_between_two_lines_of_the_log_are_known(tmp_path):
    run = make_run(tmp_path / "mle", "mle", n=20)
    lines = [line for line in (run / "metrics.jsonl").read_text().splitlines(keepends=True) if '"step": 100,' not in line]
    (run / "metrics.jsonl").write_text("".join(lines))
    assert read_runs([run])[0].tokens_at[100] == 100 * 18_500


def test_the_numbers_can_be_printed(tmp_path, undrawn, capsys):
    from phf.cli import main

    run = make_run(tmp_path / "mle", "mle", n=20)
    for flag, name in (("--json", "report.json"), ("--csv", "report.csv")):
        with pytest.raises(SystemExit):
            main(["report", str(run), "--out", str(tmp_path / "out"), "--quiet", flag])
        assert capsys.readouterr().out == (tmp_path / "out" / name).read_text()


def test_a_run_is_shown_with_what_it_has(tmp_path, runs):
    for name in ("bare", "unmeasured", "unsampled"):
        make_run(tmp_path / name, "filtering", n=20)
    for part in ("records.jsonl", "metrics.jsonl", "samples", "checkpoints"):
        remove(tmp_path / "bare" / part)
    remove(tmp_path / "unmeasured" / "records.jsonl")
    remove(tmp_path / "unsampled" / "samples")
    page = read(report([runs[0], *(tmp_path / name for name in ("bare", "unmeasured", "unsampled"))], tmp_path / "out"))
    assert "bare: no checkpoint, no training curve (metrics.jsonl), no measurements" in page.text
    assert "unsampled: no samples." in page.text
    assert "Not shown, not measured: bare, unmeasured." in page.text
    assert page.text.count("not measured") >= 8


def test_one_run_alone(tmp_path):
    page = read(report([make_run(tmp_path / "only", "conditional", n=30)], tmp_path / "out"))
    assert "One training objective measured on the corpus python-docs" in page.text
    assert "Δ" not in page.text
    assert "The same model under each control token" in page.text


def test_a_config_alone_is_a_run(tmp_path):
    run = tmp_path / "begun"
    run.mkdir()
    (run / "config.yaml").write_text("objective: {name: rwr, beta: 1.0}\n")
    page = read(report([run], tmp_path / "out"))
    assert "begun: no checkpoint" in page.text
    assert "No run has both measures" in page.text


def test_runs_of_other_tasks_are_compared_apart(tmp_path, undrawn):
    runs = [
        make_run(tmp_path / f"{scorer}-{o}", o, n=20, scorer=scorer) for scorer in ("pii", "toxicity") for o in ("mle", "awr")
    ]
    page = read(report(runs, tmp_path / "out"))
    assert "These runs belong to 2 tasks" in page.text
    assert page.text.count("What alignment costs") == 2
    assert "probability of toxicity" in page.text
    rows = numbers(tmp_path / "out")
    assert len({row["task"] for row in rows.values()}) == 2
    assert rows["toxicity-awr", "heldout", "bits_per_byte"]["difference"] == pytest.approx(
        OBJECTIVES["awr"][1] - OBJECTIVES["mle"][1]
    )
    assert ("input", {"name": "blur", "type": "checkbox", "checked": None}) in page.elements


def test_runs_that_differ_in_more_than_the_objective_are_flagged(tmp_path, undrawn):
    runs = [make_run(tmp_path / "a", "mle", n=20), make_run(tmp_path / "b", "awr", n=20, lr=5e-4)]
    page = read(report(runs, tmp_path / "out"))
    assert "Runs differ in more than the objective: train.lr" in page.text


def test_runs_of_one_name_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        make_run(tmp_path / folder / "mle", "mle", n=20, steps=(200,))
    folders = [tmp_path / "x" / "mle", tmp_path / "y" / "mle", tmp_path / "x" / "mle"]
    assert [run.name for run in read_runs(folders)] == ["x/mle", "y/mle"]


def test_a_torn_last_line_is_skipped_and_a_broken_line_named(tmp_path):
    run = make_run(tmp_path / "mle", "mle", n=20)
    whole = read_runs([run])[0]
    for name in ("records.jsonl", "metrics.jsonl"):
        path = run / name
        text = path.read_text()
        path.write_text(text + '{"step": 300, "tok')
        torn = read_runs([run])[0]
        assert (len(torn.records), len(torn.metrics)) == (len(whole.records), len(whole.metrics))
        path.write_text(text + "{broken}\n" + text)
        with pytest.raises(InputError, match=rf"{name}, line {text.count(chr(10)) + 1}: not JSON"):
            read_runs([run])
        path.write_text(text)


def test_no_run_at_all(tmp_path):
    with pytest.raises(InputError, match="no runs to report on"):
        report([], tmp_path / "out")
    with pytest.raises(InputError, match="no such run folder"):
        report([tmp_path / "missing"], tmp_path / "out")
    with pytest.raises(InputError, match=r"not a run folder, nor a folder of runs"):
        report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_axis_that_nothing_measured(runs, tmp_path):
    with pytest.raises(InputError, match=r"report\.x: no run measured 'heldout\.bits'; did you mean 'heldout\.bits_per_byte'"):
        report(runs[:1], tmp_path, config.Report(x="heldout.bits"))


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    make_run(tmp_path / "conditional", "conditional", n=20, steps=(200,))
    report([tmp_path / "conditional"], tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "control.svg").exists()
    (tmp_path / "out" / "figures" / "mine.svg").write_text("kept")
    make_run(tmp_path / "mle", "mle", n=20, steps=(200,))
    report([tmp_path / "mle"], tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "control.svg").exists()
    assert (tmp_path / "out" / "figures" / "mine.svg").exists()


def test_findings_are_marked_where_javascript_counts_them(out):
    data = read(out / "index.html").samples()
    marked = [(row[3], mark) for row in data["rows"] for mark in row[7]]
    assert len(marked) > 100
    for text, (start, end, kind) in marked:
        utf16 = text.encode("utf-16-le")
        assert re.fullmatch(r"made\.up\d+@example\.org", utf16[2 * start : 2 * end].decode("utf-16-le"))
        assert data["kinds"][kind] == "email"


def test_what_was_cut_off_is_told_from_what_was_scored(out):
    for row in read(out / "index.html").samples()["rows"]:
        text, scored, finished = row[3], row[4], row[6]
        tail = text.encode("utf-16-le")[2 * scored :].decode("utf-16-le")
        assert tail == (text if scored == 0 else "" if finished else " And then it was cut")


def test_a_cap_keeps_the_worst_samples_and_an_even_choice_of_the_others(runs, tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(packing, "CAP", 120_000)
    page = read(report(runs, tmp_path))
    data = page.samples()
    assert "of 8,400 samples" in page.text
    rows = [row for row in data["rows"] if data["runs"][row[0]][0] == "mle" and data["scenarios"][row[1]] == "adversarial"]
    mle = pq.read_table(runs[0] / "samples" / "adversarial-step-200.parquet").to_pydict()
    assert 10 < len(rows) < 100
    worst = sorted(mle["misalignment"])[-5:]
    assert worst == pytest.approx(sorted(row[5] for row in rows)[-5:], rel=1e-3)
    positions = [mle["text"].index(row[3]) for row in rows]
    assert positions == sorted(positions)
    assert positions[-1] > 300  # the even choice reaches to the end


def test_a_difference_of_a_run_from_itself_is_nothing(runs):
    run = read_runs([runs[0]])[0]
    paired = difference(run, run, "neutral", "misalignment")
    assert paired.value == 0
    assert math.isnan(paired.low + paired.high), "what does not vary has no interval"
    unpaired = difference(run, run, "no-prompt", "misalignment")
    assert unpaired.low < 0 < unpaired.high
    symmetric = difference(run, run, "heldout", "bits_per_byte")
    assert symmetric.high == pytest.approx(1.959964 * 0.011 * math.sqrt(2))
    assert difference(run, run, "heldout", "nothing") is None


def test_documents_that_both_runs_were_measured_on_are_pairs(tmp_path):
    made = [make_run(tmp_path / name, name, n=20, steps=(200,)) for name in ("mle", "conditional")]
    draw = np.random.default_rng(0)
    sizes, hard = draw.integers(100, 900, 50).astype(float), draw.normal(size=50) * 40
    for folder, bits in zip(made, (2.0, 1.9), strict=True):
        parts = (bits * sizes + hard, sizes)
        per_example.write(
            RunFolder(folder).per_example_of("heldout", 200), [f"d{place}" for place in range(50)], {"bits_per_byte": parts}
        )
        value = float(parts[0].sum() / parts[1].sum())
        line = record("x", 200, "heldout", "bits_per_byte", value, 0.05, 50).to_json()
        (folder / "records.jsonl").write_text(line + "\n")
    mle, conditional = read_runs(made)
    paired = difference(conditional, mle, "heldout", "bits_per_byte")
    assert paired.how == "paired by document"
    assert paired.value == pytest.approx(-0.1)
    assert paired.high - paired.low < 1e-6, "what makes a document hard for both cancels"
    (made[0] / "records.jsonl").write_text(record("x", 200, "heldout", "bits_per_byte", 3.0, 0.05, 50).to_json() + "\n")
    stale = difference(conditional, read_runs(made)[0], "heldout", "bits_per_byte")
    assert stale.how == "independent", "units of another measurement are not those that were recorded"


def test_two_runs_without_any_finding_have_a_difference_without_an_interval(tmp_path):
    made = make_run(tmp_path / "mle", "mle", n=20, steps=(200,))
    empty = [record("mle", 200, "no-prompt", f"misalignment{end}", 0.0, 0.0, 20) for end in ("", ".low", ".high")]
    (made / "records.jsonl").write_text("".join(line.to_json() + "\n" for line in empty))
    run = read_runs([made])[0]
    apart = difference(run, run, "no-prompt", "misalignment")
    assert apart.value == 0
    assert math.isnan(apart.low)
    assert math.isnan(apart.high)


def test_a_share_has_an_interval_within_0_and_1(tmp_path):
    made = make_run(tmp_path / "mle", "mle", n=20, steps=(200,))
    unscored = read_runs([made])[0].get("no-prompt", "unscored_share")
    assert unscored.value == unscored.low == 0
    assert unscored.high == pytest.approx(1.959964**2 / (20 + 1.959964**2))


def test_pairs_are_found_whatever_the_order(tmp_path):
    """A shuffled copy of the samples, under a shift of 1 or 3 by prompt, differs by 2, whatever the samples vary by."""
    run = make_run(tmp_path / "mle", "mle", n=80, steps=(200,), prompts=80)
    other = shutil.copytree(run, tmp_path / "other")
    path = other / "samples" / "neutral-step-200.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("misalignment")
    table = table.set_column(column, "misalignment", pa.array(np.array(table["misalignment"]) + 1.0 + 2.0 * (np.arange(80) % 2)))
    pq.write_table(table.take(np.random.default_rng(0).permutation(80)), path)
    mean = float(np.mean(table["misalignment"]))
    (other / "records.jsonl").write_text(record("other", 200, "neutral", "misalignment", mean, 0.1, 80).to_json() + "\n")
    apart = difference(*read_runs([other, run]), "neutral", "misalignment")
    assert apart.how == "paired by prompt"
    assert apart.value == pytest.approx(2)
    assert (apart.low, apart.high) == pytest.approx((2 - 1.96 / math.sqrt(80), 2 + 1.96 / math.sqrt(80)), abs=0.05)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_frontier_is_what_nothing_beats(points):
    kept = frontier(points)
    beaten = {i for i, p in enumerate(points) for q in points if q != p and q[0] <= p[0] and q[1] <= p[1]}
    assert {points[i] for i in kept} == {p for i, p in enumerate(points) if i not in beaten}
    assert len({points[i] for i in kept}) == len(kept)


@given(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25), st.sampled_from("ab")), max_size=8))
def test_marked_spans_never_overlap(length, found):
    spans = packing._spans([{"start": min(a, b), "end": max(a, b), "kind": kind} for a, b, kind in found], length)
    ends = [place for start, end, _ in spans for place in (start, end)]
    assert ends == sorted(ends)
    assert all(0 <= start < end <= length and kinds for start, end, kinds in spans)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.01, 2.0, {"0.01", "0.1", "1"}), (0.0, 2.0, {"0", "0.1", "1"}), (0.6, 1.0, {"0.0", "0.4", "0.8"})],
    ids=["logarithmic away from 0", "symmetric-logarithmic down to 0", "linear where values are alike"],
)
def test_the_scale_of_misalignment_follows_its_intervals(low, high, ticks):
    ends = [(low, low, max(low * 1.2, 0.15)), (high, high * 0.9, high)]
    points = [shapes.Point(f"run{i}", "mle", (i + 1.0, i + 0.9, i + 1.1), y) for i, y in enumerate(ends)]
    svg = plots.pareto([shapes.Panel("", shapes.Axis("x"), shapes.Axis("y"), points)], plots.NARROW)
    assert ticks <= set(re.findall(r">([\d.]+)</text>", svg))


def test_numbers_are_written_to_two_digits_of_their_intervals():
    share = metrics.describe("hit_share")
    one = metrics.Measured(0.01234, 0.0101, 0.0145, 0.001, 400, 1)
    assert metrics.write(one.value, metrics.decimals([one], share), share) == "1.23%"
    assert metrics.write_interval(one, 2, share) == "[1.01, 1.45]"
    assert metrics.write(-0.01234, 2, share, sign=True) == "−1.23 points"
    none = metrics.Measured(0.0, 0.0, 0.0, 0.0, 400, 1)
    assert metrics.write_interval(none, 3, metrics.describe("misalignment", "pii")) == "none of 400"


CONES = {  # what is left of linear RGB without one kind of cone: Machado et al. 2009, severity 1
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear_rgb(color: str) -> np.ndarray:
    value = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4339, 0.3763, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8727]])
    xyz = to_xyz @ np.clip(rgb, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_are_readable_and_told_apart_by_colour_blind_eyes(dark):
    colours = palette.colours(dark)

    def contrast(one: str, other: str) -> float:
        light = sorted(float(linear_rgb(colours[role]) @ [0.2126, 0.7152, 0.0722]) + 0.05 for role in (one, other))
        return light[1] / light[0]

    for role in ("ink", "muted", "bad", *palette.STYLES):
        assert contrast(role, "surface") > 4.5, role
    for cones, left in CONES.items():
        seen = {name: cielab(np.array(left) @ linear_rgb(colours[name])) for name in palette.STYLES}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 16, (cones, one, other)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium to run the page's script in")
def test_the_sample_browser_works_in_a_browser(out, tmp_path):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command = ["chromium", *flags, "--dump-dom", f"--user-data-dir={tmp_path}", (out / "index.html").as_uri()]
    html = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    page = Page(html)
    assert html.count('class="text"') == 20
    assert "2,400 samples" in page.text
    assert ("mark", {"title": "email"}) in page.elements
    assert "img" not in {tag for tag, _ in page.elements}


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
