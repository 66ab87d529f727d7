"""A model under an objective: one forward pass from tokens and rewards to a loss. The shift by one happens here, once."""

# B sequences, T predicted tokens in each, D width, V vocabulary.

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phf.head import Kernel, Logits, linear_token_loss
from phf.objectives import Objective, ValueKind, complete

log = logging.getLogger("phf")


class Loss(NamedTuple):
    """The outcome of a forward pass.

    Args:
        loss: scalar to call `backward` on.
        facts: scalars worth logging, without gradient: nll, the mean -logprob of the targets; unscored_share, of the targets
            without a reward, document starts among them; where the objective has a threshold, aligned_share, of the scored
            targets that reach it; where it weighs tokens, weight_min, weight_mean, weight_max, weight_ess (effective share of
            the tokens: (sum w)^2 / (N sum w^2)); value_correlation, of the value head with the rewards; and the objective's own.
    """

    loss: Tensor
    facts: dict[str, Tensor]


class Learner(nn.Module):
    """Any causal language model of transformers under any objective.

    The logits are not materialised: the last layer and the loss are one (see `head`). A model whose logits are anything but a
    linear layer of the last hidden state with a scale and a soft cap is recognised (see `has_linear_head`) and trained over its
    full logits.

    Args:
        model: as `AutoModelForCausalLM` makes them.
        objective: with its threshold resolved; a plugin's, too, that defines only a part of `Objective`.
        kernel: of the head, see `phf.head.linear_token_loss`.
    """

    def __init__(self, model: Any, objective: Objective, kernel: Kernel = "torch") -> None:
        super().__init__()
        self.model = model
        self.kernel: Kernel = kernel
        self.objective = objective = complete(objective)
        width = model.get_output_embeddings().weight.shape[1]
        self.value_head = ValueHead(width, objective.value_head) if objective.needs_value else None
        self.logits = _logits_of(model)
        self.fused = has_linear_head(model, self.logits)
        if not self.fused:
            log.warning(
                "%s: its logits are not a linear layer of the last hidden state; full logits are used", type(model).__name__
            )

    @property
    def backbone(self) -> Any:
        """All of the model but its last layer."""
        return self.model.base_model

    def forward(self, tokens: Tensor, rewards: Tensor) -> Loss:
        """Return the objective's loss over all predicted tokens.

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
        scored = ~reward.isnan()
        facts = {"unscored_share": 1 - scored.float().mean(), **self.objective.facts(reward)}
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
def has_linear_head(model: Any, logits: Logits) -> bool:
    """Return whether a model's logits are a linear layer of its last hidden state, scaled and capped as `logits` says.

    Random hidden states take the place of the model's own, with logits of about 1, 30 and 1,000: a cap shows only where logits
    are large, and an untrained model has none. So the answer does not depend on the weights, nor on when it is asked.
    """
    head, backbone = model.get_output_embeddings(), model.base_model
    if not isinstance(head, nn.Linear) or backbone is model:
        return False
    device, (_, width) = head.weight.device, head.weight.shape
    hidden = torch.randn(1, _PROBES, width, generator=torch.Generator().manual_seed(0)).to(device, head.weight.dtype)
    typical = head(hidden).float().std().clamp(min=1e-6)
    was_training = model.training
    model.eval()
    try:
        return all(_is_linear_at(model, hidden * (size / typical).to(hidden.dtype), logits) for size in (1.0, 30.0, 1000.0))
    finally:
        model.train(was_training)


_PROBES = 8  # positions


def _is_linear_at(model: Any, hidden: Tensor, logits: Logits) -> bool:
    """Return whether a model makes of these hidden states, (1, _PROBES, D), the logits that the head does."""

    def replace(module: nn.Module, arguments: Any, output: Any) -> Any:
        if output[0].shape != hidden.shape:
            raise _OtherShape
        output["last_hidden_state"] = hidden.to(output[0].dtype)
        return output

    hook = model.base_model.register_forward_hook(replace)
    try:
        tokens = torch.arange(_PROBES, device=hidden.device)[None] % model.get_input_embeddings().weight.shape[0]
        wanted = model(input_ids=tokens, use_cache=False).logits.float()
    except (_OtherShape, TypeError, KeyError):
        return False
    finally:
        hook.remove()
    computed = model.get_output_embeddings()(hidden).float() * logits.scale
    if logits.softcap is not None:
        computed = logits.softcap * torch.tanh(computed / logits.softcap)
    return torch.allclose(computed, wanted, rtol=1e-3, atol=1e-3 * float(computed.abs().max()))


class _OtherShape(Exception):
    """A backbone's output is not (1, positions, D)."""


def _logits_of(model: Any) -> Logits:
    """Return the scale (Cohere, Granite) and soft cap (Gemma, RecurrentGemma, xLSTM) of the logits in a model's configuration."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    caps = (getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"))
    return Logits(scale, next((float(cap) for cap in caps if cap is not None), None))


class ValueHead(nn.Linear):
    """A hidden state's estimate of the reward of the next token.

    Args:
        width: D.
        kind: `linear`, a linear layer that starts at 0, so that AWR starts as RWR; or `sigmoid`, minus the sigmoid of a linear
            layer without bias, as in the released code of Korbak et al. (2023), which starts at -0.5.
    """

    def __init__(self, width: int, kind: ValueKind = "linear") -> None:
        super().__init__(width, 1, bias=kind == "linear")
        self.kind = kind

    def reset_parameters(self) -> None:
        """Start at zero."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the value (...) of each hidden state (..., D)."""
        value: torch.Tensor = super().forward(hidden).squeeze(-1)
        return value if self.kind == "linear" else -value.sigmoid()
