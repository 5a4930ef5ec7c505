"""What autograd saves, by operations whose saved tensors are known."""

import torch
from torch import Tensor

from passband.bench import Call, kept_bytes
from passband.bench.item import loss_call, operator_call


def leaf(*shape: int) -> Tensor:
    return torch.ones(shape, requires_grad=True)


def test_inputs_do_not_count():
    x, y = leaf(16), torch.ones(16)
    assert kept_bytes(Call(lambda: (x * y).sum()), [x, y]) == 0
    assert kept_bytes(Call(lambda: (x * y).sum()), [x]) == 64  # x * y keeps y, for the gradient in x


def test_a_storage_counts_once_and_whole():
    x = leaf(16)

    def views() -> Tensor:
        y = x.exp()  # keeps y itself
        return (y[:4] * y[4:8]).sum()  # and two views of it

    assert kept_bytes(Call(views), [x]) == 64


def test_a_linear_map_keeps_nothing():
    x = leaf(16)
    assert kept_bytes(Call(lambda: (3 * x).sum()), [x]) == 0


def test_a_graph_within_the_forward_pass_does_not_count():
    x = leaf(16)

    def nested() -> Tensor:
        inner = torch.ones(16, requires_grad=True)
        inner.exp().sum().backward()
        return (x * inner.grad).sum()  # keeps the gradient alone

    assert kept_bytes(Call(nested), [x]) == 64


def test_the_backward_pass_runs():
    x = leaf(4)
    call = loss_call(lambda a, b: (a - b).square(), x, torch.zeros(4))
    assert kept_bytes(call, [x]) == 16  # the difference
    assert torch.equal(x.grad, torch.full((4,), 0.5))


def test_calls_make_the_gradient_anew():
    x, grad = leaf(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    call = operator_call(lambda z: 2 * z, x, grad)
    call()
    call()
    assert torch.equal(x.grad, 2 * grad)
