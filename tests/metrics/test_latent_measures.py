"""Measures of latents: closed forms on autoencoders whose answers are known, and how they stream, merge and fail."""

import math

import pytest
import torch
from scipy.stats import kurtosis

from passband.matching import anti_aliased, dsm_mask
from passband.metrics import (
    BandMap,
    ChannelSpectrum,
    ChannelStatistics,
    LatentMeasures,
    SampleMeans,
    cut_probe,
    equivariance_probe,
    low_pass_probe,
    pca_picture,
    psnr,
)
from passband.metrics.band_map import band_edges
from passband.transforms import dct, idct, radial_grid

F = torch.nn.functional


def fields(count: int, size: tuple[int, int], *, beta: float = 2.0, channels: int = 3, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gain = radial_grid(size, "dct").clamp_min(0.5) ** (-beta / 2)
    return idct(noise * gain)


def images(count: int = 6, size: tuple[int, int] = (32, 32), seed: int = 0) -> torch.Tensor:
    x = fields(count, size, seed=seed).float()
    return x / x.abs().amax()


def same(x: torch.Tensor) -> torch.Tensor:
    return x


def enlarged(latents: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """Every wave of the latent, and no other."""
    size = [factor * n for n in latents.shape[2:]]
    coefficients = latents.new_zeros(*latents.shape[:2], *size)
    coefficients[..., : latents.shape[2], : latents.shape[3]] = dct(latents)
    return factor * idct(coefficients)


def halved(x: torch.Tensor) -> torch.Tensor:
    return anti_aliased(x, [n // 2 for n in x.shape[2:]])


def mirrored(latents: torch.Tensor) -> torch.Tensor:
    """Turns the spectrum around: low frequencies become high ones."""
    return idct(dct(latents).flip(2, 3))


# The spectrum


@pytest.mark.parametrize("size", [(32, 32), (24, 32)])
def test_a_power_law_gives_its_exponent(size: tuple[int, int]) -> None:
    spectrum = ChannelSpectrum()
    spectrum.update(fields(300, size, beta=2.3, channels=2))
    result = spectrum.compute()
    assert abs(result.beta - 2.3) < 4 * result.beta_error + 0.02
    assert result.channel_beta.tolist() == pytest.approx([2.3, 2.3], abs=0.15)
    assert result.cycles[10] == pytest.approx(result.frequency[10] * min(size))


def test_white_noise_has_power_one_and_the_mean_power_is_the_variance() -> None:
    noise = torch.randn(200, 2, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = ChannelSpectrum()
    spectrum.update(noise)
    result = spectrum.compute()
    assert torch.allclose(result.power, torch.ones_like(result.power), atol=0.25)
    within = noise - noise.mean((2, 3), keepdim=True)
    assert result.varying == pytest.approx(float(within.square().sum((2, 3)).mean()) / 255, rel=1e-6)
    assert result.channel_varying.mean() == pytest.approx(result.varying)


def test_a_single_small_or_constant_field_has_no_law_but_a_spectrum() -> None:
    for field in (torch.randn(1, 1, 3, 3), torch.ones(2, 1, 16, 16)):
        spectrum = ChannelSpectrum()
        spectrum.update(field)
        assert math.isnan(spectrum.compute().beta)
    with pytest.raises(ValueError, match="no latents yet"):
        ChannelSpectrum("latents").compute()


# The channels


def test_moments_equal_a_direct_computation() -> None:
    z = fields(5, (8, 6), channels=4).exp()
    statistics = ChannelStatistics()
    statistics.update(z)
    result = statistics.compute()
    flat = z.transpose(0, 1).flatten(1)
    assert torch.allclose(result.covariance, torch.cov(flat, correction=0))
    assert torch.allclose(result.std, flat.std(1, correction=0))
    assert result.kurtosis.tolist() == pytest.approx(kurtosis(flat.numpy(), axis=1).tolist(), rel=1e-6)


def test_effective_channels_do_not_change_under_rotation() -> None:
    noise = torch.randn(40, 4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise[:, 2:] *= 0.0
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    found = []
    for z in (noise, torch.einsum("ij,bjhw->bihw", turn, noise)):
        statistics = ChannelStatistics()
        statistics.update(z)
        found.append(statistics.compute())
    assert [round(result.effective, 2) for result in found] == [2.0, 2.0]
    assert [result.unused for result in found] == [2, 0]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pictures_have_three_colours_of_uncorrelated_components(channels: int) -> None:
    z = fields(30, (8, 8), channels=channels)
    if channels > 1:
        z[:, 1] = 0.2 * z[:, 1] + z[:, 0]
    statistics = ChannelStatistics()
    statistics.update(z)
    picture = pca_picture(z, statistics.compute(), deviations=1e6) * 1e6
    assert picture.shape == (30, 3, 8, 8)
    shown = picture.transpose(0, 1).flatten(1).double()[: min(channels, 3)]
    assert torch.allclose(torch.atleast_2d(torch.cov(shown, correction=0)), torch.eye(len(shown)).double(), atol=1e-3)


def test_pictures_keep_their_sign() -> None:
    z = fields(10, (8, 8), channels=4)
    statistics = ChannelStatistics()
    statistics.update(z)
    components = statistics.compute().components
    assert bool((components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all())


# Where bands land


def test_the_identity_maps_every_band_to_itself() -> None:
    bands = BandMap()
    bands.update(images(3, (16, 24)), same)
    result = bands.compute()
    assert torch.allclose(result.matrix, torch.eye(8, dtype=torch.float64), atol=1e-6)
    assert (result.on, result.octave, result.relative, result.above) == pytest.approx((1, 1, 1, 0), abs=1e-6)


def test_a_decoder_that_only_enlarges_keeps_frequencies_and_adds_none() -> None:
    bands = BandMap()
    bands.update(images(3, (16, 16)), lambda z: enlarged(z, 8))
    result = bands.compute()
    assert torch.allclose(result.matrix[:, :8], torch.eye(8, dtype=torch.float64), atol=1e-4)
    assert result.image_edges[:9] == result.edges
    assert result.relative < 0.1 < 0.9 < result.octave
    assert bool((result.centre.diff() > 0).all())


def test_nearest_neighbour_answers_above_the_latents_frequencies_too() -> None:
    bands = BandMap()
    bands.update(torch.randn(8, 1, 8, 8), lambda z: F.interpolate(z, scale_factor=4.0))
    result = bands.compute()
    assert result.above > 0.1
    assert result.on < 0.9
    assert result.matrix.sum(1).tolist() == pytest.approx([1.0] * len(result.matrix))


def test_a_decoder_that_turns_frequencies_around_answers_off_the_diagonal() -> None:
    bands = BandMap()
    bands.update(torch.randn(8, 1, 16, 16), mirrored)
    result = bands.compute()
    assert result.matrix[0].argmax() > 4
    assert result.on < 0.3
    assert result.octave < result.blind


def test_a_decoder_of_one_answer_has_no_more_than_the_blind_share() -> None:
    wave = images(1, (16, 16))
    bands = BandMap()
    bands.update(torch.randn(8, 1, 16, 16), lambda z: z.square().mean((1, 2, 3), keepdim=True) * wave)
    result = bands.compute()
    assert result.octave == pytest.approx(result.blind, abs=1e-6)


def test_a_decoder_without_any_answer_has_no_map() -> None:
    bands = BandMap()
    bands.update(torch.randn(2, 1, 8, 8), lambda z: torch.zeros(len(z), 3, 16, 16))
    assert math.isnan(bands.compute().octave)


@pytest.mark.parametrize(("side", "bands"), [(4, 8), (8, 8), (32, 8), (32, 3), (2, 8), (31, 1)])
def test_bands_cover_all_radii_once(side: int, bands: int) -> None:
    edges = band_edges((side, side), bands)
    assert edges[0] == 1
    assert edges[-1] == math.floor(radial_grid((side, side), "dct").max() + 0.5) + 1
    assert list(edges) == sorted(set(edges))
    assert len(edges) - 1 <= bands


# Low-passed, scaled and turned latents


def test_equal_spaces_agree_and_opposite_ones_do_not() -> None:
    x = images()
    assert low_pass_probe(x, x, same, corners=(8,)).ratio("low_pass.8.agreement") == pytest.approx(1, abs=1e-5)
    assert cut_probe(x, x, same, cuts=(0.5,)).ratio("cut.0.5.agreement") == pytest.approx(1, abs=1e-5)
    assert cut_probe(x, x, mirrored, cuts=(0.5,)).ratio("cut.0.5.agreement") < 0.3


def test_an_enlarging_decoder_keeps_cuts_but_not_the_shares_of_dsm() -> None:
    x = images(4, (64, 64))
    z = halved(x)
    assert cut_probe(x, z, enlarged).ratio("cut.0.5.agreement") == pytest.approx(1, abs=1e-4)
    assert low_pass_probe(x, z, enlarged, corners=(10,)).ratio("low_pass.10.agreement") < 0.5


def test_errors_of_low_passed_latents_equal_a_direct_computation() -> None:
    x = images(4, (32, 32))
    z = halved(x)
    found = low_pass_probe(x, z, enlarged, corners=(8, 12))
    for corner in (8, 12):
        low_x, low_z = dsm_mask(x, z, corner)
        ideal = dsm_mask(enlarged(z), z, corner)[0]
        error = (enlarged(low_z) - low_x).square().mean((1, 2, 3))
        assert torch.allclose(found.values[f"low_pass.{corner}.error"], error)
        assert torch.allclose(found.values[f"low_pass.{corner}.ideal"], (ideal - low_x).square().mean((1, 2, 3)))


def test_turns_are_missed_by_a_decoder_with_a_direction() -> None:
    x = images()

    def smeared(z: torch.Tensor) -> torch.Tensor:
        return (z + z.roll(3, 2)) / 2

    turn = [(1.0, 1)]
    assert equivariance_probe(x, x, same, transforms=turn).ratio("equivariance.1.1.missed") < 1e-6
    assert equivariance_probe(x, x, smeared, transforms=turn).ratio("equivariance.1.1.missed") > 0.05
    flat = equivariance_probe(x, x, lambda z: z.mean((2, 3), keepdim=True).expand_as(z), decoded=x, transforms=turn)
    assert flat.ratio("equivariance.1.1.missed") == pytest.approx(1, abs=1e-4)


# Means


def test_means_and_ratios_have_their_errors() -> None:
    a = torch.rand(50, dtype=torch.float64)
    means = SampleMeans()
    means.update({"a": a})
    means.update_ratios({"ratio": (2 * a, a), "noisy": (a, torch.ones_like(a) + a)})
    found = means.compute()
    assert found["a"].mean == pytest.approx(float(a.mean()))
    assert found["a"].error == pytest.approx(float(a.std() / 50**0.5))
    assert found["ratio"][:2] == pytest.approx((2, 0), abs=1e-7)
    assert found["noisy"].mean == pytest.approx(float(a.sum() / (1 + a).sum()))
    assert math.isnan(SampleMeans().compute().get("a", (math.nan,))[0])


def test_values_that_are_not_finite_are_refused_whole() -> None:
    means = SampleMeans()
    with pytest.raises(ValueError, match="bad is not finite"):
        means.update({"good": torch.ones(2), "bad": torch.tensor([1.0, math.nan])})
    assert means.compute() == {}


# All of them together


def test_the_identity_is_perfect() -> None:
    measures = LatentMeasures(same, same)
    measures.update(images())
    result = measures.compute()
    assert result.latent.beta == pytest.approx(result.image.beta)
    assert result.means["esm.0"].mean == pytest.approx(0, abs=1e-5)
    assert result.means["esm.0.white"].mean > 0.1
    assert math.isnan(result.means["psnr"].mean)
    assert result.means["ssim"].mean == pytest.approx(1)
    assert result.means["low_pass.10.agreement"].mean == pytest.approx(1, abs=1e-5)
    assert result.notes == ()


def test_the_reconstruction_is_that_of_psnr() -> None:
    x = images()
    measures = LatentMeasures(halved, enlarged)
    measures.update(x, probe=False)
    result = measures.compute()
    assert result.means["psnr"].mean == pytest.approx(float(psnr(x, enlarged(halved(x))).mean()))
    assert result.bands is None
    assert (result.count, result.probed, result.latent_shape) == (6, 0, (3, 16, 16))
    assert not any(name.startswith(("cut.", "low_pass.", "equivariance.")) for name in result.means)


def _measured(parts: list[tuple[int, int]]) -> LatentMeasures:
    whole = LatentMeasures(halved, enlarged)
    for low, high in parts:
        whole.update(images()[low:high], indices=range(low, high))
    return whole


def test_merged_and_restored_parts_equal_one_pass() -> None:
    one = _measured([(0, 6)]).compute()
    restored = LatentMeasures(halved, enlarged)
    restored.load_state_dict(_measured([(0, 1), (1, 4)]).state_dict())
    both = restored.merge(_measured([(4, 6)])).compute()
    assert both.count == 6
    assert torch.allclose(both.latent.channels, one.latent.channels)
    assert both.latent.beta == pytest.approx(one.latent.beta)
    assert torch.allclose(both.channels.covariance, one.channels.covariance)
    assert torch.allclose(both.bands.matrix, one.bands.matrix, atol=1e-6)
    assert set(both.means) == set(one.means)
    for name, estimate in one.means.items():
        assert both.means[name].mean == pytest.approx(estimate.mean, rel=1e-4, abs=1e-6), name


def test_a_decoder_of_one_size_is_measured_without_scales() -> None:
    def fixed(z: torch.Tensor) -> torch.Tensor:
        return enlarged(z.reshape(-1, 3, 16, 16))

    measures = LatentMeasures(halved, fixed, transforms=[(0.5, 0)])
    measures.update(images())
    measures.update(images(seed=1))
    result = measures.compute()
    assert len(result.notes) == 1
    assert "decoder refused one" in result.notes[0]
    assert result.bands.count == 12


def test_one_image_has_no_errors_but_numbers() -> None:
    measures = LatentMeasures(halved, enlarged)
    measures.update(images(1))
    result = measures.compute()
    assert math.isnan(result.latent.beta_error)
    assert math.isnan(result.means["esm.1"].error)
    assert math.isnan(result.bands.octave_error)
    assert math.isfinite(result.means["esm.1"].mean)


def test_bad_autoencoders_are_named() -> None:
    x = images(2)

    def error(encode, decode) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            LatentMeasures(encode, decode).update(x)
        return str(caught.value)

    assert "images of the shape that went in, got (2, 3, 16, 16)" in error(halved, same)
    assert "latents must be finite; 2 of this batch" in error(lambda x: halved(x) / 0 * 0, enlarged)
    assert "decoded images must be finite" in error(halved, lambda z: enlarged(z) * math.nan)
    assert "latent_dist.mean" in error(lambda x: (x,), same)
    assert "put tokens back on their grid" in error(lambda x: x.flatten(2), same)
    assert "in each other's place" in error(enlarged, halved)
    assert "network.decode(z).sample" in error(halved, lambda z: (z,))


def test_sizes_may_not_change() -> None:
    measures = LatentMeasures(halved, enlarged)
    measures.update(images(1), probe=False)
    with pytest.raises(ValueError, match="one shape"):
        measures.update(images(1, (16, 16)), probe=False)
    assert measures.compute().count == 1
    with pytest.raises(ValueError, match="no images yet"):
        LatentMeasures(same, same).compute()
    with pytest.raises(ValueError, match="bands must be at least 1"):
        BandMap(0)
