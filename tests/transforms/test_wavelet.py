"""The decimated wavelet transform against PyWavelets, its inverse, Parseval, gradients and errors."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.transforms import WaveletCoefficients, dwt, dwt_max_levels, idwt, iswt, swt

DISCRETE = pywt.wavelist(kind="discrete")
MODES = pywt.Modes.modes
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def field(size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(x: torch.Tensor, c: WaveletCoefficients) -> list:
    axes = tuple(range(2, x.ndim))
    return pywt.wavedecn(x.numpy(), c.wavelet, mode=c.mode, level=c.levels, axes=axes)


def largest_difference(c: WaveletCoefficients, expected: list) -> float:
    """The largest difference of any coefficient, after a check that both have the same sub-bands in the same order."""
    assert [list(bands) for bands in c.details] == [list(bands) for bands in expected[1:]]
    pairs = [(c.approximation, expected[0])]
    for bands, wanted in zip(c.details, expected[1:], strict=True):
        pairs += [(bands[name], wanted[name]) for name in bands]
    assert all(tuple(ours.shape) == theirs.shape for ours, theirs in pairs)
    return max(float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in pairs)


@pytest.mark.parametrize("mode", MODES)
def test_every_wavelet_equals_pywavelets(mode):
    wrong = []
    for wavelet in DISCRETE:
        shortest = 2 * (pywt.Wavelet(wavelet).dec_len - 1)
        for n in (shortest, 2 * shortest + 1):  # one level at the smallest size, two levels at an odd one
            x = field((n,))
            c = dwt(x, wavelet, mode=mode)
            expected = reference(x, c)
            restored = pywt.waverecn(expected, wavelet, mode=mode, axes=(2,))[..., :n]
            errors = largest_difference(c, expected), float(np.abs(idwt(c).numpy() - restored).max())
            wrong += [(wavelet, n, *errors)] if max(errors) > 1e-10 else []
    assert not wrong


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("wavelet", "size"), [("haar", (9, 16)), ("bior1.3", (21, 23)), ("db4", (29, 16))])
def test_two_dimensions_equal_pywavelets(wavelet, size, mode):
    x = field(size)
    c = dwt(x, wavelet, mode=mode)
    assert largest_difference(c, reference(x, c)) < 1e-10
    torch.testing.assert_close(idwt(c), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("wavelet", "size"), [("haar", (4, 7, 10)), ("rbio1.3", (10, 11, 12))])
def test_three_dimensions_equal_pywavelets(wavelet, size, mode):
    x = field(size)
    c = dwt(x, wavelet, mode=mode)
    assert largest_difference(c, reference(x, c)) < 1e-10
    torch.testing.assert_close(idwt(c), x, rtol=0, atol=1e-10)


def test_haar_in_closed_form():
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    coefficients = dwt(torch.tensor([[[[a, b], [c, d]]]], dtype=torch.float64))
    found = {name: band.item() for _, name, band in coefficients.subbands()}
    assert found == pytest.approx(
        {"aa": (a + b + c + d) / 2, "ad": (a - b + c - d) / 2, "da": (a + b - c - d) / 2, "dd": (a - b - c + d) / 2}
    )


@pytest.mark.parametrize(("wavelet", "degree"), [("haar", 0), ("db2", 1), ("db4", 3), ("bior3.5", 2)])
def test_details_of_a_polynomial_vanish_inside(wavelet, degree):
    n = torch.arange(64, dtype=torch.float64) / 64
    details = dwt((n**degree)[None, None], wavelet, levels=1).details[0]["d"]
    border = pywt.Wavelet(wavelet).dec_len // 2
    assert details[..., border:-border].abs().max() < 1e-10
    assert dwt((n ** (degree + 3) * 9)[None, None], wavelet, levels=1).details[0]["d"].abs().max() > 1e-6


@given(
    wavelet=st.sampled_from([name for name in DISCRETE if pywt.Wavelet(name).dec_len <= 12]),
    mode=st.sampled_from(MODES),
    extra=st.lists(st.integers(0, 13), min_size=1, max_size=2),
    seed=st.integers(0, 99),
)
def test_inverse(wavelet, mode, extra, seed):
    shortest = 2 * (pywt.Wavelet(wavelet).dec_len - 1)
    x = field(tuple(shortest + more for more in extra), seed)
    torch.testing.assert_close(idwt(dwt(x, wavelet, mode=mode)), x, rtol=0, atol=1e-9)


@given(mode=st.sampled_from(MODES), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear(mode, a, b):
    x, y = field((12, 13), 1), field((12, 13), 2)
    mixed = dwt(a * x + b * y, "bior1.3", mode=mode)
    for (_, _, whole), (_, _, first), (_, _, second) in zip(
        mixed.subbands(), dwt(x, "bior1.3", mode=mode).subbands(), dwt(y, "bior1.3", mode=mode).subbands(), strict=True
    ):
        torch.testing.assert_close(whole, a * first + b * second, rtol=0, atol=1e-10)


@pytest.mark.parametrize("wavelet", [name for name in DISCRETE if pywt.Wavelet(name).orthogonal and name != "dmey"])
def test_parseval(wavelet):
    side = 4 * (pywt.Wavelet(wavelet).dec_len - 1)
    x = field((side + side % 4,))
    energy = sum(band.square().sum() for _, _, band in dwt(x, wavelet, 2, "periodization").subbands())
    torch.testing.assert_close(energy, x.square().sum(), rtol=1e-8, atol=0)


def test_dmey_is_not_exactly_invertible():
    x = field((256,))
    error = (idwt(dwt(x, "dmey", levels=1)) - x).abs().max()
    assert 1e-4 < error < 0.1


def test_modified_coefficients_are_inverted_as_by_pywavelets():
    x = field((23, 24))
    c = dwt(x, "sym3", levels=2)
    c = c._replace(
        approximation=c.approximation.sin(),
        details=tuple({name: band.square() for name, band in level.items()} for level in c.details),
    )
    numpy = [c.approximation.numpy()] + [{k: v.numpy() for k, v in level.items()} for level in c.details]
    expected = pywt.waverecn(numpy, "sym3", axes=(2, 3))[..., :23, :24]
    np.testing.assert_allclose(idwt(c).numpy(), expected, rtol=0, atol=1e-10)


def test_subbands_are_named_and_ordered():
    c = dwt(field((16, 16)), levels=2)
    assert [(level, name) for level, name, _ in c.subbands()] == [
        (2, "aa"),
        (2, "ad"),
        (2, "da"),
        (2, "dd"),
        (1, "ad"),
        (1, "da"),
        (1, "dd"),
    ]
    assert (c.levels, c.wavelet, c.mode, c.size) == (2, "haar", "symmetric", (16, 16))
    assert [name for _, name, _ in dwt(field((4, 4, 4)), levels=1).subbands()] == [
        "aaa",
        "aad",
        "ada",
        "add",
        "daa",
        "dad",
        "dda",
        "ddd",
    ]


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db4", "dmey"])
def test_most_levels_are_those_of_pywavelets(wavelet):
    for size in [(8,), (10, 64), (130, 122), (128, 130, 512)]:
        assert dwt_max_levels(size, wavelet) == pywt.dwtn_max_level(size, wavelet)


def test_default_takes_the_most_levels():
    assert dwt(field((32, 8))).levels == 3
    assert [dwt(field((2**k,))).levels for k in range(1, 7)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode):
    x = field((6, 5))[:1, :1].requires_grad_()

    def bands(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(band for _, _, band in dwt(x, "db2" if mode == "smooth" else "haar", 1, mode).subbands())

    x = field((6, 7))[:1, :1].requires_grad_()
    torch.autograd.gradcheck(bands, (x,))
    torch.autograd.gradcheck(lambda x: bands(x)[0], (x,))  # only one sub-band in use


@pytest.mark.parametrize("mode", ["symmetric", "periodization"])
def test_gradients_of_the_inverse(mode):
    c = dwt(field((6,)), "db2", 1, mode)

    def inverse(approximation: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
        return idwt(c._replace(approximation=approximation, details=({"d": details},)))

    inputs = (c.approximation.requires_grad_(), c.details[0]["d"].requires_grad_())
    torch.autograd.gradcheck(inverse, inputs)
    torch.autograd.gradgradcheck(lambda a, d: inverse(a, d).square(), inputs)


def test_keeps_nothing_for_the_backward_pass():
    kept: list[torch.Tensor] = []
    x = field((32, 32)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        dwt(x, "bior1.3", levels=1)
    assert not kept


@pytest.mark.parametrize("mode", ["symmetric", "periodization"])
@pytest.mark.parametrize("wavelet", ["haar", "db4"])
@pytest.mark.parametrize("size", [(17,), (14, 16)])
@pytest.mark.parametrize("stationary", [False, True])
def test_batched_gradients(size, wavelet, mode, stationary):
    if stationary:
        size = tuple(2 * (n // 2) for n in size)
    x = torch.randn(1, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def some(x):
        coefficients = swt(x, wavelet, 1) if stationary else dwt(x, wavelet, 1, mode)
        restored = iswt(coefficients) if stationary else idwt(coefficients)
        parts = [band for _, _, band in coefficients.subbands()]
        return torch.cat([part.flatten()[:3] for part in (*parts, restored)])

    at_once, one_by_one = (
        torch.autograd.functional.jacobian(some, x, vectorize=vectorize) for vectorize in (True, False)
    )
    torch.testing.assert_close(at_once, one_by_one)


def test_under_vmap():
    x = field((8, 10))
    mapped = torch.func.vmap(lambda sample: dwt(sample[None], "db2").details[0]["dd"][0])(x)
    torch.testing.assert_close(mapped, dwt(x, "db2").details[0]["dd"])


COMPILED = """
import torch
from passband.transforms import dwt, idwt, iswt, swt
x = torch.randn(1, 2, 16, requires_grad=True)
for transform in (lambda x: idwt(dwt(x, "bior1.3", levels=1)).square(), lambda x: iswt(swt(x, "db2")).square()):
    compiled, plain = torch.compile(transform, backend="eager", fullgraph=True)(x), transform(x)
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x), torch.autograd.grad(plain.sum(), x))
"""


def test_compiles_as_one_graph():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision(device, dtype):
    x = field((16, 12)).to(device, dtype)
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        c = dwt(x, "db2", levels=1)
        restored = idwt(c)
    exact = dwt(x.double(), "db2", levels=1)
    for (_, _, band), (_, _, expected) in zip(c.subbands(), exact.subbands(), strict=True):
        assert band.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(band.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(restored.double(), x.double(), rtol=0, atol=1e-5)


def test_memory_layout_does_not_matter():
    x = field((16, 12))
    for view in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        torch.testing.assert_close(dwt(view, "db2").approximation, dwt(x, "db2").approximation, rtol=0, atol=0)


def test_an_empty_batch_has_empty_subbands():
    c = dwt(torch.zeros(0, 3, 8, 9), levels=1)
    assert c.approximation.shape == (0, 3, 4, 5)
    assert idwt(c).shape == (0, 3, 8, 9)


def test_nan_reaches_its_own_sample_and_channel_only():
    x = field((8,))
    x[1, 0, 0] = math.nan
    broken = torch.stack([band.isnan().any(-1) for _, _, band in dwt(x).subbands()])
    assert broken[:, 1, 0].any()
    assert broken.sum() == broken[:, 1, 0].sum()


def test_no_warning_of_pywavelets_reaches_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dwt(field((2,)), levels=1)


def test_bad_input():
    x = torch.zeros(1, 1, 16, 16)
    with pytest.raises(TypeError, match=r"real floating-point tensor, got torch.uint8"):
        dwt(x.to(torch.uint8))
    with pytest.raises(ValueError, match=r"1 or 2 or 3 spatial dimension\(s\), got shape \(16, 16\)"):
        dwt(x[0, 0])
    with pytest.raises(
        ValueError, match=r"unknown mode: got 'symetric' \(did you mean 'symmetric'\?\); expected one of"
    ):
        dwt(x, mode="symetric")


def test_bad_wavelet():
    x = torch.zeros(1, 1, 16, 16)
    with pytest.raises(
        ValueError, match=r"unknown wavelet: got 'Har' \(did you mean 'haar'\?\).*pywt.wavelist"
    ) as info:
        dwt(x, "Har")
    assert len(str(info.value)) < 200  # 106 names are no help
    for continuous in pywt.wavelist(kind="continuous"):
        with pytest.raises(ValueError, match=f"'{continuous}' is a continuous wavelet.*choose a discrete one"):
            dwt(x, continuous)
    with pytest.raises(TypeError, match="wavelet must be a name such as 'haar'"):
        dwt(x, pywt.Wavelet("haar"))


def test_bad_levels():
    x = torch.zeros(1, 1, 16, 12)
    with pytest.raises(
        ValueError, match=r"size \(16, 12\) allows at most 3 with wavelet 'haar', got 4; take fewer levels"
    ):
        dwt(x, levels=4)
    with pytest.raises(ValueError, match=r"'sym8' has 16 taps.*at least 30, got a field of size \(16, 12\)"):
        dwt(x, "sym8")
    with pytest.raises(ValueError, match=r"'bior2\.8' has 18 taps"):
        dwt(x, "bior2.8", levels=1)
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        dwt(x, levels=0)
    with pytest.raises(TypeError, match=r"levels must be an int, got 2\.0"):
        dwt(x, levels=2.0)
    with pytest.raises(TypeError, match="levels must be an int, got True"):
        dwt(x, levels=True)


def test_bad_coefficients():
    c = dwt(torch.zeros(1, 1, 16, 16), levels=2)
    coarse, fine = c.details
    with pytest.raises(
        ValueError, match=r"sub-band 'aa' of level 2 must have shape \(1, 1, 4, 4\).*got \(1, 1, 8, 8\)"
    ):
        idwt(c._replace(approximation=torch.zeros(1, 1, 8, 8)))
    with pytest.raises(ValueError, match=r"sub-band 'dd' of level 1 must have shape \(1, 1, 8, 8\)"):
        idwt(c._replace(details=(coarse, {**fine, "dd": torch.zeros(1, 1, 8, 7)})))
    with pytest.raises(ValueError, match=r"details of level 1 must have the sub-bands .*, got \['ad', 'da'\]"):
        idwt(c._replace(details=(coarse, {"ad": fine["ad"], "da": fine["da"]})))
    with pytest.raises(ValueError, match="no details"):
        idwt(c._replace(details=()))
    with pytest.raises(ValueError, match="stationary transform; invert them with iswt"):
        idwt(c._replace(stationary=True))
