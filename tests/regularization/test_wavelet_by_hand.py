"""The wavelet loss with its gradient by hand against the plain formula and autograd."""

from contextlib import nullcontext
from threading import Thread

import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from passband import backend
from passband.regularization import wavelet_loss
from passband.regularization.kernels import wavelet as kernels
from passband.regularization.kernels.pyramid import Filtered, Lifted, Steps, steps_of
from passband.transforms import dwt_max_levels

MODES = pywt.Modes.modes
WAVELETS = ["haar", "bior1.3", "rbio1.5", "db2", "bior2.2"]


def pair(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x, y


def uneven(level, name):
    """Weights that differ by level and along each axis, with a zero and a negative one."""
    special = {(1, "ad"): 0.0, (1, "d"): 0.0, (2, "dd"): -1.5}
    return special.get((level, name), 10.0**level + sum((i + 1) * (letter == "d") for i, letter in enumerate(name)))


def result(form, x, y, *options, **more):
    """Values, and the gradient of a weighted sum of them; None for the form that is taken by itself."""
    x = x.detach().requires_grad_()
    with nullcontext() if form is None else backend(form):
        values = wavelet_loss(x, y, *options, **more)
    (gradient,) = torch.autograd.grad(values @ torch.arange(1.0, len(values) + 1).to(values), x)
    return values.detach(), gradient


def assert_agree(x, y, *options, tolerance=1e-12, **more):
    expected = result("plain", x, y, *options, **more)
    for ours, theirs in zip(result("torch", x, y, *options, **more), expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(float(theirs.abs().max()), 1e-300))
    with backend("torch"):  # without a gradient
        values = wavelet_loss(x, y, *options, **more)
    torch.testing.assert_close(values, expected[0], rtol=10 * tolerance, atol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("size", [(33,), (37, 34), (14, 15, 17)], ids=str)
def test_agrees_with_autograd(size, wavelet, mode):
    if levels := dwt_max_levels(size, wavelet):
        assert_agree(*pair((2, 2, *size)), wavelet, levels, mode)


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db4"])
@pytest.mark.parametrize("size", [(64,), (64, 64), (56, 63)], ids=str)
@pytest.mark.parametrize("weights", [uneven, lambda level, name: float("d" not in name), lambda level, name: level - 1])
def test_agrees_with_uneven_weights(size, wavelet, weights):
    assert_agree(*pair((2, 1, *size)), wavelet, weights=weights)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior1.3", "sym8"])
@pytest.mark.parametrize(("size", "levels"), [((8,), 3), ((8, 12), 2), ((4, 6, 8), 1)], ids=str)
def test_the_stationary_loss_agrees(size, levels, wavelet):
    assert_agree(*pair((3, 2, *size)), wavelet, levels, stationary=True)
    assert_agree(*pair((3, 2, *size)), wavelet, levels, stationary=True, weights=uneven)


@given(
    wavelet=st.sampled_from(["haar", "bior1.3", "db2"]),
    mode=st.sampled_from(MODES),
    extra=st.lists(st.integers(0, 11), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_agrees_at_any_size(wavelet, mode, extra, batch, seed):
    shortest = 2 * (pywt.Wavelet(wavelet).dec_len - 1)
    size = [shortest + more for more in extra]
    assert_agree(*pair((batch, 1, *size), seed=seed), wavelet, None, mode)


@pytest.mark.parametrize(("wavelet", "size"), [("haar", (2, 3)), ("bior1.3", (10,)), ("db2", (7,))])
def test_derivatives(wavelet, size):
    x, y = pair((1, 1, *size))

    def loss(x, y=y):
        return wavelet_loss(x, y, wavelet)

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),))
    assert torch.autograd.gradgradcheck(loss, (x,))
    assert torch.autograd.gradcheck(loss, (x, y.requires_grad_()))


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db3"])
def test_single_precision(wavelet):
    assert_agree(*pair((2, 3, 40, 41), torch.float32), wavelet, tolerance=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db3"])
def test_halves_are_computed_in_single_precision(wavelet, dtype):
    x, y = pair((2, 3, 32, 32), dtype)
    options = (wavelet, 2), {"weights": lambda level, name: 1000.0**level}
    values, gradient = result("torch", x, y, *options[0], **options[1])
    expected = result("torch", x.float(), y.float(), *options[0], **options[1])
    assert (values.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(values, expected[0], rtol=0, atol=0)
    scale = float(expected[1].abs().max())
    torch.testing.assert_close(gradient.float(), expected[1], rtol=0, atol=2 * torch.finfo(dtype).eps * scale)


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
def test_memory_layout_does_not_matter(wavelet):
    x, y = pair((2, 3, 16, 20))
    expected = result("torch", x, y, wavelet)
    views = [
        (x.to(memory_format=torch.channels_last), y),
        (x.mT.contiguous().mT, y.to(memory_format=torch.channels_last)),
        (torch.cat([x, x], 3)[..., :20], y.flip(0).flip(0)),
    ]
    for view in views:
        for ours, theirs in zip(result("torch", *view, wavelet), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-16)
    same = x[:1].expand(2, 3, 16, 20)
    assert_agree(same, y, wavelet)


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
def test_equal_samples_have_no_gradient(wavelet):
    x, _ = pair((2, 1, 12, 12))
    values, gradient = result("torch", x, x.clone(), wavelet)
    assert values.tolist() == [0.0, 0.0]
    assert not gradient.any()


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
def test_all_weights_zero(wavelet):
    x, y = pair((2, 1, 12, 12))
    values, gradient = result("torch", x, y, wavelet, weights=lambda level, name: 0.0)
    assert values.tolist() == [0.0, 0.0]
    assert not gradient.any()


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
@pytest.mark.parametrize("size", [(16, 16), (20,)], ids=str)
def test_nan_stays_in_its_sample(wavelet, size):
    x, y = pair((3, 1, *size))
    expected = result("torch", x, y, wavelet)
    for position in (0, -1):
        broken = x.clone()
        broken[1].view(-1)[position] = torch.nan
        values, gradient = result("torch", broken, y, wavelet)
        assert values.isnan().tolist() == [False, True, False]
        for found, wanted in ((values, expected[0]), (gradient, expected[1])):
            assert torch.equal(found[::2], wanted[::2])
    assert torch.equal(result("torch", x, y, wavelet)[1], expected[1])  # nothing of it stays behind


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
def test_an_empty_batch(wavelet):
    x = torch.zeros(0, 2, 16, 16, requires_grad=True)
    values = wavelet_loss(x, torch.zeros(0, 2, 16, 16), wavelet)
    values.sum().backward()
    assert (values.shape, x.grad.shape) == ((0,), (0, 2, 16, 16))


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db4"])
def test_keeps_as_many_bytes_as_the_estimate_has(wavelet):
    x, y = pair((2, 3, 32, 32), torch.float32)
    found = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: found.append(z) or z, lambda z: z):
        wavelet_loss(x.requires_grad_(), y, wavelet)
    assert [z.untyped_storage().nbytes() for z in found] == [x.untyped_storage().nbytes()]


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
@pytest.mark.parametrize("shape", [(3, 5, 16, 24), (2, 1, 4096), (1, 2, 10, 12, 16)], ids=str)
def test_parts_make_the_whole(wavelet, shape, monkeypatch):
    x, y = pair(shape)
    levels = min(2, dwt_max_levels(shape[2:], wavelet))
    whole = result("torch", x, y, wavelet, levels)
    made = []
    for kind in (Lifted, Filtered):
        first = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda self, r, *a, first=first: (made.append(len(r)), first(self, r, *a))[1]
        )
    monkeypatch.setattr(kernels, "_CHUNK", 4 * 1000)
    parts = result("torch", x, y, wavelet, levels)
    assert made
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-16)


