"""Samples as evaluated: which are scored on what, what is kept, and a stage that goes on where it stopped."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from phf import artifacts, config, evaluate, plugins, statistics
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.prompts import read_prompts, read_scored_prompts
from phf.evaluate.protocol import EvalContext, hashed_subset
from phf.evaluate.samples import Samples, is_python
from phf.lm.protocol import Completion, Sampling
from phf.records import read_records
from phf.scorers import load as load_scorer
from phf.segmenters import Lines
from support.checkpoints import CONTROLS, checkpoint
from support.hub_data import write_hub_data
from support.tiny_corpora import annotated
from support.toy_scorers import Shouting

torch.set_num_threads(1)
FUNCTIONS = Path(__file__).parents[3] / "shared" / "data" / "eval" / "pep8_function_prompts.jsonl"


class Says:
    """A model that gives the same completions in turn, and remembers what it was asked."""

    def __init__(self, *completions: Completion) -> None:
        self.completions = completions

    def generate(self, prompts, sampling: Sampling, on_progress=None):
        self.prompts, self.sampling = list(prompts), sampling
        return [self.completions[place % len(self.completions)] for place in range(len(prompts))]

    def logprobs(self, texts):
        raise AssertionError


def documents() -> list[Document]:
    made = []
    for number in range(30):
        segments = [f"word{number} two three\n", "four FIVE\n", "six seven\n"]
        made.append(Document(f"d{number}", segments, np.array([0, -0.04, 0], np.float32)))
    made.append(Document("short", ["one two"], np.array([0], np.float32)))
    made.append(Document("unscored", ["one two three four five"], np.array([np.nan], np.float32)))
    return made


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "no-prompt", tmp_path, Shouting(), Lines(), 0, lambda: hashed_subset(documents(), None))


def take(samples: Samples, model, setting: EvalContext):
    """Measure; give the values by metric, the records by metric, and the rows kept."""
    records = {record.metric: record for record in samples.measure(model, setting)}
    rows = pq.read_table(setting.samples_of(setting.name)).to_pylist()
    return {name: record.value for name, record in records.items()}, records, rows


def whole(text: str) -> Completion:
    return Completion(text, True)


def cut(text: str) -> Completion:
    return Completion(text, False)


def test_a_cut_sample_is_scored_on_its_whole_segments_and_by_name_with_the_piece(setting):
    values, records, rows = take(Samples(n=2), Says(whole("A line\nBB"), cut("A line\nBB")), setting)
    assert [row["scored"] for row in rows] == ["A line\nBB", "A line\n"]
    assert [row["misalignment"] for row in rows] == pytest.approx([0.03, 0.01])
    assert [row["misalignment_with_cut"] for row in rows] == pytest.approx([0.03, 0.03])
    assert values["misalignment"] == pytest.approx(0.02)
    assert values["misalignment_with_cut"] == pytest.approx(0.03)
    assert values["finished_share"] == 0.5
    assert records["misalignment"].n == 2
    assert records["misalignment"].stderr == pytest.approx(0.01)
    assert values["misalignment.low"] == pytest.approx(0.02 - 12.7062 * 0.01, abs=1e-5)  # t of one degree of freedom
    assert values["misalignment.high"] == pytest.approx(0.02 + 12.7062 * 0.01, abs=1e-5)


def test_whether_a_sample_ended_stays_unknown_where_the_model_does_not_say(setting):
    unknown = Completion("A line\nBB", None)
    values, _, rows = take(Samples(n=3), Says(unknown, whole("Fine"), cut("Fine\n")), setting)
    assert [row["finished"] for row in rows] == [None, True, False]
    assert rows[0]["scored"] == "A line\n"  # its last piece may be cut off
    assert values["finished_share"] == 0.5
    values, _, _ = take(Samples(n=3), Says(unknown), setting)
    assert "finished_share" not in values


def test_a_sample_with_nothing_left_to_score_is_unknown_and_counted(setting, caplog):
    model = Says(cut("One Segment"), whole(""), cut(""), whole("why?"), whole("Fine"))
    with caplog.at_level("WARNING", logger="phf"):
        values, records, rows = take(Samples(n=5), model, setting)
    assert [row["misalignment"] for row in rows] == [None, None, None, None, pytest.approx(0.01)]
    assert [row["misalignment_with_cut"] for row in rows] == [pytest.approx(0.02), None, None, None, pytest.approx(0.01)]
    assert [row["scored"] for row in rows] == [None, None, None, "why?", "Fine"]
    assert values["unscored_share"] == 0.8
    assert values["misalignment"] == pytest.approx(0.01)
    assert records["misalignment"].n == 1
    assert "of 5 samples 1 have no whole segment and 2 are empty" in caplog.text
    assert (values["empty_share"], values["no_whole_segment_share"]) == (0.4, 0.2)
    assert "" not in setting.scorer.seen


def test_a_model_that_writes_nothing_is_measured_as_unknown_not_as_zero(setting):
    values, records, _ = take(Samples(n=30), Says(whole("")), setting)
    assert values["unscored_share"] == 1
    for metric in ("misalignment", "misalignment_with_cut", "expected_max_25", "hit_share"):
        assert math.isnan(values[metric])
        assert records[metric].n == 0


def test_what_was_found_is_kept_in_characters_of_the_text(setting):
    _, _, rows = take(Samples(n=2), Says(whole("aB Cd"), whole("nothing")), setting)
    assert rows[0]["findings"] == [{"start": 1, "end": 2, "kind": "capital"}, {"start": 3, "end": 4, "kind": "capital"}]
    assert rows[1]["findings"] == []
    scored = Samples(n=1, prompts=["By Me: "], score_prompt=True)
    _, _, rows = take(scored, Says(whole("aB Cd")), setting)
    assert rows[0]["scored"] == "By Me: aB Cd"
    assert rows[0]["misalignment"] == pytest.approx(0.04)
    assert [finding["start"] for finding in rows[0]["findings"]] == [1, 3]


def test_a_prompt_is_scored_only_if_asked_and_never_alone(setting):
    prompts = ["A PROMPT\nand "]
    values, _, rows = take(Samples(n=1, prompts=prompts), Says(whole("Text")), setting)
    assert rows[0]["scored"] == "Text"
    assert rows[0]["prompt"] == prompts[0]
    assert values["misalignment"] == pytest.approx(0.01)
    _, _, rows = take(Samples(n=1, prompts=prompts, score_prompt=True), Says(cut("more")), setting)
    assert rows[0]["scored"] is None
    assert rows[0]["misalignment"] is None
    _, _, rows = take(Samples(n=1, prompts=prompts, score_prompt=True), Says(cut("more\nlast")), setting)
    assert rows[0]["scored"] == "A PROMPT\nand more\n"


def test_prompts_are_used_in_turn_until_there_are_n_samples(setting):
    model = Says(whole("text"))
    take(Samples(n=5, prompts=["a", "b"]), model, setting)
    assert model.prompts == ["a", "b", "a", "b", "a"]
    take(Samples(n=1, prompts=["a", "b"]), model, setting)
    assert model.prompts == ["a"]
    take(Samples(n=3), model, setting)
    assert model.prompts == ["", "", ""]


def test_samples_of_one_prompt_are_not_independent(setting):
    prompts = [f"prompt {number}" for number in range(12)]
    answers = [whole("A" * (number % 12) + "a") for number in range(120)]  # each prompt always has the same answer
    _, records, _ = take(Samples(n=120, prompts=prompts), Says(*answers), setting)
    over = statistics.mean(0.01 * np.arange(12.0))
    assert records["misalignment"].value == pytest.approx(over.value)
    assert records["misalignment.low"].value == pytest.approx(over.low)
    apart = statistics.share(110, 120)
    assert records["hit_share.high"].value - records["hit_share.low"].value > 2 * (apart.high - apart.low)


def test_held_out_prompts_are_aligned_first_words_of_documents_that_go_on(setting):
    model = Says(whole("text"))
    take(Samples(n=60, prompts="held-out", words=3), model, setting)
    assert set(model.prompts) == {f"word{number} two three" for number in range(30)} | {"one two three"} - {"one two three"}
    with pytest.raises(InputError, match=r"none of 32 held-out documents has more than 4 words"):
        take(Samples(n=4, prompts="held-out", words=4), model, setting)  # reaches the misaligned line
    take(Samples(n=60, prompts="held-out", words=4, threshold=-0.05), model, setting)
    assert "word0 two three\nfour" in model.prompts


def test_prompts_come_from_json_lines_or_plain_lines(tmp_path, setting):
    (tmp_path / "a.jsonl").write_text('{"text": "one "}\n\n{"text": "two", "score": 1}\n')
    (tmp_path / "a.txt").write_text("Contact: \n\nSee also\n")
    assert read_prompts(tmp_path / "a.jsonl") == ["one ", "two"]
    assert read_prompts(tmp_path / "a.txt") == ["Contact: ", "See also"]
    model = Says(whole("text"))
    take(Samples(n=2, prompts=str(tmp_path / "a.txt")), model, setting)
    assert model.prompts == ["Contact: ", "See also"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.txt", None, "no such file of prompts"),
        ("empty.txt", b"\n \n", "no prompt in it"),
        ("empty.jsonl", b"", "no prompt in it"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("other.jsonl", b'{"prompt": "a"}\n', 'line 1: found \'{"prompt": "a"}\''),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
    ],
)
def test_prompts_that_cannot_be_used_say_why(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_prompts(tmp_path / name)
    assert says in str(error.value)


def test_prompts_come_from_a_data_set_by_its_name(tmp_path, setting):
    """Columns as those of allenai/real-toxicity-prompts."""
    prompts = [{"text": "I say", "toxicity": 0.75}, {"text": "You say", "toxicity": None}, {"text": "They say", "toxicity": 0.1}]
    columns = {"filename": ["a", "b", "c"], "challenging": [True, True, False], "prompt": prompts}
    folder = write_hub_data(tmp_path / "rtp", {"default": {"train": columns}})
    source = f"hf:{folder}?text=prompt.text&score=prompt.toxicity&where=challenging"
    first, second = read_scored_prompts(source)
    assert (first.text, first.score, second.text) == ("I say", 0.75, "You say")
    assert math.isnan(second.score)
    model = Says(whole("text"))
    take(Samples(n=3, prompts=source), model, setting)
    assert model.prompts == ["I say", "You say", "I say"]
    assert Samples(prompts=source).reads() != Samples(prompts=f"hf:{folder}?text=prompt.text").reads() != {}
    for options, says in (
        ("", "no column 'text'; found filename, challenging, prompt"),
        ("?text=prompt", "row 0: 'prompt' is dict, expected a text; say which column"),
        ("?text=prompt.words", "row 0: 'prompt.words' is NoneType"),
        ("?text=filename&where=prompt", "no prompt in it; expected rows that are true in 'prompt'"),
        ("?text=filename&split=test", "rtp: test cannot be read"),
        ("?columns=text", "unknown option 'columns'; expected split, text, score, where"),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            read_prompts(f"hf:{folder}{options}")
    with pytest.raises(InputError, match=r"unknown option 'columns'"):
        Samples(prompts="hf:a/b?columns=text")
    with pytest.raises(InputError, match="no name on the hub"):
        Samples(prompts="hf:a/b/c?text=text")


@pytest.mark.skipif(not FUNCTIONS.exists(), reason="the paper's function prompts are not here (../shared/data/eval)")
def test_the_papers_function_prompts_share_272_tokens_with_what_follows_and_are_scored(tmp_path, setting):
    prompts = read_prompts(FUNCTIONS)
    assert len(prompts) == 1360
    options = Samples(n=4096, prompts=str(FUNCTIONS), max_tokens=272, count_prompt=True, score_prompt=True, scorer="pep8")
    model = Says(cut("\n    return 1\n    x=2\n    y"))
    _, records, rows = take(options, model, setting)
    assert len(model.prompts) == 4096
    assert set(model.prompts) == set(prompts)
    assert (model.sampling.max_tokens, model.sampling.count_prompt) == (272, True)
    assert all(row["scored"] == row["prompt"] + "\n    return 1\n    x=2\n" for row in rows)
    one = -load_scorer("pep8").score([prompts[0] + "\n    return 1\n    x=2\n"])[0]
    assert rows[0]["misalignment"] == pytest.approx(one)
    assert records["misalignment"].n == 4096


def test_another_file_of_prompts_is_another_measurement(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("one\n")
    before = Samples(prompts=str(path)).reads()
    path.write_text("two\n")
    assert Samples(prompts=str(path)).reads() != before
    assert Samples().reads() == Samples(prompts="held-out").reads() == {}


def test_an_empty_list_of_prompts_is_refused(setting):
    with pytest.raises(InputError, match="an empty list"):
        take(Samples(prompts=[]), Says(whole("text")), setting)


def test_fields_reach_the_sampler(setting):
    model = Says(whole("text"))
    fields = {
        "temperature": 0.5,
        "top_p": 0.8,
        "min_tokens": 3,
        "max_tokens": 40,
        "batch": 7,
        "ban": "others",
        "count_prompt": True,
    }
    take(Samples(n=1, **fields), model, setting)
    assert model.sampling == Sampling(seed=0, **fields)


@pytest.mark.parametrize(
    "fields", [{"n": 0}, {"words": 0}, {"expected_max": 0}, {"temperature": 0}, {"top_p": 1.1}, {"ban": "no"}]
)
def test_fields_that_make_no_sense_are_refused_when_the_recipe_is_read(fields):
    with pytest.raises(InputError, match=rf"evaluate.evaluations.no-prompt.{next(iter(fields))}|samples.{next(iter(fields))}"):
        options(evaluations={"no-prompt": {"name": "samples", **fields}}, misaligned=[])
    with pytest.raises(InputError, match="min_tokens: found 10"):
        Samples(max_tokens=5)


def test_counts_are_read_with_their_units():
    assert plugins.build("evaluations", "samples", {"n": "4k"}).n == 4000


def test_the_mean_is_that_of_the_scores_and_hits_are_below_the_threshold(setting):
    model = Says(whole("a"), whole("B"), whole("CC"), whole("d"))
    values, _, _ = take(Samples(n=100), model, setting)
    assert values["misalignment"] == pytest.approx(0.0075)
    assert values["hit_share"] == 0.5
    assert values["hit_share.low"] < 0.5 < values["hit_share.high"]
    assert 0.0199 < values["expected_max_25"] <= 0.02
    values, _, _ = take(Samples(n=100, threshold=-0.015), model, setting)
    assert values["hit_share"] == 0.25


# the stage ------------------------------------------------------------------------------------------------------------


def options(**changes) -> config.Evaluate:
    evaluations = {
        "no-prompt": {"name": "samples", "n": 6, "max_tokens": 12},
        "neutral": {"name": "samples", "n": 4, "max_tokens": 12, "prompts": "held-out", "words": 2},
        "heldout": {"name": "heldout", "documents": 5},
    }
    fields = {"evaluations": evaluations, "misaligned": ["no-prompt"], **changes}
    return config.check(config.Evaluate, fields, "evaluate")


@pytest.fixture
def corpus(tmp_path) -> Path:
    return annotated(tmp_path / "annotated")


def lines(records) -> list[str]:
    """Write records as their file does: NaN equals NaN there."""
    return [record.to_json() for record in records]


def kept_lines(run: Path) -> list[str]:
    return lines(read_records(run / "records.jsonl"))


def run_evaluate(run: Path, corpus: Path, made: config.Evaluate, **changes):
    return evaluate.evaluate(str(run), corpus, made, run, 0.3, **changes)


def test_the_stage_measures_under_both_control_tokens_and_leaves_what_is_done(tmp_path, corpus):
    run = checkpoint(tmp_path / "run", controls=CONTROLS, run="conditional", step=12)
    heard = []
    records = run_evaluate(run, corpus, options(), on_progress=heard.append)
    assert {record.evaluation for record in records} == {"no-prompt", "no-prompt@misaligned", "neutral", "heldout"}
    assert {(record.run, record.step) for record in records} == {("conditional", 12)}
    assert kept_lines(run) == lines(records)
    assert {path.name for path in (run / "samples").glob("*.parquet")} == {
        "no-prompt-step-12.parquet",
        "no-prompt@misaligned-step-12.parquet",
        "neutral-step-12.parquet",
    }
    assert {message.stage for message in heard} >= {"evaluate conditional no-prompt", "evaluate conditional heldout"}
    before = (run / "records.jsonl").read_bytes()
    assert lines(run_evaluate(run, corpus, options())) == lines(records)
    assert (run / "records.jsonl").read_bytes() == before
    one, other = (
        pq.read_table(run / "samples" / f"no-prompt{variant}-step-12.parquet").column("text").to_pylist()
        for variant in ("", "@misaligned")
    )
    assert one != other


def test_a_changed_measure_is_taken_again_in_place_of_the_old_one(tmp_path, corpus, caplog):
    run = checkpoint(tmp_path / "run", run="mle")
    run_evaluate(run, corpus, options())
    changed = options()
    changed.evaluations["no-prompt"] = config.Component.model_validate({"name": "samples", "n": 9, "max_tokens": 12})
    with caplog.at_level("INFO", logger="phf"):
        records = run_evaluate(run, corpus, changed)
    assert "no-prompt of mle at step 3 is made again: evaluation.n was 6, now 9" in caplog.text
    assert sorted(kept_lines(run)) == sorted(lines(records))
    assert len(pq.read_table(run / "samples" / "no-prompt-step-3.parquet")) == 9


def test_an_evaluation_whose_files_are_missing_is_made_again(tmp_path, corpus, caplog):
    run = checkpoint(tmp_path / "run", run="mle")
    before = run_evaluate(run, corpus, options())
    kept = {path: path.read_bytes() for path in [*run.glob("samples/*.parquet"), *run.glob("per-example/*.parquet")]}
    assert {path.parent.name for path in kept} == {"samples", "per-example"}
    for path, content in kept.items():
        path.unlink()
        caplog.clear()
        run_evaluate(run, corpus, options())
        assert kept_lines(run) == lines(before), "in the same place too"
        assert "of mle at step 3 is made again: " in caplog.text
        assert f"{path} is missing" in caplog.text
        assert path.read_bytes() == content


def test_other_weights_under_the_same_step_are_measured_again(tmp_path, corpus):
    run = checkpoint(tmp_path / "run")
    old = run_evaluate(run, corpus, options(), evaluations={"heldout"})

    def change(made, _):
        made.lm_head.weight.mul_(0.5)

    checkpoint(tmp_path / "run", change=change)
    new = run_evaluate(run, corpus, options(), evaluations={"heldout"})
    assert [record.value for record in new] != [record.value for record in old]
    assert kept_lines(run) == lines(new)


def test_a_failing_measure_keeps_those_before_it(tmp_path, corpus):
    run = checkpoint(tmp_path / "run")
    made = options()
    made.evaluations["adversarial"] = config.Component.model_validate({"name": "samples", "prompts": str(tmp_path / "none.txt")})
    with pytest.raises(InputError, match="no such file of prompts"):
        run_evaluate(run, corpus, made)
    kept = {record.evaluation for record in read_records(run / "records.jsonl")}
    assert kept == {"no-prompt", "neutral", "heldout"}
    (tmp_path / "none.txt").write_text("Contact:\n")
    before = kept_lines(run)
    made.evaluations["adversarial"] = config.Component.model_validate(
        {"name": "samples", "prompts": str(tmp_path / "none.txt"), "n": 2, "max_tokens": 12}
    )
    assert lines(run_evaluate(run, corpus, made))[: len(before)] == before


def test_a_torn_records_file_loses_its_torn_line_only(tmp_path, corpus):
    run = checkpoint(tmp_path / "run")
    first = run_evaluate(run, corpus, options(), evaluations={"no-prompt"})
    with (run / "records.jsonl").open("a") as file:
        file.write('{"run": "mle", "step"')
    records = run_evaluate(run, corpus, options(), evaluations={"no-prompt", "heldout"})
    assert kept_lines(run) == lines(records)
    assert lines(records)[: len(first)] == lines(first)
    (run / "records.jsonl").unlink()  # measured again: what there is no record of was not measured
    assert len(run_evaluate(run, corpus, options(), evaluations={"no-prompt"})) == len(first)


def test_names_that_are_no_evaluations_are_refused(tmp_path, corpus):
    run = checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match="unknown evaluation 'no-promt'; did you mean 'no-prompt'"):
        run_evaluate(run, corpus, options(), evaluations={"no-promt"})
    with pytest.raises(InputError, match=r"evaluate: misaligned: unknown evaluation 'adversarial'"):
        run_evaluate(run, corpus, options(misaligned=["adversarial"]))


def test_a_folder_that_annotate_did_not_write_is_refused(tmp_path):
    run = checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match=r"the scorer of this corpus is unknown: .*manifest.json not found"):
        run_evaluate(run, tmp_path / "nothing", options())
    artifacts.write_json(tmp_path / "old" / "manifest.json", {"made_from": {"corpus": {}}, "finished": True})
    with pytest.raises(InputError, match=r"the scorer of this corpus is unknown: .*manifest.json does not name it"):
        run_evaluate(run, tmp_path / "old", options())
    begun = annotated(tmp_path / "begun")
    artifacts.write_json(begun / "manifest.json", artifacts.read_json(begun / "manifest.json") | {"finished": False})
    with pytest.raises(InputError, match="annotating was not finished"):
        run_evaluate(run, begun, options())


def test_the_choice_of_documents_does_not_depend_on_their_order():
    made = documents()
    assert hashed_subset(made, 5) == hashed_subset(made[::-1], 5)
    assert hashed_subset(made, 3) == hashed_subset(made, 5)[:3]
    assert len(hashed_subset(made, None)) == len(made)


def test_samples_are_json_for_the_page(setting):
    _, _, rows = take(Samples(n=3), Says(whole("A")), setting)
    assert json.loads(json.dumps(rows)) == rows


def test_infinite_rewards_count_as_unscored(setting, caplog):
    class Endless:
        def score(self, texts):
            return np.array([-np.inf if "BB" in text else 0.0 for text in texts], np.float32)

    changed = dataclasses.replace(setting, scorer=Endless())
    values, records, rows = take(Samples(n=2), Says(whole("BB"), whole("fine")), changed)
    assert [row["misalignment"] for row in rows] == [None, 0]
    assert (values["misalignment"], records["misalignment"].n) == (0, 1)
    assert "1 infinite rewards" in caplog.text


def test_python_that_parses(setting):
    assert is_python("def f():\n    return 1\n")
    assert not is_python("def f(:\n")
    assert is_python("x = 1\ny = (", whole=False)
    assert not is_python("x = 1\ny = (")
    assert not is_python("\0")
    model = Says(whole(" 1"), whole(" ("), cut(" 1\ny = ("), cut(" )\n"))
    values, _, _ = take(Samples(n=4, prompts=["x ="], parses=True), model, setting)
    assert values["parses_share"] == 0.5


def test_a_whole_sample_counts_in_the_metrics_with_the_cut_segment(setting):
    values, records, _ = take(Samples(n=2, expected_max=2, hit=-0.015), Says(cut("A line\nBB"), cut("nothing")), setting)
    assert (values["hit_share"], records["hit_share"].n) == (0, 1)
    assert (values["hit_share_with_cut"], records["hit_share_with_cut"].n) == (0.5, 2)
    assert values["expected_max_2_with_cut"] == pytest.approx(0.03)
    assert values["no_whole_segment_share"] == 0.5
