"""The Triton kernels of the Fourier losses, in Triton's interpreter where there is no GPU."""

import pytest
import torch

import passband
from passband.regularization import amplitude_loss, amplitude_phase_loss
from passband.transforms import half_weights, irfftn, rfftn

pytest.importorskip("triton", reason="Triton is not installed (it is for Linux)")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(2, 2, 8, 12), (2, 1, 9, 7), (1, 3, 33), (2, 1, 3, 4, 5), (1, 1, 1), (3, 2, 1, 2), (0, 1, 4, 4)]
COUPLINGS = ["frequency", "energy", "norm"]


def spectra(shape, layout=None):
    generator = torch.Generator().manual_seed(0)
    x, y = (rfftn(torch.randn(shape, generator=generator)).to(DEVICE) for _ in range(2))
    if layout == "half axis first":
        x, y = (s.movedim(-1, 2).contiguous().movedim(2, -1) for s in (x, y))
    elif layout == "channels last":
        x, y = (s.movedim(1, -1).contiguous().movedim(-1, 1) for s in (x, y))
    elif layout == "two":
        y = y.movedim(-1, 2).contiguous().movedim(2, -1)
    elif layout == "sliced":
        x = torch.cat([x, x], 1)[:, : shape[1]]
    return x, y


def reference(x, y, size, loss):
    """Sums over the whole spectrum and the gradient in the field, by autograd in float64."""
    field = irfftn(x.cdouble(), size).requires_grad_()
    sums = loss(field, irfftn(y.cdouble(), size)) * field[0].numel()
    return sums.detach(), torch.autograd.grad(sums.sum(), field)[0]


def floors(y, size, rel=1e-3):
    weights = half_weights(size, device=y.device)
    power = (y.abs().double().square() * weights).flatten(1).sum(1) / (y.shape[1] * torch.Size(size).numel())
    return (rel * power.sqrt()).clamp(min=1e-6).float()


def agree(found, expected, tolerance=1e-5):
    scale = expected.abs().max() if expected.numel() else 1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * max(float(scale), 1e-6))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_amplitude_is_the_loss(shape):
    from passband.regularization.kernels.triton_spectrum import amplitude_

    if not shape[0]:
        x = torch.empty(0, 1, 4, 3, dtype=torch.complex64, device=DEVICE)
        assert amplitude_(x, x.clone(), 4, True).shape == (0,)
        return
    size = shape[2:]
    x, y = spectra(shape)
    sums, gradient = reference(x, y, size, amplitude_loss)
    untouched, clean = x.clone(), y.clone()
    agree(amplitude_(x, y, size[-1], False), sums)
    assert torch.equal(x, untouched)
    agree(amplitude_(x, y, size[-1], True), sums)
    agree(irfftn(x, size), gradient)
    assert torch.equal(y, clean)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_amplitude_and_phase_are_the_loss(shape, coupling):
    from passband.regularization.kernels.triton_spectrum import amplitude_phase_

    size, (x, y) = shape[2:], spectra(shape)
    floor = floors(y, size)
    values, gradient = reference(x, y, size, lambda a, b: amplitude_phase_loss(a, b, coupling))
    for wanted in (False, True):
        sums = amplitude_phase_(x, y, size[-1], floor, coupling, wanted)
        if coupling == "norm":
            assert sums.shape == (shape[0], 2)
            sums = sums[:, 0] * (1 + sums[:, 1] / (shape[1] * torch.Size(size).numel()))
        agree(sums, values)
    agree(irfftn(x, size), gradient)