def test_buffers_that_are_kept_belong_to_one_thread_and_any_mode():
    x, y = pair((2, 1, 24, 24))
    expected = result("torch", x, y, "bior1.3")
    with torch.inference_mode():
        wavelet_loss(x.float(), y.float(), "bior1.3")  # the first call of a dtype makes them
    result("torch", x.float(), y.float(), "bior1.3")
    found = {}

    def work(seed):
        a, b = pair((2, 1, 24, 24), seed=seed)
        found[seed] = [result(None, a, b, "bior1.3") for _ in range(20)]  # the choice of a form holds for all threads

    threads = [Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours in found[0]:
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])
    alone = result("torch", *pair((2, 1, 24, 24), seed=1), "bior1.3")
    assert all(torch.equal(ours[1], alone[1]) for ours in found[1])


def test_no_more_buffers_are_kept_than_said():
    for n in range(8, 8 + 2 * (kernels._KEPT + 3), 2):
        wavelet_loss(*pair((1, 1, n)), levels=1)
    assert len(kernels._kept.workers) == kernels._KEPT


class Storages(TorchDispatchMode):
    """Holds whatever operations return."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.found.append(result)
        return result

    def nbytes(self):
        parts = [x for found in self.found for x in (found if isinstance(found, list | tuple) else [found]) if x.ndim]
        storages = [x.untyped_storage() for x in parts]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((8, 12, 8), {"wavelet": "haar", "levels": 2, "stationary": True}),
        ((24, 24), {"wavelet": "db4", "levels": 1}),
        ((24, 24), {"wavelet": "bior1.3", "levels": 2}),
        ((24, 24), {"wavelet": "haar", "levels": 3}),
    ],
)
def test_all_bytes_that_a_worker_keeps_are_counted(size, options, monkeypatch):
    modes = []

    def watched(self, key, make):
        with Storages() as mode:
            worker = make()
        modes.append((worker, mode))
        return worker

    monkeypatch.setattr(kernels._Kept, "worker", watched)
    wavelet_loss(*pair((1, 1, *size)), **options)
    ((worker, mode),) = modes
    assert worker.nbytes == mode.nbytes() > worker.residual.nbytes


def test_the_bytes_that_are_kept_have_a_bound(monkeypatch):
    kernels._kept.workers.clear()
    wavelet_loss(*pair((1, 1, 64)), "db2", levels=1)
    (worker,) = kernels._kept.workers.values()
    monkeypatch.setattr(kernels, "_KEPT_BYTES", 3 * worker.nbytes // torch.get_num_threads())
    for n in (60, 58, 56, 54):
        wavelet_loss(*pair((1, 1, n)), "db2", levels=1)
    kept = list(kernels._kept.workers.values())
    assert [w.residual.shape[-1] for w in kept] == [58, 56, 54]
    wavelet_loss(*pair((1, 1, 640)), "db2", levels=1)
    assert list(kernels._kept.workers.values()) == kept  # too large, so that it drives out none


def test_every_chunk_is_kept_whatever_the_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    kernels._kept.workers.clear()
    x = torch.zeros(8, 1, 512, 512)
    wavelet_loss(x, x, "db4", levels=1)
    (worker,) = kernels._kept.workers.values()
    assert worker.residual.nbytes == 8 * kernels._CHUNK


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
def test_fake_buffers_are_not_kept(wavelet):
    x, y = pair((2, 1, 20, 20))
    kernels._kept.workers.clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert wavelet_loss(x, y, wavelet, levels=1).shape == (2,)
    assert not kernels._kept.workers
    expected = result("torch", x, y, wavelet, 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert wavelet_loss(x, y, wavelet, levels=1).shape == (2,)
    assert torch.equal(result("torch", x, y, wavelet, 1)[0], expected[0])


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_batched_gradients(form):
    x, y = pair((3, 1, 18, 17))
    with backend(form):
        at_once, one_by_one = (
            torch.autograd.functional.jacobian(lambda x: wavelet_loss(x, y, "db4", levels=1), x, vectorize=vectorize)
            for vectorize in (True, False)
        )
    torch.testing.assert_close(at_once, one_by_one)


def test_wavelets_with_few_steps_are_known():
    known = {name: steps_of(name) for name in pywt.wavelist(kind="discrete")}
    assert {name for name, steps in known.items() if steps == Steps()} == {"haar", "db1", "bior1.1", "rbio1.1"}
    assert known["bior1.3"] == Steps((-0.125,), "a")
    assert known["rbio1.3"] == Steps((-0.125,), "d")
    others = {name for name, steps in known.items() if steps is not None and steps.factors}
    assert others == {"bior1.3", "bior1.5", "rbio1.3", "rbio1.5"}
