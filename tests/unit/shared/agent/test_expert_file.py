import torch

from components.shared.agent.expert_file import pack_experts, unpack_experts


def test_experts_come_back_within_half_a_step_and_where_they_change_nothing_exactly():
    generator = torch.Generator().manual_seed(0)
    z = [{path: 1 + 0.3 * torch.randn(9, generator=generator) for path in "ab"} for _ in range(2)]
    del z[1]["b"]
    tensors = pack_experts(z)
    assert tensors["a"].dtype == torch.int8 and tensors["a"].shape == (2, 9)
    first, second = unpack_experts(tensors, ["x", "y"]).values()
    assert torch.equal(second["b"], torch.ones(9))
    for was, now, step in ((z[0], first, tensors["scale"][0]), (z[1], second, tensors["scale"][1])):
        assert all((was[path] - now[path]).abs().max() <= 0.501 * step for path in was)
        assert step == max((v - 1).abs().max() for v in was.values()) / 127


def test_no_experts_are_no_tensors():
    assert pack_experts([]) == {} and unpack_experts({}, []) == {}