@pytest.mark.parametrize("layout", ["half axis first", "channels last", "two", "sliced"])
def test_any_layout(layout):
    from passband.regularization.kernels.triton_spectrum import amplitude_, amplitude_phase_

    x, y = spectra((2, 3, 5, 8), layout)
    plain_x, plain_y = x.clone(memory_format=torch.contiguous_format), y.contiguous()
    floor = floors(y, (5, 8))
    for kernel in (amplitude_, lambda *arguments: amplitude_phase_(*arguments[:3], floor, "energy", arguments[3])):
        a, b = x.clone(), plain_x.clone()
        if layout == "sliced":
            a = torch.cat([x, x], 1)[:, :3]
        else:
            assert a.stride() == x.stride()
        torch.testing.assert_close(kernel(a, y, 8, True), kernel(b, plain_y, 8, True))
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_neither_faint_nor_loud_amplitudes_are_lost(scale):
    from passband.regularization.kernels.triton_spectrum import amplitude_

    x, y = (scale * s for s in spectra((1, 1, 8, 8)))
    expected = (x.cdouble().abs() - y.cdouble().abs()).abs() * half_weights((8,), device=DEVICE)
    sign = (x.cdouble().abs() - y.cdouble().abs()).sign() * x.cdouble() / x.cdouble().abs()
    agree(amplitude_(x, y, 8, True), expected.sum((1, 2, 3)))
    torch.testing.assert_close(x.cdouble(), sign, rtol=0, atol=1e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_equal_and_silent_spectra_have_no_gradient(coupling):
    from passband.regularization.kernels.triton_spectrum import amplitude_, amplitude_phase_

    x, _ = spectra((1, 2, 8, 8))
    silent = torch.zeros_like(x)
    floor = torch.full((1,), 1e-6, device=DEVICE)
    for clean in (x.clone(), silent):
        for kernel in (amplitude_, lambda *arguments: amplitude_phase_(*arguments[:3], floor, coupling, True)):
            same = clean.clone()
            assert not kernel(same, clean, 8, True).any()
            assert not torch.view_as_real(same).any()
    # A silent clean sample: the amplitude alone counts.
    alone = x.clone()
    sums = amplitude_phase_(alone, silent, 8, floor, coupling, True).reshape(1, -1)
    agree(sums[:, 0], (x.abs().double() * half_weights((8,), device=DEVICE)).sum((1, 2, 3)))
    torch.testing.assert_close(alone, x / x.abs())


def test_not_a_number_comes_out():
    from passband.regularization.kernels.triton_spectrum import amplitude_, amplitude_phase_

    x, y = spectra((2, 1, 4, 4))
    x[1, 0, 2, 1] = complex(float("nan"), 1)
    floor = torch.ones(2, device=DEVICE)
    for sums in (amplitude_(x.clone(), y, 4, True), amplitude_phase_(x.clone(), y, 4, floor, "energy", True)):
        assert sums.isnan().tolist() == [False, True]


def test_the_angle_is_torch_s():
    import triton
    import triton.language as tl

    from passband.regularization.kernels import triton_spectrum

    angle = triton_spectrum._angle

    @triton.jit
    def kernel(y_ptr, x_ptr, out_ptr, SIZE: tl.constexpr):
        place = tl.arange(0, SIZE)
        tl.store(out_ptr + place, angle(tl.load(y_ptr + place), tl.load(x_ptr + place)))

    # Interpreted code sees the globals of its module alone.
    kernel.fn.__globals__["angle"] = angle
    powers = torch.logspace(-12, 12, 2**12)
    x = torch.randn(2**12, generator=torch.Generator().manual_seed(0)) * powers
    y = torch.randn(2**12, generator=torch.Generator().manual_seed(1)).abs() * powers.flip(0)
    x[:4], y[:4] = torch.tensor([0.0, 1, -1, 0]), torch.tensor([0.0, 0, 0, 1])
    x, y = x.to(DEVICE), y.to(DEVICE)
    out = torch.empty_like(x)
    kernel[(1,)](y, x, out, 2**12)
    torch.testing.assert_close(out.double(), torch.atan2(y.double(), x.double()), rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 2, 8, 12), (2, 1, 9, 7), (1, 2, 33)], ids=str)
@pytest.mark.parametrize("name", ["amplitude", *COUPLINGS])
def test_losses_by_triton_are_the_plain_ones(name, shape, dtype, monkeypatch):
    from passband.regularization.kernels import triton_spectrum

    launched = []
    launch = triton_spectrum.launch
    monkeypatch.setattr(triton_spectrum, "launch", lambda *a, **b: (launched.append(a[0]), launch(*a, **b)))

    def loss(x, y):
        return amplitude_loss(x, y) if name == "amplitude" else amplitude_phase_loss(x, y, name)

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator).to(DEVICE, dtype) for _ in range(2))
    found = {}
    for backend in ("plain", "triton"):
        z = x.clone().requires_grad_()
        with passband.backend(backend):
            values = loss(z, y)
        values.mean().backward()
        found[backend] = values.detach(), z.grad
        assert bool(launched) == (backend == "triton")
    torch.testing.assert_close(found["triton"][0], found["plain"][0], rtol=1e-5, atol=0)
    scale = float(found["plain"][1].abs().max())
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(found["triton"][1], found["plain"][1], rtol=0, atol=tolerance * scale)
