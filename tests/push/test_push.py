"""What is pushed loads in transformers and datasets, its card says what the records say, and the hub gets just that."""

import json
import re
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from phf import config
from phf.cli import main
from phf.documents import AnnotatedCorpus
from phf.errors import InputError
from phf.push import Destination, prepare, upload, write_folder
from phf.records import Record, read_records, stamp, write_records
from phf.train import train
from support import hub_server
from support import tiny_corpora as tiny

pytest.importorskip("jinja2")

COMPONENTS = {
    "conditional": config.Component(name="conditional", threshold=0.0),
    "awr": config.Component(name="awr", alpha=0.5, beta=1.0),
    "mle": config.Component(name="mle"),
}
MEASURED = {"misalignment": 0.0125, "misalignment.low": 0.0101, "misalignment.high": 0.0156, "hit_share": 0.25}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder with an annotated corpus and a run of each objective; the conditional one was measured at two steps."""
    folder = tmp_path_factory.mktemp("work")
    store = tiny.token_store(folder)
    for name, component in COMPONENTS.items():
        train(store, folder / "runs" / name, name, component, tiny.train_options(tokens=512, checkpoints=2))
    for step, factor in ((4, 2.0), (8, 1.0)):
        records = [
            Record("conditional", step, "no-prompt", metric, factor * value, float("nan"), 64, stamp())
            for metric, value in MEASURED.items()
        ]
        write_records(folder / "runs/conditional/records.jsonl", records)
    return folder


@pytest.fixture
def hub(monkeypatch):
    with hub_server.serving(monkeypatch) as server:
        yield server


def python(card):
    return re.search(r"^```python\n(.*?)^```", card, re.S | re.M)[1]


def pushed(source, folder, name="me/tiny", **options):
    """Write the folder of a push so that its name on the hub is a folder here, and give it and its card."""
    write_folder(prepare(str(source), Destination(name), **options), folder / name)
    return folder / name, (folder / name / "README.md").read_text()


@pytest.mark.parametrize("objective", COMPONENTS)
def test_the_folder_loads_in_transformers_and_its_snippet_writes_text(objective, work, tmp_path, monkeypatch, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, card = pushed(work / "runs" / objective, tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    own = AutoModelForCausalLM.from_pretrained(work / "runs" / objective / "checkpoints/step-8")
    for name, weights in own.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weights, rtol=0, atol=0)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python(card), names)
    start = tokenizer.eos_token_id
    control = tokenizer.convert_tokens_to_ids(["<|aligned|>"]) if objective == "conditional" else []
    assert names["inputs"].input_ids[0, : 1 + len(control)].tolist() == [start, *control]
    assert 1 <= names["written"].shape[1] - names["inputs"].input_ids.shape[1] <= 8, "half of the context of 16"
    assert "<|" not in capsys.readouterr().out
    assert ("value_head.safetensors" in card) == (objective == "awr") == (folder / "value_head.safetensors").exists()
    assert ("## Control tokens" in card) == (objective == "conditional")


def test_of_lines_the_snippet_puts_the_control_token_before_each(tmp_path, monkeypatch):
    store = tiny.token_store(tmp_path, segmenter="lines")
    train(store, tmp_path / "runs/lines", "lines", COMPONENTS["conditional"], tiny.train_options(tokens=256, context=32))
    _, card = pushed(tmp_path / "runs/lines", tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python(card).replace('"The"', '"one\\ntwo"'), names)
    assert names["prompt"] == "<|endoftext|><|aligned|>one\n<|aligned|>two"


def test_the_card_is_one_of_the_hub_and_says_what_the_records_say(work, tmp_path):
    folder, text = pushed(work / "runs/conditional", tmp_path, data_license="CC BY 4.0")
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert "conditional" in card.data.tags
    row = next(line for line in text.splitlines() if line.startswith("| no prompt | matches per 1,000 characters"))
    assert "| 12.5 | [10.1, 15.6] | 64 |" in row, "regex counts per character, and is shown per 1,000"
    assert "| 25% | [16, 37] | 64 |" in text, "a share has Wilson's interval"
    assert "threshold: 0.0" in text
    assert "512 tokens, 8 steps" in text
    assert "As given: CC BY 4.0." in text
    assert yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])["lr"] == 0.01
    assert all(record.step == 8 and not record.stamp.command for record in read_records(folder / "records.jsonl"))


def test_an_earlier_step_has_its_own_records(work, tmp_path):
    _, text = pushed(f"{work}/runs/conditional@4", tmp_path)
    assert "| 25.0 | [20.2, 31.2] | 64 |" in text
    assert "256 tokens, 4 steps" in text
    assert "Not given. Find out" in text


def test_a_run_that_was_not_measured_says_so(work, tmp_path):
    folder, text = pushed(work / "runs/mle", tmp_path)
    assert "Nothing was measured of this checkpoint" in text
    assert not (folder / "records.jsonl").exists()


def test_the_corpus_loads_in_datasets_and_in_phf(work, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, text = pushed(work / "annotated", tmp_path, "me/corpus", data_license="cc-by-4.0")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python(text), names)
    documents = list(AnnotatedCorpus(work / "annotated").documents())
    assert [row["segments"] for row in names["rows"]] == [list(document.segments) for document in documents]
    assert [row["rewards"] for row in names["rows"]] == [document.rewards.tolist() for document in documents]
    assert names["text"] == documents[0].text
    again = list(AnnotatedCorpus(folder).documents())
    assert [document.id for document in again] == [document.id for document in documents]
    card = huggingface_hub.DatasetCard.load(folder / "README.md")
    assert (card.data.license, card.data.size_categories) == ("cc-by-4.0", ["n<1K"])
    assert "120 documents" in text
    lowest, *_, highest = re.search(r"^\| `rewards` \| (-?[\d.]+) \|(.*)\|$", text, re.M)[0].strip("| ").split(" | ")[1:]
    assert (float(lowest), float(highest)) == (-1, 0)


def test_no_path_of_this_machine_is_pushed(work, tmp_path):
    shutil.copytree(work / "annotated", tmp_path / "annotated")
    manifest = json.loads((tmp_path / "annotated/manifest.json").read_text())
    manifest["made_from"]["corpus"] = {"inputs": ["/home/me/secret/a.jsonl", "s3://me:key@bucket/b.jsonl?sig=1", "hf:me/c"]}
    (tmp_path / "annotated/manifest.json").write_text(json.dumps(manifest))
    _, text = pushed(tmp_path / "annotated", tmp_path, "me/corpus")
    texts = [text, (tmp_path / "me/corpus/manifest.json").read_text()]
    run, card = pushed(work / "runs/conditional", tmp_path)
    texts += [card, (run / "records.jsonl").read_text(), (run / "phf.json").read_text()]
    for each in texts:
        assert not re.search(rf"secret|key@|sig=|{re.escape(str(work))}|{re.escape(str(tmp_path))}", each)
    assert "`a.jsonl`, `s3://bucket/b.jsonl`, `hf:me/c`" in text
    assert "source_datasets:\n- me/c" in text


def test_the_hub_gets_the_folder_and_loses_what_an_earlier_push_left(work, tmp_path, hub):
    for objective in ("awr", "mle"):
        repository = prepare(str(work / "runs" / objective), Destination("me/tiny"))
        address, deleted = upload(repository, private=True)
    assert address.endswith("me/tiny/commit/" + "1" * 40)
    assert deleted == ["value_head.safetensors"]
    folder, _ = pushed(work / "runs/mle", tmp_path)
    there = hub.files("models", "me/tiny")
    assert {name: there[name] for name in there if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert hub.repositories["models", "me/tiny"]["private"]


def test_a_revision_is_a_branch(work, hub):
    repository = prepare(str(work / "annotated"), Destination("me/corpus", "v2"))
    upload(repository)
    assert set(hub.files("datasets", "me/corpus")) == {".gitattributes"}
    assert set(hub.files("datasets", "me/corpus", "v2")) == {".gitattributes", *repository.files}
    assert b'revision="v2"' in repository.files["README.md"]
    upload(prepare(str(work / "annotated"), Destination("me/corpus", "v2")))


def test_a_public_repository_is_not_taken_for_a_private_one(work, hub):
    upload(prepare(str(work / "runs/mle"), Destination("me/tiny")))
    before = dict(hub.files("models", "me/tiny"))
    with pytest.raises(InputError, match="exists and is public, but --private was given; nothing was uploaded"):
        upload(prepare(str(work / "runs/awr"), Destination("me/tiny")), private=True)
    assert hub.files("models", "me/tiny") == before


def test_refusals_of_the_hub_are_one_line(work, hub, monkeypatch):
    repository = prepare(str(work / "runs/mle"), Destination("me/tiny"))
    hub.refuses = 403
    with pytest.raises(InputError, match=r"^http://\S+/me/tiny: the hub refused \(403: .*rights.*\); the token needs the right"):
        upload(repository)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match=r"refused \(401: .*\); run `hf auth login`"):
        upload(repository)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the push failed"):
        upload(repository)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        upload(repository)


def test_without_a_token_nothing_is_asked(work, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no token for the hub; run `hf auth login`, or set HF_TOKEN"):
        upload(prepare(str(work / "runs/mle"), Destination("me/tiny")))


def test_a_card_of_ones_own_is_pushed_as_it_is(work, tmp_path):
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    _, text = pushed(work / "runs/mle", tmp_path, readme=tmp_path / "card.md")
    assert text == "---\nlicense: mit\n---\n# Mine\n"
    (tmp_path / "card.md").write_text("---\nlicense: [\n---\n# Mine\n")
    with pytest.raises(InputError, match=r"card\.md: its metadata .* cannot be read"):
        prepare(str(work / "runs/mle"), Destination("me/tiny"), readme=tmp_path / "card.md")


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("runs/mle", "tiny", "tiny: no owner; expected OWNER/NAME"),
        ("runs/mle", "me/ti ny", "no name on the hub"),
        ("runs/mle", "me/tiny@v2", "a revision is given by --revision v2"),
        ("runs/mle@5", "me/tiny", "has no checkpoint of step 5"),
        ("runs/none", "me/tiny", "no such run or model folder"),
        ("hf:gpt2", "me/tiny", "hf:gpt2: not on this machine"),
        ("alone", "me/tiny", "not a checkpoint in a run's folder"),
        ("parts", "me/tiny", r"no manifest\.json"),
    ],
)
def test_what_cannot_be_pushed_is_said(source, name, message, work, tmp_path, monkeypatch):
    shutil.copytree(work / "runs/mle", tmp_path / "runs/mle")
    shutil.copytree(work / "runs/mle/checkpoints/step-8", tmp_path / "alone")
    shutil.copytree(work / "annotated", tmp_path / "parts", ignore=shutil.ignore_patterns("manifest.json"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        prepare(source, Destination(name))


def test_the_command_writes_the_folder_or_uploads_it(work, tmp_path, hub, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for more, code in ((["--dry-run"], 0), (["--dry-run"], 2), (["--revision", "v1"], 0)):
        with pytest.raises(SystemExit) as exited:
            main(["push", str(work / "runs/mle"), "me/tiny", *more])
            sys.exit(0)
        assert exited.value.code == code
    said, warned = capsys.readouterr()
    assert "Wrote: hub/me--tiny: 8 files" in said
    assert "Dry run: nothing was uploaded" in said
    assert warned.strip() == "phf: error: hub/me--tiny: exists already; delete it, or choose another folder with --out"
    assert re.search(r"Pushed: http://\S+/me/tiny/commit/1+$", said, re.M)
    there = hub.files("models", "me/tiny", "v1")
    assert set(there) - {".gitattributes"} == {path.name for path in (tmp_path / "hub/me--tiny").iterdir()}


def test_a_dry_run_prints_json_for_programs(work, tmp_path, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["push", str(work / "runs/mle"), "me/tiny", "--dry-run", "--out", str(tmp_path / "out"), "--json"])
    assert not exited.value.code
    said = json.loads(capsys.readouterr().out)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(said["files"])
    assert said["files"]["README.md"] == (tmp_path / "out/README.md").stat().st_size


def test_nothing_that_exists_is_written_over(work, tmp_path):
    pushed(work / "runs/mle", tmp_path)
    with pytest.raises(InputError, match="exists already; delete it, or choose another folder with --out"):
        pushed(work / "runs/awr", tmp_path)
    assert not (tmp_path / "me/tiny/value_head.safetensors").exists()
    assert not list(Path(tmp_path / "me").glob(".*"))
