"""Singular value fine-tuning by REINFORCE (Transformer², Sun et al., arXiv 2501.06252).

    J(z) = E[ r · log π_z(y | x) ] − λ · KL(π_z ‖ π_base)          r = +1 where the answer is right, else −1

Of every question several answers are sampled. The baseline of each is the mean reward of the others (leave-one-out, Kool
et al. 2019), which leaves the gradient unbiased; without any the paper's recipe needs far more steps. The KL is taken in
full over the vocabulary at every sampled position. The vectors start at z = 1, which is the base itself (the paper draws
them from N(.1, 1e-3), so that its experts start elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import sample_answers
from components.shared.models.remote_code.experts import set_expert
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import padding_id, prompt_ids, stop_ids, text_of
from components.shared.training.head import Head, hidden_states, over_chunks

SMALLEST = 16
"""Thinner matrices are gates; there is little to weigh in them."""


def matrices(model: PreTrainedModel) -> dict[str, int]:
    """The layers that experts weigh: every linear layer but the output head and the thoughts' mixing head.

    :returns: module path → length of z.
    """
    head = model.get_output_embeddings()
    sizes = {}
    for path, module in model.named_modules():
        linear = isinstance(module, nn.Linear) or hasattr(module, "in_features")
        if linear and module is not head and "talk_head" not in path.split("."):
            size = min(module.in_features, module.out_features)
            if size >= SMALLEST:
                sizes[path] = size
    return sizes


class ExpertVectors(nn.Module):
    """The z of one expert, as parameters. Parameter names cannot hold dots: they are numbered."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.paths = list(sizes)
        self.z = nn.ParameterList(torch.ones(size) for size in sizes.values())

    def as_expert(self) -> dict[str, Tensor]:
        """Module path → z."""
        return dict(zip(self.paths, self.z, strict=True))


def leave_one_out(rewards: Tensor) -> Tensor:
    """Advantages: each reward minus the mean of the others to the same question.

    :param rewards: (questions, samples).
    :returns: (questions, samples).
    """
    others = (rewards.sum(-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)
    return rewards - others


def surrogate(log_p: Tensor, advantages: Tensor) -> Tensor:
    """The loss whose gradient is the negative policy gradient.

    :param log_p: (n,) log-probabilities of whole answers.
    :param advantages: (n,), constants.
    :returns: scalar.
    """
    return -(advantages.detach() * log_p).mean()


class Rows(NamedTuple):
    """Right-padded prompts and answers.

    input_ids, attention_mask  (B, T) int64
    predicts                   (B, T) bool: the logits here predict a token of the answer, its <eos> included
    targets                    (B, T) int64: that token
    """

    input_ids: Tensor
    attention_mask: Tensor
    predicts: Tensor
    targets: Tensor


def rows(prompts: Sequence[list[int]], answers: Sequence[list[int]], padding: int) -> Rows:
    """Prompts with their answers.

    :param prompts: token ids.
    :param answers: token ids, as many.
    :param padding: id that fills rows up.
    """
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(prompts), width + 1), padding)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    predicts = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        predicts[row, len(prompt) - 1 : end - 1] = True
    return Rows(ids[:, :-1], mask, predicts, ids[:, 1:])


def answer_states(model: nn.Module, batch: Rows) -> tuple[Tensor, Head]:
    """What the model knows where it predicts the answers, with gradients.

    :returns: (n, d) hidden states at the n positions that predict an answer, row by row, and the head.
    """
    device = next(model.parameters()).device
    hidden = hidden_states(model, batch.input_ids.to(device), batch.attention_mask.to(device))
    return hidden.last[batch.predicts.to(device)], hidden.head


def against_base(hidden: Tensor, head: Head, base: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens, and how far the distributions that they are from are from the base's.

    :param hidden: (n, d) of the expert.
    :param head: of both.
    :param base: (n, d) of the base, constants.
    :param targets: (n,) int64.
    :returns: (n,) log p in nats, and (n,) KL(expert ‖ base).
    """

    def both(logits: Tensor, of_base: Tensor, expected: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, dim=-1)
        with torch.no_grad():
            log_q = F.log_softmax(head(of_base), dim=-1)
        divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        return torch.stack([log_p.gather(-1, expected[:, None])[:, 0], divergence], dim=1)

    found = over_chunks(hidden, head, both, base, targets)
    return found[:, 0], found[:, 1]


def of_answers(log_p: Tensor, batch: Rows) -> Tensor:
    """Log-probabilities of whole answers.

    :param log_p: (n,) of their tokens.
    :returns: (B,).
    """
    row = batch.predicts.nonzero()[:, 0].to(log_p.device)
    return log_p.new_zeros(len(batch.predicts)).index_add(0, row, log_p)


def reinforce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    vectors: ExpertVectors,
    items: Sequence[Item],
    is_right: Callable[[Sequence[Item], Sequence[str]], Tensor],
    *,
    samples: int,
    limit: int,
    kl_weight: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one step, with the graph of z.

    :param items: the questions of the step.
    :param is_right: (items, texts) → (n,) bool.
    :param samples: answers to each question.
    :param limit: tokens of an answer at most.
    :param kl_weight: λ, of the divergence from the base.
    :param generator: of the sampling, on the CPU.
    :returns: the loss, and `success`, the share of right answers, and `kl` to the base in nats a token.
    """
    prompts = [prompt for prompt in prompt_ids(items, tokenizer) for _ in range(samples)]
    set_expert(model, vectors.as_expert())
    stops = stop_ids(tokenizer, model)
    answers = sample_answers(model, prompts, stops=stops, limit=limit, temperature=1.0, generator=generator)
    texts = [text_of(ids, tokenizer, stops) for ids in answers]
    success = is_right([item for item in items for _ in range(samples)], texts).float()
    advantages = leave_one_out((2 * success - 1).view(len(items), samples)).flatten()
    batch = rows(prompts, answers, padding_id(tokenizer))
    set_expert(model, None)
    with torch.no_grad():
        base, _ = answer_states(model, batch)
    set_expert(model, vectors.as_expert())
    hidden, head = answer_states(model, batch)
    log_p, apart = against_base(hidden, head, base, batch.targets[batch.predicts].to(hidden.device))
    divergence = apart.mean()
    loss = surrogate(of_answers(log_p, batch), advantages.to(log_p.device)) + kl_weight * divergence
    set_expert(model, None)
    return loss, {"success": float(success.mean()), "kl": float(divergence.detach())}


def svf_optimizer(vectors: ExpertVectors, lr: float) -> torch.optim.AdamW:
    """AdamW, as in the paper. No weight decay: it would pull z to 0, which is no base."""
    return torch.optim.AdamW(vectors.parameters(), lr=lr, weight_decay=0.0)


def stored_expert(vectors: ExpertVectors) -> dict[str, Any]:
    """Module path → z in float16, as it is stored and used from here on."""
    return {path: z.detach().half() for path, z in vectors.as_expert().items()}
