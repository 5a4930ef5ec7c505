"""The switch between ways to compute, and what takes plain autograd by itself."""

import os
import subprocess
import sys
import threading

import pytest
import torch

import passband
from passband import _backend
from passband._backend import backend, by_hand, by_triton


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8)


def test_the_default_writes_gradients_by_hand(x):
    assert by_hand(x)
    assert not by_triton(x)


def test_plain_holds_within_and_not_after(x):
    with backend("plain"):
        assert not by_hand(x)
        with backend("torch"):
            assert by_hand(x)
        assert not by_hand(x)
    assert by_hand(x)


def test_the_choice_ends_with_an_error(x):
    with pytest.raises(RuntimeError, match="inside"), backend("plain"):
        raise RuntimeError("inside")
    assert by_hand(x)


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="auto, plain, torch, triton; got 'numpy'"):
        backend("numpy")


def test_it_has_a_name_at_the_top():
    assert passband.backend is backend


@pytest.mark.parametrize(("name", "hand"), [("plain", "False"), ("auto", "True"), ("", "True")])
def test_the_environment_chooses_for_a_program(name, hand):
    code = "import torch; from passband._backend import by_hand; print(by_hand(torch.ones(1)))"
    assert _run(code, name).stdout.strip() == hand


def test_an_unknown_name_in_the_environment_is_an_error():
    result = _run("import passband._backend", "fast")
    assert result.returncode != 0
    assert "PASSBAND_BACKEND must be one of auto, plain, torch, triton; got 'fast'" in result.stderr


def _run(code, name):
    environment = {**os.environ, "PASSBAND_BACKEND": name}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_functional_transforms_take_plain_autograd(x):
    seen = []
    torch.func.grad(lambda y: (seen.append(by_hand(y)), y.sum())[1])(x)
    assert seen == [False]


def test_forward_mode_takes_plain_autograd(x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        assert not by_hand(dual)
        assert by_hand(x)


def test_compiled_code_takes_plain_autograd(x):
    def where(y):
        return y + 1 if by_hand(y) else y - 1

    assert torch.equal(torch.compile(where, backend="eager")(x), x - 1)


def test_triton_without_a_gpu_says_what_to_do(x, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(_backend, "find_triton", lambda: True)
    with backend("triton"), pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        by_triton(x)


def test_triton_that_is_missing_says_what_to_install(x, monkeypatch):
    monkeypatch.setattr(_backend, "find_triton", lambda: False)
    with backend("triton"), pytest.raises(ValueError, match="pip install triton"):
        by_triton(x)


def test_triton_does_not_compute_in_float64(x, monkeypatch):
    monkeypatch.setattr(_backend, "find_triton", lambda: True)
    with backend("triton"), pytest.raises(ValueError, match="float64"):
        by_triton(x.double())


def test_importing_loads_no_triton():
    code = "import sys, torch; from passband import AmplitudeLoss, WaveletLoss; x = torch.ones(1, 1, 8, 8); "
    code += "AmplitudeLoss()(x, x); WaveletLoss()(x, x); print('triton' in sys.modules)"
    assert _run(code, "auto").stdout.strip() == "False"


def test_plain_autograd_of_one_thread(x):
    seen = []
    with _backend.plain_here():
        thread = threading.Thread(target=lambda: seen.append(by_hand(x)))
        thread.start()
        thread.join()
        assert not by_hand(x)
    assert by_hand(x)
    assert seen == [True]


def test_batched_gradients_take_plain_autograd(x):
    seen = []

    def twice(y):
        seen.append(by_hand(y))
        return y

    torch._vmap_internals._vmap(twice)(x)
    assert seen == [False]
