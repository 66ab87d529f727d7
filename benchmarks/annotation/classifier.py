"""The classifier scorer against Detoxify's own way, on the same model, texts and threads: how much faster, and how equal.

The model is a RoBERTa of random weights, six layers of width 256, with a byte-level tokenizer trained on the spot: no weights are
needed to measure time, and differences of scores show all the same. The texts are comments of mixed lengths. Detoxify's `predict`
tokenises what it is given, pads it to its longest text, and makes one forward pass and a sigmoid; it is given the texts in order,
32 at a time, and, as the second way, all at once. It is written out here, since the package would load its own weights.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.utils import logging

import phf.scorers
from annotation import Rows, documentation, interleaved, row

TEXTS, ROUNDS = 256, 3


def make_model(folder: Path, texts: list[str]) -> None:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "initializer_range": 0.1,
    }
    numbers = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 1, "max_position_embeddings": 514, "type_vocab_size": 1}
    labels = {"id2label": {0: "toxicity", 1: "obscene"}, "label2id": {"toxicity": 0, "obscene": 1}}
    config = RobertaConfig(problem_type="multi_label_classification", **sizes, **numbers, **labels)
    RobertaForSequenceClassification(config).save_pretrained(folder)


def detoxify(folder: Path, batch: int) -> Callable[[list[str]], np.ndarray]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.no_grad()
    def predict(texts: list[str]) -> np.ndarray:
        inputs = tokenizer(texts, return_tensors="pt", truncation=True, padding=True)
        return torch.sigmoid(model(**inputs)[0]).numpy()[:, 0]

    return lambda texts: np.concatenate([predict(texts[start : start + batch]) for start in range(0, len(texts), batch)])


def classifier(data: Path) -> Rows:
    """Comments, or docstrings where the comments are not there."""
    path = data / "toxicity" / "labels.parquet"
    if path.exists():
        source = pq.read_table(path, filters=[("source", "=", "jigsaw")]).column("text").to_pylist()
    else:
        source = documentation(3_000_000)
    texts = [source[place] for place in np.random.default_rng(0).permutation(len(source))[:TEXTS]]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, source[:5000])
        lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]]
        texts = [text for text, length in zip(texts, lengths) if length <= 512]  # Detoxify leaves out what is beyond
        lengths = [length for length in lengths if length <= 512]
        scorer = phf.scorers.load("classifier", model=str(folder), device="cpu")
        ways = {"ours": scorer.score, "32 at a time": detoxify(folder, 32), "all at once": detoxify(folder, len(texts))}
        scores = {way: run(texts) for way, run in ways.items()}
        best = interleaved({way: lambda run=run: run(texts) for way, run in ways.items()}, ROUNDS)
    about = f"{len(texts)} texts of {int(np.median(lengths))} tokens in the middle, up to {max(lengths)}"
    for way in list(ways)[1:]:
        against = f"Detoxify's predict on the same model, {about}"
        yield row(f"classifier: against Detoxify, {way}", best[way] / best["ours"], "x", against, ">= 3")
    difference = max(float(np.abs(scores["ours"] + scores[way]).max()) for way in list(ways)[1:])
    against = f"Detoxify's predict, whose scores span {np.ptp(scores['ours']):.2f}"
    yield row("classifier: largest difference", difference, "", against, "<= 1e-5")
