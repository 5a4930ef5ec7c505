"""The streamed measurement of a set against one pass, its merging, and its file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from passband.metrics import Planes, SampleSpectrum
from passband.metrics import sample_spectrum as module
from passband.metrics.store import decode_text, encode_text


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def names(count: int, start: int = 0) -> list[str]:
    return [f"image-{i}" for i in range(start, start + count)]


def measured(x: torch.Tensor, keys: list[str] | None = None, **options: object) -> SampleSpectrum:
    result = SampleSpectrum(**{"replicates": 20} | options)
    result.update(x, keys)
    return result


def assert_same(a: SampleSpectrum, b: SampleSpectrum) -> None:
    assert (a.count, a.shape, a.settings) == (b.count, b.shape, b.settings)
    for part in ("means", "plane"):
        left, right = getattr(a, part).state_dict(), getattr(b, part).state_dict()
        assert left.keys() == right.keys()
        for key in left:
            torch.testing.assert_close(left[key], right[key], rtol=1e-5, atol=1e-5)


def test_the_means_are_those_of_every_probe() -> None:
    x = noise(6, 3, 32, 24)
    result = measured(x)
    assert [probe.name for probe in result.probes] == list(result.layout)
    for probe in result.probes:
        expected = probe(Planes(x)).double().mean(0)
        torch.testing.assert_close(result.block(probe.name, result.means.mean), expected)
    expected = Planes(x).scanned_power.double().mean(0)
    assert result.plane.planes == len(expected) == 3
    for plane, power in enumerate(expected):
        torch.testing.assert_close(result.plane.mean(plane), power, rtol=1e-5, atol=1e-7)
    places = sorted((place.start, place.stop) for place, _ in result.layout.values())
    assert [start for start, _ in places[1:]] == [stop for _, stop in places[:-1]]
    assert (places[0][0], places[-1][1]) == (0, len(result.means.mean))


def test_blocks_keep_what_stands_before_them() -> None:
    result = measured(noise(6, 3, 16, 16))
    power = result.block("radial", result.means.half_replicates)
    assert power.shape == (2, 20, 6, 9)
    torch.testing.assert_close(power[1, 3], result.block("radial", result.means.half_replicates[1, 3]))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 33)])
def test_batches_parts_and_what_fits_at_once_do_not_matter(shape: tuple[int, ...], monkeypatch) -> None:
    x = noise(10, *shape)
    whole = measured(x, names(10))
    batches = SampleSpectrum(replicates=20)
    for start in (0, 3, 4):
        stop = {0: 3, 3: 4, 4: 10}[start]
        batches.update(x[start:stop], names(stop - start, start))
    assert_same(batches, whole)
    assert_same(measured(x[6:], names(4, 6)).merge(measured(x[:6], names(6))), whole)
    assert_same(SampleSpectrum(replicates=20).merge(whole), whole)
    assert_same(measured(x, names(10)).merge(SampleSpectrum(replicates=20)), whole)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    assert_same(measured(x, names(10)), whole)


def test_samples_without_keys_are_numbered_on() -> None:
    x = noise(6, 1, 16, 16)
    counted = SampleSpectrum(replicates=20)
    counted.update(x[:4])
    counted.update(x[4:])
    assert_same(counted, measured(x, [str(i) for i in range(6)]))
    assert not torch.equal(counted.means.replicate_means, measured(x, names(6)).means.replicate_means)


def test_the_settings_reach_the_measurement() -> None:
    x = noise(4, 3, 16, 16)
    plain = measured(x, kind="latents", taper="none")
    assert plain.planes == ("1", "2", "3", "all")
    radial = Planes(x, kind="latents", taper="none")
    torch.testing.assert_close(plain.block("radial", plain.means.mean), plain.probes[0](radial).double().mean(0))
    assert plain.plane.planes == 1
    torch.testing.assert_close(plain.plane.mean(0), radial.gray_power.double().mean(0), rtol=1e-5, atol=1e-7)
    other = measured(x, seed=1)
    torch.testing.assert_close(other.means.mean, measured(x).means.mean)
    assert not torch.equal(other.means.replicate_means, measured(x).means.replicate_means)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_measured_in_float32(dtype: torch.dtype) -> None:
    x = noise(4, 1, 16, 16).to(dtype)
    assert_same(measured(x), measured(x.float()))


def test_the_file_holds_all_of_it(tmp_path: Path) -> None:
    options = {"kind": "latents", "taper": "none", "replicates": 30, "seed": 3}
    result = measured(noise(7, 4, 16, 16), names(7), **options)
    path = result.save(tmp_path / "new" / "set.spectrum.safetensors", {"source": "a test"})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    loaded = SampleSpectrum.load(path, name="real")
    assert_same(loaded, result)
    assert (loaded.info, loaded.name) == ({"source": "a test"}, "real")
    # What was loaded goes on as if it had never stopped, and is kept with its facts.
    for each in (loaded, result):
        each.update(noise(2, 4, 16, 16, seed=1), ["x", "y"])
    assert_same(loaded, result)
    assert SampleSpectrum.load(loaded.save(path, {"more": "1"})).info == {"source": "a test", "more": "1"}


def test_an_empty_state_is_one_too() -> None:
    empty = SampleSpectrum(kind="signals")
    empty.update(torch.empty(0, 1, 32))
    other = measured(noise(3, 1, 16, 16))
    other.load_state_dict(empty.state_dict())
    assert (other.count, other.kind) == (0, "signals")
    with pytest.raises(ValueError, match="there are no samples yet"):
        _ = other.shape


def test_what_goes_wrong_adds_nothing() -> None:
    x = noise(4, 1, 16, 16)
    result = measured(x, names(4))
    before = result.state_dict()
    bad = x.clone()
    bad[2, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"finite; 1 of this batch are not, the first at index 2 \('image-2'\)"):
        result.update(bad, names(4))
    with pytest.raises(ValueError, match="one key each, got 3 keys for 4 samples"):
        result.update(x, names(3))
    with pytest.raises(ValueError, match=r"one shape \(channels, \*spatial\), got \(1, 8, 16\) after \(1, 16, 16\)"):
        result.update(noise(4, 1, 8, 16))
    with pytest.raises(ValueError, match=r"got \(1, 18\) after \(1, 16, 16\)"):
        result.merge(measured(noise(3, 1, 18)))
    with pytest.raises(TypeError, match="floating-point"):
        result.update(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    after = result.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "got seed 0 and seed 1"),
        ({"taper": "none"}, "got taper hann and taper none"),
        ({"kind": "latents", "replicates": 9}, "got kind images, replicates 20 and kind latents, replicates 9"),
    ],
)
def test_only_what_was_measured_alike_is_joined_or_compared(options: dict[str, object], message: str) -> None:
    x = noise(4, 1, 16, 16)
    for refuse in (measured(x).merge, measured(x).check_comparable):
        with pytest.raises(ValueError, match=f"the same settings, {message}; measure one of them again"):
            refuse(measured(x, **options))


def test_sets_of_other_shapes_or_without_samples_are_not_compared() -> None:
    real = measured(noise(4, 1, 16, 16), name="real")
    real.check_comparable(measured(noise(2, 1, 16, 16)))
    with pytest.raises(ValueError, match=r"real and fake must have one shape .* \(1, 16, 16\) and \(3, 16, 16\)"):
        real.check_comparable(measured(noise(4, 3, 16, 16), name="fake"))
    with pytest.raises(ValueError, match="there are no fake yet"):
        real.check_comparable(SampleSpectrum("fake"))


def test_wrong_options_and_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown kind of samples: got 'audio'"):
        SampleSpectrum(kind="audio")
    with pytest.raises(ValueError, match=r"unknown taper: got 'hamming'; expected one of 'hann', 'none'"):
        SampleSpectrum(taper="hamming")
    with pytest.raises(ValueError, match="replicates must be at least 2"):
        SampleSpectrum(replicates=1)
    with pytest.raises(ValueError, match=r"at least 4 positions wide .* got size \(3, 8\)"):
        SampleSpectrum().update(noise(2, 1, 3, 8))
    with pytest.raises(ValueError, match="unknown probe: got 'radials'"):
        measured(noise(2, 1, 8, 8)).block("radials", torch.zeros(3, dtype=torch.float64))


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no measured samples at"):
        SampleSpectrum.load(tmp_path / "none.spectrum.safetensors")
    (tmp_path / "broken").write_bytes(measured(noise(2, 1, 8, 8)).save(tmp_path / "whole").read_bytes()[:500])
    with pytest.raises(ValueError, match="no whole file of measured samples"):
        SampleSpectrum.load(tmp_path / "broken")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds no measured samples"):
        SampleSpectrum.load(tmp_path / "other")
    with pytest.raises(ValueError, match="lacks 'settings', it holds \\['weight'\\]"):
        SampleSpectrum().load_state_dict({"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="there are no samples yet"):
        SampleSpectrum().save(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_measurements_by_other_probes_are_refused(monkeypatch) -> None:
    state = measured(noise(2, 1, 32, 32)).state_dict()
    monkeypatch.setattr(module, "standard_probes", fewer_probes)
    with pytest.raises(ValueError, match=r"another version of passband: it took radial, .* this one takes radial;"):
        SampleSpectrum("old samples").load_state_dict(state)


def test_settings_of_an_older_version_are_said_to_be_such() -> None:
    state = measured(noise(2, 1, 32, 32)).state_dict()
    settings = json.loads(decode_text(state["settings"]))
    del settings["sample_rate"]
    with pytest.raises(ValueError, match="old samples were measured by another version of passband, with the settings"):
        SampleSpectrum("old samples").load_state_dict(state | {"settings": encode_text(json.dumps(settings))})


def fewer_probes(kind: str, sample_rate: int | None) -> tuple[object, ...]:
    from passband.metrics.probes import RadialPower

    return (RadialPower(kind),)


def test_further_tensors_lie_beside_what_was_measured(tmp_path: Path) -> None:
    result = measured(noise(4, 1, 16, 16))
    path = result.save(tmp_path / "a.spectrum.safetensors", extra={"law.sums": torch.ones(3)})
    assert torch.equal(load_file(path)["law.sums"], torch.ones(3))
    assert_same(SampleSpectrum.load(path), result)


@pytest.mark.parametrize("settings", [[], {"update": 1}, {"kind": "images"}])
def test_settings_of_something_else_are_refused(settings: object) -> None:
    result = SampleSpectrum()
    with pytest.raises(ValueError, match="its settings must be kind, taper, replicates, seed, sample_rate, probes"):
        result.load_state_dict({"settings": encode_text(json.dumps(settings))})
    assert callable(result.update)
