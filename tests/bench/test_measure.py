"""One item: comparison of quantities, ratios, missing packages, steps."""

import pytest
import torch
from torch import Tensor, nn

from passband._checks import import_extra
from passband.bench import Arm, Bar, Budget, Call, Case, Item, Setting, measure
from passband.bench.item import Other, loss_call, loss_case
from passband.bench.items.steps import Training, step_case
from passband.bench.measure import DifferenceError
from passband.bench.rivals import ptwt
from passband.regularization import PixelLoss, SpectralRegularizer

ONCE = Budget(repeats=2)


def l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().flatten(1).mean(1)


def half_l1(x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * l1(x, y)


def other_gradient(x: Tensor, y: Tensor) -> Tensor:
    return l1(x, y).detach() + 0 * x.sum()


def item(*others: Other) -> Item:
    return Item(
        "a/b", lambda setting: loss_case(l1, setting.pair((2, 1, 8)), others, bars=(Bar("kept", 1.0, most=True),))
    )


def test_what_is_reported_of_a_loss():
    same = Other("same", lambda: l1, Bar("ratio", 1e-9, 1e9))
    ours, rival, squared = measure(item(same), Setting(), ONCE).arms
    assert (ours.kind, rival.kind, squared.kind) == ("ours", "rival", "floor")
    assert ours.kept == rival.kept == 1  # the difference, for the sign
    assert ours.kept_bytes == 64
    assert rival.deviation == 0
    assert rival.ratio == pytest.approx(rival.ms / ours.ms)
    assert [check.verdict for check in (*ours.checks, *rival.checks)] == ["met", "met"]
    assert rival.checks[0].value == rival.ratio
    assert 0 < rival.forward_ms < rival.ms


def test_quantities_that_differ_are_an_error():
    with pytest.raises(DifferenceError, match=r"half and passband should compute the same, but differ by 0\.5"):
        measure(item(Other("half", lambda: half_l1)), Setting(), ONCE)


def test_gradients_that_differ_are_an_error():
    with pytest.raises(DifferenceError, match="the gradients of wrong and passband differ by 1 "):
        measure(item(Other("wrong", lambda: other_gradient)), Setting(), ONCE)


def test_what_is_stated_to_differ_is_not_compared():
    others = (
        Other("half", lambda: half_l1, differs="half of it"),
        Other("wrong", lambda: other_gradient, same_gradient=False),
    )
    _, half, wrong, _ = measure(item(*others), Setting(), ONCE).arms
    assert (half.deviation, half.differs) == (None, "half of it")
    assert wrong.deviation == 0


def test_nan_is_a_difference():
    broken = Other("broken", lambda: lambda x, y: l1(x, y) * float("nan"))
    with pytest.raises(DifferenceError, match="nan"):
        measure(item(broken), Setting(), ONCE)


def test_another_shape_is_a_difference():
    x = torch.ones(2, 3)
    arms = (Arm("ours", Call(lambda: x), "ours"), Arm("flat", Call(lambda: x.flatten())))
    with pytest.raises(DifferenceError, match="inf"):
        measure(Item("a", lambda _: Case(arms)), Setting(), ONCE)


def test_a_missing_package_is_a_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "ptwt", None)
    _, rival, _ = measure(item(Other("ptwt", lambda: ptwt.l1("haar", 1))), Setting(), ONCE).arms
    assert rival.ms is None
    assert "pip install 'passband[bench]'" in rival.missing


def test_a_package_that_fails_at_its_import_leaves_our_row():
    def make():
        raise AttributeError("no such thing in /home/someone/lib/x.py")

    ours, rival, _ = measure(item(Other("x", make, Bar("ratio", 2.0))), Setting(), ONCE).arms
    assert ours.ms > 0
    assert rival.missing == "broken: AttributeError: no such thing in x.py"
    assert rival.unchecked == 1


def test_an_installed_package_that_cannot_be_imported_is_broken(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "brokenpackage.py").write_text("from math import nothing_such")
    monkeypatch.syspath_prepend(tmp_path)
    _, rival, _ = measure(item(Other("x", lambda: import_extra("brokenpackage", "bench"))), Setting(), ONCE).arms
    assert rival.missing.startswith("broken: the package 'brokenpackage' is installed and cannot be imported")
    assert rival.unchecked is None


def test_bars_of_one_thread_are_left_out_elsewhere():
    bar = Bar("ratio", 2.0, on="cpu")
    assert bar.applies("cpu", 1)
    assert not bar.applies("cpu", 2)
    assert not bar.applies("cuda", 1)
    assert Bar("ratio", 2.0).applies("cuda", 2)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(measure(item(Other("same", lambda: l1, bar)), Setting(), ONCE).arms[1].checks)
    finally:
        torch.set_num_threads(before)
    assert [len(checks) for checks in found] == [1, 0]


def test_a_forward_pass_is_compared_with_ours_alone():
    x = torch.ones(4, requires_grad=True)
    ours = Arm("ours", loss_call(lambda a, b: (a - b).exp(), x, torch.zeros(4)), "ours", leaf=x)
    host = Arm("host", Call(lambda: x.detach().exp().mean()), forward_alone=True)
    first, second = measure(Item("a", lambda _: Case((ours, host), (x,), 16)), Setting(), ONCE).arms
    assert second.ratio == pytest.approx(second.ms / first.forward_ms)
    assert "forward pass alone" in second.differs
    assert second.deviation == 0


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x) + t.reshape(-1, 1, 1)


def test_a_step_updates_and_its_term_counts():
    clean = Setting().noise((2, 1, 16))
    training = Training(Net(), clean, Setting())
    before = training.network.layer.weight.clone()
    base = training.loss()
    training.call()
    assert not torch.equal(before, training.network.layer.weight)
    assert training.network.layer.weight.grad is None
    with_term = Training(Net(), clean, Setting(), SpectralRegularizer(PixelLoss(), weight=1.0))
    with_term.network.load_state_dict({"layer.weight": before, "layer.bias": training.network.layer.bias})
    assert with_term.loss() > 0
    assert base > 0


def test_shares_are_of_the_whole_step():
    losses = {"pixel": PixelLoss()}
    build = lambda setting: step_case(Net(), (2, 1, 16), losses, ("pixel",), setting, forced=False)  # noqa: E731
    step, alone, whole = measure(Item("step/x", build), Setting(), ONCE).arms
    assert (step.kind, alone.kind, whole.kind) == ("step", "share", "with")
    assert alone.ratio == pytest.approx(alone.ms / step.ms)
    assert alone.kept == 1
    assert alone.deviation is None
    assert whole.name == "step with pixel"
