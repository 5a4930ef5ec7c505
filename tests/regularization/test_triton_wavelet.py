"""The Triton kernels of the wavelet losses, in Triton's interpreter where there is no GPU."""

import math

import pytest
import torch
from torch import Tensor

import passband
from passband.regularization import wavelet_loss

pytest.importorskip("triton", reason="Triton is not installed (it is for Linux)")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def gamma(level, name):
    """Weights that tell every sub-band from every other."""
    return 0.5 + 0.3 * level + 0.1 * sum(3**place * (letter == "d") for place, letter in enumerate(name))


def weights(shape, levels, side):
    """What the kernels take, for sums instead of means; side: length of an axis after a level."""
    names = ("d",) if len(shape) == 3 else ("ad", "da", "dd")
    size, rows = shape[2:], []
    for level in range(1, levels + 1):
        size = [side(n) for n in size]
        share = math.prod(shape[2:]) / math.prod(size)
        rows.append([gamma(level, name) * share for name in names])
    return [*rows, [gamma(levels, "a" * (len(shape) - 2)) * share]]


def fields(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator).to(DEVICE, dtype) for _ in range(2))


def reference(x, y, wavelet, levels):
    """The same sums and gradient, by autograd in float64."""
    x = x.double().requires_grad_()
    with passband.backend("plain"):
        sums = wavelet_loss(x, y.double(), wavelet, levels=levels, weights=gamma) * math.prod(x.shape[1:])
    return sums, torch.autograd.grad(sums.sum(), x)[0]


def agree(found, expected, tolerance):
    values, gradient = found
    assert isinstance(gradient, Tensor)
    torch.testing.assert_close(values.double(), expected[0], rtol=1e-6, atol=0)
    largest = float(expected[1].abs().max())
    torch.testing.assert_close(gradient.double(), expected[1], rtol=0, atol=tolerance * largest)


