"""One step of `transformers.Trainer` under each objective has the gradients of our own learner; guidance is its formula."""

import copy

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, Trainer, TrainingArguments

from phf.errors import InputError
from phf.integrations.transformers import ObjectiveLoss, RewardCollator, guidance
from phf.learner import Learner
from phf.objectives import AWR, MLE, RWR, Conditional, Unlikelihood
from support.small_gpt2 import CONTROL_IDS, VOCABULARY, model, own_gradients, rows

OBJECTIVES = [MLE(), Conditional(0.0), Unlikelihood(-0.5), RWR(beta=0.3), AWR(alpha=0.5, beta=0.3)]


def train(trained, loss, data, tmp_path, **changes):
    """One step of plain gradient descent at rate 1 over all rows: the change of the weights is minus the gradient."""
    arguments = {
        "per_device_train_batch_size": len(data), "gradient_accumulation_steps": 1, "max_steps": 1, "max_grad_norm": 0.0,
        "output_dir": str(tmp_path), "remove_unused_columns": False, "report_to": "none", "save_strategy": "no",
        "use_cpu": True, "learning_rate": 1.0, "lr_scheduler_type": "constant", "disable_tqdm": True,
    }  # fmt: skip
    optimizer = torch.optim.SGD(trained.parameters(), lr=1.0)
    trainer = Trainer(
        trained, TrainingArguments(**arguments | changes), data_collator=RewardCollator(0), train_dataset=data,
        compute_loss_func=loss, optimizers=(optimizer, None),
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_of_the_trainer_has_our_gradients(objective, accumulate, tmp_path):
    data = rows()
    theirs = model()
    learner = Learner(copy.deepcopy(theirs), objective)
    loss = ObjectiveLoss(theirs, objective)
    if learner.value_head is not None:
        with torch.no_grad():
            for parameter, own in zip(theirs.value_head.parameters(), learner.value_head.parameters(), strict=True):
                own.copy_(parameter.copy_(torch.full_like(parameter, 0.1)))
    before = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    gradients, outcome = own_gradients(learner, data)
    if isinstance(objective, RWR | AWR):
        assert outcome.facts["weight_max"] / outcome.facts["weight_min"] >= 10
    assert any(np.isnan(row["rewards"][1:]).any() for row in data)

    train(theirs, loss, data, tmp_path, per_device_train_batch_size=4 // accumulate, gradient_accumulation_steps=accumulate)
    after = dict(theirs.named_parameters())
    assert set(gradients) == set(after)
    for name, gradient in gradients.items():
        if gradient is not None:
            torch.testing.assert_close(
                before[name] - after[name], gradient, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in gradients.values())


def test_padding_has_no_loss(tmp_path):
    """Rows of different lengths: the loss is the mean over all predicted tokens, whatever they are padded with."""
    data = rows(lengths=[20, 7, 13, 20])
    trained = model()
    learner = Learner(copy.deepcopy(trained), RWR(beta=0.3))
    sums = [
        learner(torch.tensor([row["input_ids"]]), torch.tensor([row["rewards"]])).loss * (len(row["input_ids"]) - 1)
        for row in data
    ]
    expected = sum(sums) / sum(len(row["input_ids"]) - 1 for row in data)
    loss = ObjectiveLoss(trained, RWR(beta=0.3))
    for pad in (0, 17):
        batch = RewardCollator(pad)(data)
        labels = batch.pop("labels")
        torch.testing.assert_close(loss(trained(**batch), labels), expected.detach(), rtol=1e-5, atol=1e-6)


def test_no_logits_while_training_and_logits_otherwise():
    trained = model()
    loss = ObjectiveLoss(trained, MLE())
    batch = RewardCollator(0)(rows())
    labels = batch.pop("labels")
    assert trained.train()(**batch).logits.shape == (4, 20, 1)
    evaluated = trained.eval()(**batch)
    assert evaluated.logits.shape == (4, 20, VOCABULARY)
    expected = torch.nn.functional.cross_entropy(evaluated.logits[:, :-1].reshape(-1, VOCABULARY), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(loss(evaluated, labels), expected)
    assert trained.generate(torch.zeros(1, 1, dtype=torch.long), max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (
        1,
        4,
    )


def test_a_batch_without_rewards_is_refused(tmp_path):
    trained = model()
    loss = ObjectiveLoss(trained, MLE())
    with pytest.raises(InputError, match="no rewards; expected one reward a token"):
        RewardCollator(0)([{"input_ids": [1, 2]}])
    with pytest.raises(InputError, match="remove_unused_columns=False"):
        loss(trained(input_ids=torch.ones(1, 3, dtype=torch.long)), torch.ones(1, 3, dtype=torch.long))


def test_guidance_is_its_formula():
    guided = model(seed=1).eval()
    prompt = torch.tensor([[0, 58, 5], [0, 58, 9]])
    processors = guidance(guided, prompt, *CONTROL_IDS, gamma=2.5)
    assert isinstance(processors, LogitsProcessorList)
    written = guided.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=6,
        do_sample=False,
        logits_processor=processors,
        pad_token_id=0,
        eos_token_id=None,
    )
    with torch.no_grad():
        text = prompt
        for _ in range(6):
            other = torch.where(text == 58, 59, text)
            good, bad = (guided(ids).logits[:, -1].log_softmax(-1) for ids in (text, other))
            text = torch.cat([text, (2.5 * good - 1.5 * bad).argmax(-1, keepdim=True)], dim=1)
    assert written.tolist() == text.tolist()
    with pytest.raises(InputError, match="no token 58"):
        guidance(guided, torch.tensor([[0, 5]]), *CONTROL_IDS, gamma=2.0)
