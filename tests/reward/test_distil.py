"""From a costly judge to a cheap scorer: annotate some texts through a server, learn the rewards, score the rest."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import phf.scorers
from phf import config, reward
from phf.annotate import annotate
from phf.reward import TrainOptions
from support.judge_server import Reply, judge_server

pytest.importorskip("openai")
LABELS = Path(__file__).parents[3] / "shared" / "data" / "toxicity" / "labels.parquet"


@pytest.mark.skipif(not LABELS.exists(), reason="no labelled comments beside the project")
def test_a_reward_model_learns_what_a_judge_says(tmp_path):
    stand_in = phf.scorers.load("toxicity")  # in the judge's place: its probability as a number from 1 to 10

    def reply(text, count):
        return Reply(f"{10 + 9 * float(stand_in.score([text])[0]):.2f}")

    column = pq.read_table(LABELS, columns=["text"]).column("text").slice(0, 4000).to_pylist()
    texts = [" ".join(text.split()) for text in dict.fromkeys(column) if 0 < len(text) < 300][:1200]
    pq.write_table(pa.table({"text": texts[:900]}), tmp_path / "sample.parquet")
    with judge_server(reply) as server:
        scorer = {"name": "judge", "url": server.url, "model": "m", "rubric": "From 1 to 10?\n{text}", "max_calls": 3_000}
        options = {"scorer": {**scorer, "cache": str(tmp_path / "cache")}, "segmenter": "document"}
        corpus = config.Corpus(inputs=[str(tmp_path / "sample.parquet")])
        summary = annotate(corpus, config.check(config.Annotate, options, "annotate"), tmp_path / "judged")
        assert len(server.asked) == summary.documents
    metrics = reward.train(tmp_path / "judged", tmp_path / "reward", TrainOptions(folds=3))
    held_out = metrics["measured"]["held out"]["all"]
    assert held_out["texts"] > 100
    assert held_out["rank_correlation"] > 0.6
    cheap = phf.scorers.load("toxicity", path=str(tmp_path / "reward")).score(texts[900:])
    assert np.corrcoef(cheap, stand_in.score(texts[900:]))[0, 1] > 0.6
