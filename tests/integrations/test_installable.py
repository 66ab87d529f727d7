"""Libraries that are not in CI's environment read what phf writes: `make test-integrations` installs them and runs these."""

import copy

import numpy as np
import pytest
import torch

from phf.export import export
from phf.integrations.transformers import ObjectiveLoss, RewardCollator
from phf.learner import Learner
from phf.objectives import AWR, RWR
from support import tiny_corpora as tiny
from support.small_gpt2 import model, own_gradients, rows
from support.views import CONDITIONAL, our_view


def test_megatron_core_reads_back_our_view(tmp_path):
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="run `make test-integrations`")
    store = tiny.token_store(tmp_path, tiny.documents(60))
    export(store, tmp_path / "out", CONDITIONAL, "megatron")
    dataset = indexed_dataset.IndexedDataset(str(tmp_path / "out"))
    tokens, _ = our_view(store, CONDITIONAL)
    assert len(dataset) == len(dataset.document_indices) - 1 > 40
    np.testing.assert_array_equal(np.concatenate([dataset[number] for number in range(len(dataset))]), tokens)


@pytest.mark.parametrize("objective", [RWR(beta=0.3), AWR(alpha=0.5, beta=0.3)], ids=["rwr", "awr"])
def test_a_step_of_sft_trainer_has_our_gradients(objective, tmp_path):
    trl = pytest.importorskip("trl", reason="run `make test-integrations`")
    import datasets
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({str(number): number for number in range(60)}, unk_token="0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="0", bos_token="0")
    trained = model()
    learner = Learner(copy.deepcopy(trained), objective)
    loss = ObjectiveLoss(trained, objective)
    if learner.value_head is not None:
        learner.value_head.load_state_dict(trained.value_head.state_dict())
    before = {name: parameter.detach().clone() for name, parameter in trained.named_parameters()}
    data = rows()
    gradients, _ = own_gradients(learner, data)
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=len(data), max_steps=1, max_grad_norm=0.0, report_to="none",
        save_strategy="no", use_cpu=True, learning_rate=1.0, lr_scheduler_type="constant", bf16=False, disable_tqdm=True,
        remove_unused_columns=False, max_length=None, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trl.SFTTrainer(
        trained, arguments, train_dataset=datasets.Dataset.from_list(data), data_collator=RewardCollator(0),
        compute_loss_func=loss, processing_class=tokenizer, optimizers=(torch.optim.SGD(trained.parameters(), lr=1.0), None),
    ).train()  # fmt: skip
    compared = 0
    for name, parameter in trained.named_parameters():
        if gradients.get(name) is not None:
            torch.testing.assert_close(before[name] - parameter, gradients[name], rtol=1e-4, atol=2e-6)
            compared += 1
    assert compared > 20
