"""The adapters compute what they are compared for."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from passband._checks import MissingExtraError
from passband.bench import Setting
from passband.bench.rivals import (
    auraloss,
    by_hand,
    focal_frequency_loss,
    numpy,
    ptwt,
    pytorch_wavelets,
    scipy,
    torch_dct,
    wavelet_loss,
)
from passband.matching import dsm_low_pass
from passband.regularization import amplitude_loss
from passband.regularization import focal_frequency_loss as ours_focal
from passband.regularization import wavelet_loss as ours_wavelet
from passband.transforms import radial_psd

CPU = torch.device("cpu")
X, Y = (x.detach() for x in Setting().pair((2, 3, 32, 32)))
A, B = (x.detach() for x in Setting().pair((2, 1, 64)))


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3"])
@pytest.mark.parametrize(
    "make", [lambda w: pytorch_wavelets.l1(w, 1, 2, CPU), lambda w: wavelet_loss.l1(w, 1, CPU), lambda w: ptwt.l1(w, 1)]
)
def test_wavelet_losses_in_two_dimensions(wavelet: str, make):
    assert make(wavelet)(X, Y).item() == pytest.approx(ours_wavelet(X, Y, wavelet, 1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("make", [lambda: pytorch_wavelets.l1("bior1.3", 2, 1, CPU), lambda: ptwt.l1("bior1.3", 2)])
def test_wavelet_losses_in_one_dimension(make):
    assert make()(A, B).item() == pytest.approx(ours_wavelet(A, B, "bior1.3", 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize(("x", "y"), [(X, Y), (A, B)])
def test_haar_by_hand(x: torch.Tensor, y: torch.Tensor):
    assert by_hand.haar(3)(x, y).item() == pytest.approx(ours_wavelet(x, y, "haar", 3).mean().item(), rel=1e-5)


def test_fourier_losses():
    assert by_hand.amplitude(X, Y).item() == pytest.approx(amplitude_loss(X, Y).mean().item(), rel=1e-5)
    wanted = pytest.approx(ours_focal(X, Y).mean().item(), rel=1e-5)
    assert focal_frequency_loss.focal()(X, Y).item() == wanted
    assert by_hand.focal(X, Y).item() == wanted


def test_two_angles_of_a_closed_form():
    # One frequency a side: amplitudes 1 and 2, a quarter turn apart.
    n = torch.arange(8) / 8
    x, y = (a * torch.cos(2 * torch.pi * n + p).reshape(1, 1, 8) for a, p in ((1, 0.0), (2, torch.pi / 2)))
    wanted = 2 * np.sqrt(2) * (1 + np.pi / 2) / 8  # |A - A^| = (2 - 1) · sqrt(8) / 2 at two frequencies of eight
    assert by_hand.two_angles(x, y).item() == pytest.approx(wanted, rel=1e-3)


def test_dct_there_and_back():
    assert torch.allclose(torch_dct.idct(2)(torch_dct.dct(2)(X)), X, atol=1e-5)
    assert torch.allclose(torch_dct.dct(2)(X), scipy.dctn()(X), atol=1e-5)


def test_blocks_are_those_of_the_low_pass():
    index = torch.arange(8)
    mask = (index[:, None] + index < 15 - 10).float()
    assert torch.allclose(torch_dct.block_low_pass(mask)(X), dsm_low_pass(X, 10), atol=1e-5)


def test_psd_by_numpy():
    assert torch.allclose(numpy.radial_psd(X), radial_psd(X).double(), rtol=1e-4)


def test_auraloss_is_zero_for_equal_signals():
    clips = Setting().noise((1, 1, 4096))
    assert auraloss.multi_resolution(CPU)(clips, clips).item() == pytest.approx(0, abs=1e-4)


def test_pkg_resources_is_lent_for_the_import_alone():
    pytorch_wavelets.load()
    assert "pkg_resources" not in sys.modules or sys.modules["pkg_resources"].__spec__ is not None


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("pytorch_wavelets", lambda: pytorch_wavelets.l1("haar", 1, 2, CPU)),
        ("wavelet_loss", lambda: wavelet_loss.l1("haar", 1, CPU)),
        ("ptwt", lambda: ptwt.l1("haar", 1)),
        ("focal_frequency_loss", focal_frequency_loss.focal),
        ("torch_dct", lambda: torch_dct.dct(2)),
        ("auraloss", lambda: auraloss.multi_resolution(CPU)),
        ("scipy.fft", scipy.dctn),
    ],
)
def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, module: str, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[bench\]'"):
        make()


def test_the_catalogue_imports_none_of_them():
    packages = {"auraloss", "focal_frequency_loss", "ptwt", "pytorch_wavelets", "torch_dct", "wavelet_loss"}
    script = "import sys, passband.bench; passband.bench.catalogue(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert packages & set(loaded) == set()
