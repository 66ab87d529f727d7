"""Guidance in transformers' `generate` writes what phf's own sampler writes."""

import pytest
import torch

from phf import lm
from phf.integrations.transformers import guidance
from support.checkpoints import CONTROLS, checkpoint

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom"])
@pytest.mark.parametrize("gamma", [0.7, 1.5, 3.0])
def test_transformers_writes_what_phf_writes(tmp_path, kind, gamma):
    loaded = lm.load(str(checkpoint(tmp_path, kind, controls=CONTROLS)))
    sampling = lm.Sampling(top_p=1e-6, min_tokens=4, max_tokens=16, guidance=gamma, ban="all")
    for prompt in ("Call close", "The reader opens the file and", ""):
        tokens = torch.tensor([loaded.encoder.prompt(prompt, "start", 16).tokens])
        output = loaded.model.generate(
            tokens, do_sample=False, max_new_tokens=16, min_new_tokens=4, pad_token_id=0, suppress_tokens=loaded.controls,
            logits_processor=guidance(loaded.model, tokens, *loaded.controls, gamma=gamma),
        )  # fmt: skip
        written = output[0, tokens.shape[1] :].tolist()
        written = written[: written.index(0)] if 0 in written else written
        assert [loaded.tokenizer.decode(written)] == loaded.generate([prompt], sampling)
