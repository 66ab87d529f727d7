"""A model under an objective: one forward pass from tokens and rewards to a loss. The shift by one happens here, once."""

# B sequences, T predicted tokens in each, D width, V vocabulary.

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phf.head import Kernel, Logits, linear_token_loss
from phf.objectives import Objective

log = logging.getLogger("phf")


class Loss(NamedTuple):
    """What a forward pass gives.

    Args:
        loss: scalar to call `backward` on.
        facts: scalars worth logging, without gradient: nll, the mean -logprob of the targets; where the objective has a
            threshold, aligned_share, of the scored tokens that reach it; where it weighs tokens, weight_min, weight_mean,
            weight_max, weight_ess (effective share of the tokens: (sum w)^2 / (N sum w^2)), and value_correlation, of the value
            head with the rewards.
    """

    loss: Tensor
    facts: dict[str, Tensor]


class Learner(nn.Module):
    """Any causal language model of transformers under any objective.

    The logits are not materialised: the last layer and the loss are one (see `head`). A model whose last steps are not a linear
    layer with a scale and a soft cap is noticed by comparing both ways on a few tokens, and trained over its full logits.

    Args:
        model: as `AutoModelForCausalLM` makes them.
        objective: with its threshold resolved.
        kernel: of the head, see `phf.head.linear_token_loss`.
    """

    def __init__(self, model: Any, objective: Objective, kernel: Kernel = "torch") -> None:
        super().__init__()
        self.model = model
        self.kernel: Kernel = kernel
        self.objective = objective
        self.value_head = ValueHead(model.get_output_embeddings().weight.shape[1]) if objective.needs_value else None
        self.logits = _logits_of(model)
        self.fused = self._head_is_linear()
        if not self.fused:
            log.warning(
                "%s: its logits are not a linear layer of the last hidden state; full logits are used", type(model).__name__
            )

    @property
    def backbone(self) -> Any:
        """All of the model but its last layer."""
        return self.model.base_model

    def forward(self, tokens: Tensor, rewards: Tensor) -> Loss:
        """Give the objective's loss over all predicted tokens.

        Args:
            tokens: (B, T + 1) int64.
            rewards: (B, T + 1), of each token's segment; NaN where it has none.
        """
        targets, reward = tokens[:, 1:].reshape(-1), rewards[:, 1:].reshape(-1)
        value_head = self.value_head if self.objective.needs_value else None
        if self.fused:
            hidden = self.backbone(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        else:
            output = self.model(input_ids=tokens[:, :-1], use_cache=False, output_hidden_states=value_head is not None)
            hidden = output.hidden_states[-1] if value_head is not None else None
        value = None if value_head is None else value_head(hidden.float()).reshape(-1)
        columns = (reward,) if value is None else (reward, value)
        total = torch.zeros((), dtype=torch.float64 if tokens.device.type == "cpu" else torch.float32, device=tokens.device)

        def token_loss(logprob: Tensor, *columns: Tensor) -> Tensor:
            total.sub_(logprob.detach().sum())
            return self.objective.token_loss(logprob, *columns)

        if self.fused:
            head = self.model.get_output_embeddings()
            loss = linear_token_loss(
                hidden.reshape(-1, hidden.shape[-1]), head.weight, targets, token_loss, *columns,
                bias=getattr(head, "bias", None), logits=self.logits, kernel=self.kernel,
            )  # fmt: skip
        else:
            logits = output.logits.reshape(-1, output.logits.shape[-1]).float()
            logprob = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
            loss = token_loss(logprob, *columns).mean()
        return Loss(loss, {"nll": total / len(targets), **self._spread(reward, value)})

    @torch.no_grad()
    def _spread(self, reward: Tensor, value: Tensor | None) -> dict[str, Tensor]:
        """Describe what the objective sees in the rewards: the share above its threshold, the weights it gives to tokens."""
        facts, scored = {}, ~reward.isnan()
        if (aligned := self.objective.is_aligned(reward)) is not None:
            facts["aligned_share"] = aligned.sum() / scored.sum().clamp(min=1)
        if (weight := self.objective.weight(reward, value)) is not None:
            facts |= {
                "weight_min": weight.min(),
                "weight_mean": weight.mean(),
                "weight_max": weight.max(),
                "weight_ess": weight.sum().square() / (len(weight) * weight.square().sum()),
            }
        if value is not None and int(scored.sum()) > 1:
            facts["value_correlation"] = torch.corrcoef(torch.stack([reward[scored], value[scored]]))[0, 1].nan_to_num(0.0)
        return facts

    @torch.no_grad()
    def _head_is_linear(self) -> bool:
        """Compare the logits made from the last hidden state with the model's own, on a few tokens."""
        head, backbone = self.model.get_output_embeddings(), self.model.base_model
        if not isinstance(head, nn.Linear) or backbone is self.model:
            return False
        was_training = self.model.training
        self.model.eval()
        tokens = torch.arange(min(8, head.weight.shape[0]), device=head.weight.device)[None]
        wanted = self.model(input_ids=tokens, use_cache=False).logits.float()
        hidden = backbone(input_ids=tokens, use_cache=False).last_hidden_state
        self.model.train(was_training)
        if hidden.shape[-1] != head.weight.shape[1]:
            return False
        made = head(hidden).float() * self.logits.scale
        if self.logits.softcap is not None:
            made = self.logits.softcap * torch.tanh(made / self.logits.softcap)
        return torch.allclose(made, wanted, rtol=1e-3, atol=1e-3)


def _logits_of(model: Any) -> Logits:
    """Read from a configuration what the model does to its logits: Cohere and Granite scale them, Gemma caps them."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    return Logits(scale, None if softcap is None else float(softcap))


class ValueHead(nn.Linear):
    """A linear layer from a hidden state to the reward expected of the next token. It starts at 0: AWR starts as RWR."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def reset_parameters(self) -> None:
        """Start at zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Give the value (...) of each hidden state (..., D)."""
        value: torch.Tensor = super().forward(hidden).squeeze(-1)
        return value
