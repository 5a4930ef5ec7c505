"""The Triton kernel of the DCT low-pass, in Triton's interpreter where there is no GPU."""

import pytest
import torch

import passband
from passband.forcing import spectral_low_pass

pytest.importorskip("triton", reason="Triton is not installed (it is for Linux)")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def mask(window, cutoffs, kappa, exact):
    """M or 1 - M', (cutoffs, *window), by its definition in float64."""
    squares = torch.zeros((), dtype=torch.float64)
    for axis, n in enumerate(window):
        place = torch.arange(n, dtype=torch.float64) / n
        squares = squares + place.square().reshape([-1 if i == axis else 1 for i in range(len(window))])
    rho = squares.sqrt()
    rho = rho / rho.max().clamp(min=1e-12)
    c = cutoffs.cpu().double().reshape(-1, *[1] * len(window))
    gain = torch.sigmoid(kappa * (c - rho))
    if not exact:
        return gain
    return (kappa * (1 - c) / 4).clamp(max=1) * (1 - gain / torch.sigmoid(kappa * c))


CASES = [((6, 10), (6, 10)), ((6, 10), (3, 5)), ((8, 4), (4, 4)), ((15,), (15,)), ((15,), (5,)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("size", "window"), CASES, ids=str)
def test_the_mask_is_its_formula(size, window, exact):
    from passband.forcing.triton_mask import mask_

    generator = torch.Generator().manual_seed(0)
    shape = [2, 3, *(part for n, side in zip(size, window, strict=True) for part in (n // side, side))]
    over = [part for side in window for part in (1, side)]
    spectrum = torch.randn(shape, generator=generator).to(DEVICE)
    for cutoffs, kappa in ((torch.tensor([0.3, 1.0]), 30.0), (torch.tensor([0.6]), 8.0), (torch.tensor([0.0]), 400.0)):
        expected = spectrum.cpu() * mask(window, cutoffs, kappa, exact).reshape(-1, 1, *over)
        found = spectrum.clone()
        mask_(found, cutoffs.to(DEVICE), window, kappa, exact)
        torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=2e-6 * max(1, kappa / 30))
        fewer = spectrum[..., : max(1, window[-1] - 1)]  # the lowest frequencies alone, as a view
        mask_(fewer, cutoffs.to(DEVICE), window, kappa, exact)
        torch.testing.assert_close(fewer, found[..., : fewer.shape[-1]])
        spectrum = torch.randn(shape, generator=generator).to(DEVICE)


def test_nothing_and_not_a_number():
    from passband.forcing.triton_mask import mask_

    mask_(torch.empty(0, 1, 1, 4, device=DEVICE), torch.tensor([0.5], device=DEVICE), (4,), 30.0, False)
    for exact in (False, True):
        spectrum = torch.ones(2, 1, 1, 4, device=DEVICE)
        mask_(spectrum, torch.tensor([0.5, float("nan")], device=DEVICE), (4,), 30.0, exact)
        assert spectrum.isnan().flatten(1).all(1).tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("shape", "window"), [((2, 1, 8, 12), None), ((2, 2, 8, 12), 4), ((3, 1, 15), None)], ids=str)
def test_the_operator_by_triton_is_the_plain_one(shape, window, exact, dtype, monkeypatch):
    from passband.forcing import triton_mask

    launched = []
    launch = triton_mask.launch
    monkeypatch.setattr(triton_mask, "launch", lambda *a, **b: (launched.append(a[0]), launch(*a, **b)))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(shape, generator=generator).to(DEVICE, dtype)
    cutoffs = torch.linspace(0.2, 1, shape[0], device=DEVICE)
    found = {}
    for backend in ("plain", "triton"):
        x = z.clone().requires_grad_()
        with passband.backend(backend):
            out = spectral_low_pass(x, cutoffs, window=window, exact=exact)
            out.backward(z.flip(-1))
        assert bool(launched) == (backend == "triton")
        found[backend] = out.detach().float(), x.grad.float()
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found["triton"], found["plain"], rtol=tolerance, atol=tolerance)
