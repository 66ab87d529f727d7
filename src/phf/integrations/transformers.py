"""The objectives for `transformers.Trainer` and TRL's `SFTTrainer`, on the fused head; guidance for `generate`.

The rewards travel in the batch: the collator pads them, a hook takes them out before the model sees its inputs, and the loss
function reads them. While training, the last layer is not applied: the loss is computed from its input by `phf.head`.
"""

# B sequences, T tokens of the longest, D width, V vocabulary.

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from phf.errors import InputError
from phf.head import linear_token_loss
from phf.learner import Learner
from phf.objectives import Objective

IGNORED = -100
"""A label without a loss, as everywhere in transformers."""


class RewardCollator:
    """A data collator for rows of `phf export --to datasets`: input_ids and rewards, padded on the right.

    Args:
        pad_token_id: any token; padding is masked and has no loss.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return input_ids, attention_mask, labels (B, T) int64 and rewards (B, T) float32.

        The first token of a row is predicted by nothing, so its label is ignored.

        Raises:
            InputError: for a row without rewards, or with another number of them than of tokens.
        """
        for row in features:
            if len(row.get("rewards", ())) != len(row["input_ids"]):
                found = f"{len(row['rewards'])} rewards for {len(row['input_ids'])} tokens" if "rewards" in row else "no rewards"
                raise InputError(
                    f"a row has {found}; expected one reward a token. Export with `phf export --to datasets`, and set "
                    "remove_unused_columns=False in the trainer's arguments and no truncation"
                )
        longest = max(len(row["input_ids"]) for row in features)
        tokens = torch.full((len(features), longest), self.pad_token_id)
        labels = torch.full_like(tokens, IGNORED)
        mask = torch.zeros_like(tokens)
        rewards = torch.full((len(features), longest), float("nan"))
        for number, row in enumerate(features):
            size = len(row["input_ids"])
            tokens[number, :size] = labels[number, :size] = torch.as_tensor(row["input_ids"])
            rewards[number, :size] = torch.as_tensor(row["rewards"], dtype=torch.float32)
            mask[number, :size] = 1
        labels[:, 0] = IGNORED
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels, "rewards": rewards}


class ObjectiveLoss:
    """A `compute_loss_func` that trains a model under an objective.

    The model is prepared in place: its hooks take the rewards out of the batch and, while it trains, its last layer passes the
    hidden states to the loss; in evaluation mode it returns logits as ever. A value head becomes a module of the model, so that
    the trainer optimises and saves it. A model whose logits are no linear layer of its hidden states is trained over its logits.

    Args:
        model: as `AutoModelForCausalLM` makes them, with its control tokens in the embeddings.
        objective: with its threshold as a number, not a quantile.
    """

    def __init__(self, model: Any, objective: Objective) -> None:
        learner = Learner(model, objective)
        self._objective, self._logits, self._fused = learner.objective, learner.logits, learner.fused
        self._head: Any = model.get_output_embeddings()
        self._rewards: Tensor | None = None
        self._hidden: Tensor | None = None
        self._value_head = learner.value_head
        if self._value_head is not None:
            model.value_head = self._value_head.to(self._head.weight.device)
        model.register_forward_pre_hook(self._take_rewards, with_kwargs=True)
        self._head.register_forward_pre_hook(self._take_hidden)
        if self._fused:
            self._apply_head = self._head.forward
            self._head.forward = self._pass_through

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the batch that the model has just read: the objective's, summed over labels, over their number.

        Args:
            outputs: of the model; its logits are read only where the head cannot be fused.
            labels: (B, T) int64, shifted here.
            num_items_in_batch: labels of all batches that are accumulated; those of this one if None.

        Raises:
            InputError: if the batch had no rewards.
        """
        if self._rewards is None or self._hidden is None:
            raise InputError(
                "the batch has no rewards: use RewardCollator and set remove_unused_columns=False in the trainer's arguments"
            )
        targets = labels[:, 1:].reshape(-1)
        counted = targets != IGNORED
        rewards = self._rewards[:, 1:].reshape(-1)[counted]
        hidden = self._hidden[:, :-1].reshape(-1, self._hidden.shape[-1])[counted]
        targets = targets[counted]
        columns = (rewards,) if self._value_head is None else (rewards, self._value_head(hidden.float()).reshape(-1))
        if self._fused:
            weight, bias = self._head.weight, getattr(self._head, "bias", None)
            mean = linear_token_loss(
                hidden, weight, targets, self._objective.token_loss, *columns, bias=bias, logits=self._logits
            )
        else:
            logits = outputs.logits[:, :-1].reshape(-1, outputs.logits.shape[-1])[counted].float()
            logprob = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
            mean = self._objective.token_loss(logprob, *columns).mean()
        self._rewards = self._hidden = None
        return mean if num_items_in_batch is None else mean * len(targets) / num_items_in_batch

    def _take_rewards(self, model: nn.Module, arguments: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Keep the rewards of a batch, and give the model its other inputs."""
        if "rewards" in inputs:
            self._rewards = inputs["rewards"]
        return arguments, {name: value for name, value in inputs.items() if name != "rewards"}

    def _take_hidden(self, head: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._hidden = arguments[0]

    def _pass_through(self, hidden: Tensor) -> Tensor:
        """Stand in for the last layer: one number a token while the model trains, so that no logits are made."""
        if self._head.training and torch.is_grad_enabled():
            return hidden[..., :1]
        result: Tensor = self._apply_head(hidden)
        return result


def guidance(model: Any, input_ids: Tensor, control_id: int, other_id: int, gamma: float) -> Any:
    """Return a logits processor for `model.generate`: sample from gamma * log p(aligned) - (gamma - 1) * log p(misaligned).

    For the simple case: one control token in the prompt, none generated. `phf.lm` guides in all others.

    Args:
        model: the model that generates.
        input_ids: (B, T) prompts of one length with the control token, as `generate` is called with.
        control_id, other_id: the control token of the prompts, and the one to be guided away from.
        gamma: 1 is no guidance.

    Raises:
        InputError: if a prompt has no control token.
    """
    from transformers import LogitsProcessorList, UnbatchedClassifierFreeGuidanceLogitsProcessor

    if not bool((input_ids == control_id).any(dim=1).all()):
        raise InputError(f"a prompt has no token {control_id}; guidance replaces the control token of each prompt by {other_id}")
    other = torch.where(input_ids == control_id, other_id, input_ids)
    processor: Any = UnbatchedClassifierFreeGuidanceLogitsProcessor
    return LogitsProcessorList([processor(gamma, model, unconditional_ids=other)])