def haar(x, y, levels, gradient=True):
    from passband.regularization.kernels.triton_wavelet import haar_l1

    return haar_l1(x, y, levels, weights(x.shape, levels, lambda n: n // 2), gradient)


def bior(x, y, levels, gradient=True):
    from passband.regularization.kernels.triton_lifted import bior13_l1

    return bior13_l1(x, y, levels, weights(x.shape, levels, lambda n: (n + 5) // 2), gradient)


HAAR = [((2, 3, 6, 10), 1), ((2, 1, 12, 20), 2), ((1, 2, 8, 40), 3), ((1, 1, 16, 48), 4), ((1, 1, 32, 32), 5)]
HAAR += [((1, 1, 64, 128), 6), ((1, 2, 2, 2), 1), ((2, 3, 6), 1), ((1, 2, 96), 5), ((1, 1, 4160), 6), ((1, 5, 8), 3)]


@pytest.mark.parametrize(("shape", "levels"), HAAR, ids=str)
def test_haar_is_the_loss(shape, levels):
    x, y = fields(shape)
    expected = reference(x, y, "haar", levels)
    agree(haar(x, y, levels), expected, 1e-6)
    values, gradient = haar(x, y, levels, gradient=False)
    torch.testing.assert_close(values.double(), expected[0], rtol=1e-6, atol=0)
    assert gradient is None


BIOR = [((1, 1, 80, 10), 1), ((1, 1, 20, 21), 2), ((2, 1, 11), 1), ((1, 2, 50), 3), ((1, 1, 1041), 1)]


@pytest.mark.parametrize(("shape", "levels"), BIOR, ids=str)
def test_bior13_is_the_loss(shape, levels):
    x, y = fields(shape)
    expected = reference(x, y, "bior1.3", levels)
    agree(bior(x, y, levels), expected, 1e-6)
    values, gradient = bior(x, y, levels, gradient=False)
    torch.testing.assert_close(values.double(), expected[0], rtol=1e-6, atol=0)
    assert gradient is None


@pytest.mark.parametrize("side", [5, 6, 7, 8, 9])
def test_bior13_mirrors_short_fields(side):
    # Shorter than what the transform takes by default, so against its own definition.
    from passband.regularization.kernels.triton_lifted import bior13_l1
    from passband.transforms._filters import filter_bank

    x, y = fields((1, 1, side))
    low, high = (torch.tensor(taps, dtype=torch.float64, device=DEVICE) for taps in filter_bank("bior1.3").analysis)
    z = x.double().requires_grad_()
    mirrored = (z - y)[0, 0].double()
    mirrored = torch.cat([mirrored[:4].flip(0), mirrored, mirrored.flip(0)[:5]])
    windows = mirrored.unfold(0, 6, 2)[: (side + 5) // 2]
    value = 2 * (windows @ high).abs().sum() + 3 * (windows @ low).abs().sum()
    expected = value[None], torch.autograd.grad(value, z)[0]
    agree(bior13_l1(x, y, 1, [[2.0], [3.0]], True), expected, 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("transform", "wavelet", "shape"), [(haar, "haar", (2, 2, 8, 8)), (bior, "bior1.3", (1, 1, 10))]
)
def test_halves_are_computed_in_float32(transform, wavelet, shape, dtype):
    x, y = fields(shape, dtype)
    found = transform(x, y, 1)
    assert found[0].dtype == torch.float32
    assert found[1].dtype == dtype
    agree(found, reference(x, y, wavelet, 1), ROUNDING[dtype])
    mixed = transform(x, y.float(), 1)
    assert torch.equal(mixed[0], found[0])


def test_any_strides():
    x, y = fields((2, 3, 4, 6))
    expected = haar(x, y, 1)
    last = x.to(memory_format=torch.channels_last)
    found = haar(last, y.transpose(2, 3).contiguous().transpose(2, 3), 1)
    torch.testing.assert_close(found, expected)
    assert found[1].stride() == last.stride()
    some = y[:1, :1].expand(x.shape)
    torch.testing.assert_close(haar(x, some, 1), haar(x, some.clone(), 1))
    torch.testing.assert_close(haar(some, x, 1), haar(some.clone(), x, 1))


def test_any_strides_of_bior13():
    x, y = fields((1, 1, 10, 11))
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    found = bior(turned, y[..., :1].expand(x.shape), 1)
    agree(found, reference(x, y[..., :1].expand(x.shape), "bior1.3", 1), 1e-6)
    assert found[1].stride() == turned.stride()
    x, y = fields((2, 3, 10))
    expected = bior(x, y, 1)
    found = bior(x.transpose(1, 2).contiguous().transpose(1, 2), y.transpose(0, 1).contiguous().transpose(0, 1), 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("transform", "shape"), [(haar, (2, 2, 8, 8)), (bior, (2, 1, 10))])
def test_equal_fields_and_no_fields(transform, shape):
    x, _ = fields(shape)
    values, gradient = transform(x, x.clone(), 1)
    assert not values.any()
    assert not gradient.any()
    values, gradient = transform(x[:0], x[:0], 1)
    assert values.shape == (0,)
    assert gradient.shape == x[:0].shape


@pytest.mark.parametrize(("transform", "wavelet", "size"), [(haar, "haar", (4, 4)), (bior, "bior1.3", (10,))])
def test_offsets_pass_two_to_the_31(transform, wavelet, size, monkeypatch):
    # The interpreter would copy what is a stretch of untouched memory onto itself.
    if DEVICE == "cpu":
        interpreter = pytest.importorskip("triton.runtime.interpreter")
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
    count = math.prod(size)
    try:
        memory = torch.empty(2**31 + 2 * count, dtype=torch.bfloat16, device=DEVICE)
    except RuntimeError:
        pytest.skip("4 GiB of memory are too much here")
    x, y = fields((2, 1, *size), torch.bfloat16)
    steps = [size[1], 1] if len(size) == 2 else [1]
    far = memory.as_strided((2, 1, *size), (2**31 + count, count, *steps))
    far.copy_(x)
    agree(transform(far, y, 1), reference(x, y, wavelet, 1), ROUNDING[torch.bfloat16])
    torch.testing.assert_close(transform(y, far, 1)[0], transform(far, y, 1)[0])


KERNEL = [("haar", 2, (2, 2, 8, 12)), ("haar", 3, (1, 2, 40)), ("bior1.3", 2, (1, 1, 20))]
TORCH = [("haar", 1, (1, 1, 7, 9)), ("haar", 1, (1, 1, 4, 4, 4)), ("db2", 1, (1, 1, 8, 8))]


@pytest.mark.parametrize(("wavelet", "levels", "shape"), KERNEL + TORCH, ids=str)
@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
def test_losses_by_triton_are_the_plain_ones(wavelet, levels, shape, dtype, monkeypatch):
    from passband.regularization.kernels import triton_lifted, triton_wavelet

    launched = []
    for module in (triton_lifted, triton_wavelet):
        launch = module.launch
        monkeypatch.setattr(module, "launch", lambda *a, f=launch, **b: (launched.append(a[0]), f(*a, **b)))
    x, y = fields(shape, dtype)
    found = {}
    for backend in ("plain", "triton"):
        z = x.clone().requires_grad_()
        with passband.backend(backend):
            values = wavelet_loss(z, y, wavelet, levels=levels, weights=gamma)
        values.mean().backward()
        found[backend] = values.detach(), z.grad
        assert bool(launched) == (backend == "triton" and (wavelet, levels, shape) in KERNEL)
    torch.testing.assert_close(found["triton"][0], found["plain"][0], rtol=1e-5, atol=0)
    # Halves tie: where a coefficient is 0 up to rounding, its sign is anyone's guess.
    scale = float(found["plain"][1].abs().max())
    near = (found["triton"][1] - found["plain"][1]).abs() <= 3 * ROUNDING[dtype] * scale
    assert near.float().mean() >= (1 if dtype == torch.float32 else 0.9)
