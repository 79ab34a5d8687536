"""Following up several first tokens, against a search through all of them."""

import torch

from components.shared.evaluation.branching import branch
from components.shared.evaluation.sampling import sample_answers
from tests.unit.shared.models.variants import cognate

EOS, LIMIT = 258, 4


def log_p(model, prompt, path):
    logits = model(torch.tensor([[*prompt, *path]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(path))


def test_the_likeliest_of_all_followed_up_first_tokens_wins():
    model = cognate()
    prompts = [[257, 7, 8], [257, 9], [257, 65, 66, 67]]
    with torch.no_grad():
        found = branch(model, prompts, stops=(EOS,), limit=LIMIT, width=5)
        for prompt, path in zip(prompts, found, strict=True):
            firsts = model(torch.tensor([prompt])).logits[0, -1].topk(5).indices.tolist()
            tails = sample_answers(
                model, [[*prompt, t] for t in firsts], stops=(EOS,), limit=LIMIT - 1, temperature=0.0
            )
            every = [[t] if t == EOS else [t, *tail] for t, tail in zip(firsts, tails, strict=True)]
            assert path == max(every, key=lambda one: log_p(model, prompt, one))
            greedy = sample_answers(model, [prompt], stops=(EOS,), limit=LIMIT, temperature=0.0)[0]
            assert log_p(model, prompt, path) >= log_p(model, prompt, greedy) - 1e-4


def test_one_branch_is_greedy_decoding():
    model, prompts = cognate(), [[257, 7, 8], [257, 9]]
    assert branch(model, prompts, stops=(EOS,), limit=LIMIT, width=1) == sample_answers(
        model, prompts, stops=(EOS,), limit=LIMIT, temperature=0.0
    )
