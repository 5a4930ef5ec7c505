"""What the spectrum report measures of one set of samples: streamed in constant memory, merged, kept in a file."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_choice, check_integer, import_extra
from passband._files import written_whole
from passband.metrics.bootstrap import BootstrapMeans
from passband.metrics.plane_map import PlaneMap
from passband.metrics.planes import KINDS, Planes, SampleKind, plane_names
from passband.metrics.probes import Probe, frequency_octaves, standard_probes
from passband.metrics.store import decode_text, encode_text, read_kept
from passband.transforms.taper import TAPERS, Taper

#: How the names of measured sets end.
MEASURED_SUFFIX = ".spectrum.safetensors"
_FORMAT = "sample spectrum 1"
_SMALLEST_SIDE = 4
_AT_ONCE = 2**20  # values: more samples than that are taken in parts, which bounds the memory and is not slower


class SampleSpectrum:
    r"""Everything that the spectrum report compares, measured on a stream of samples.

    Of each sample the probes ([`standard_probes`][passband.metrics.probes.standard_probes]) take a vector of
    statistics: radial power of every plane, power by direction, energy and kurtosis of the wavelet sub-bands, and so
    on. Kept are the means of these vectors with bootstrap replicates
    ([`BootstrapMeans`][passband.metrics.BootstrapMeans]) and the mean power at every frequency of luma and chroma (of
    the gray plane alone of what has no colours): the memory does not grow with the number of samples, and parts
    measured in several processes can be merged.

    Args:
        name: what the samples are called in errors.
        kind: `"images"` (three channels have luma and chroma besides), `"latents"` or `"signals"`.
        taper: `"hann"`, or `"none"` for data that are periodic, see `passband.transforms.taper`.
        replicates: of the bootstrap, at least 2.
        seed: of the bootstrap's weights and of the halves.
        sample_rate: of signals that are audio, Hz: frequencies are in Hz then, and what is not heard is left out.

    Attributes:
        info: facts that were given to `save`, of a set that was loaded.

    Raises:
        TypeError: if a number is no integer.
        ValueError: for an unknown kind or taper, fewer than 2 replicates, or a sample rate of what is no signal.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum
        >>> measured = SampleSpectrum("noise")
        >>> measured.update(torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        >>> measured.count, measured.planes
        (40, ('red', 'green', 'blue', 'luma', 'Cb', 'Cr'))
        >>> power = measured.block("radial", measured.means.mean)
        >>> tuple(power.shape), round(float(power[0, 4:].mean()), 1)  # white noise: 1
        ((6, 17), 1.0)

    """

    def __init__(
        self,
        name: str = "samples",
        *,
        kind: SampleKind = "images",
        taper: Taper = "hann",
        replicates: int = 200,
        seed: int = 0,
        sample_rate: int | None = None,
    ) -> None:
        check_choice("kind of samples", kind, KINDS)
        check_choice("taper", taper, TAPERS)
        check_sample_rate(sample_rate, kind)
        self.name, self.kind, self.taper = name, kind, taper
        self.replicates, self.seed, self.sample_rate = replicates, seed, sample_rate
        self.info: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.means = BootstrapMeans(self.replicates, self.seed)
        self.plane = PlaneMap(self.seed)
        self._shape: tuple[int, ...] | None = None
        self.layout: dict[str, tuple[slice, tuple[int, ...]]] = {}
        self.probes: tuple[Probe, ...] = ()

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return self.means.count

    @property
    def shape(self) -> tuple[int, ...]:
        r"""Shape of a sample, (channels, \*spatial).

        Raises:
            ValueError: before the first sample.

        """
        if self._shape is None:
            raise ValueError(f"there are no {self.name} yet; call update with at least one batch first")
        return self._shape

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes: the channels, and luma and chroma of colour images."""
        return plane_names(self.shape[0], self.kind)

    @property
    def octaves(self) -> tuple[tuple[float, float], ...]:
        """The octaves in which power is compared, (low, high] in cycles per position, highest first."""
        return frequency_octaves(min(self.shape[1:]), self.sample_rate)

    @property
    def settings(self) -> dict[str, Any]:
        """How the samples are measured, and by which probes (none before the first sample)."""
        return {
            "kind": self.kind,
            "taper": self.taper,
            "replicates": self.replicates,
            "seed": self.seed,
            "sample_rate": self.sample_rate,
            "probes": list(self.layout),
        }

    def update(self, samples: Float[Tensor, "batch channels *spatial"], keys: Sequence[str] | None = None) -> None:
        r"""Add a batch.

        Args:
            samples: (batch, channels, \*spatial), 1 or 2 spatial axes, of one shape in all batches.
            keys: what each sample is called: samples of one key (the tiles of one photograph) are resampled together,
                and so are samples of one key in two sets. None numbers them on, which is right where one process sees
                all samples and none belong together.

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if their shape differs from what came before or is too small, there are not as many keys, or a
                value is not finite; nothing is added then.

        """
        check_batch(self.name, samples, dims=(1, 2))
        shape = tuple(samples.shape[1:])
        self._check_shape(shape)
        names = [str(self.count + i) for i in range(len(samples))] if keys is None else list(keys)
        if len(names) != len(samples):
            raise ValueError(f"{self.name} need one key each, got {len(names)} keys for {len(samples)} samples")
        _check_finite(self.name, samples, names)
        if len(samples) == 0:
            return
        self._take_shape(shape)
        step = max(1, _AT_ONCE // prod(shape))
        for start in range(0, len(samples), step):
            self._measure(samples[start : start + step], names[start : start + step])

    def merge(self, other: "SampleSpectrum") -> "SampleSpectrum":
        """Add what another one has seen, and return self.

        Raises:
            ValueError: if it was measured with other settings, or on samples of another shape.

        """
        if other.count:
            self._check_shape(other.shape)
        self._check_settings(other)
        if other.count:
            self._take_shape(other.shape)
            self.means.merge(other.means)
            self.plane.merge(other.plane)
        return self

    def block(self, name: str, means: Float64[Tensor, "*lead d"]) -> Float64[Tensor, "..."]:
        """Cut one probe's part out of mean vectors, in the probe's own shape.

        Args:
            name: of the probe.
            means: means, as `means.mean`, `means.halves` or `means.replicate_means` hold them.

        Raises:
            ValueError: for a probe that was not measured.

        """
        check_choice("probe", name, self.layout)
        place, shape = self.layout[name]
        return means[..., place].reshape(*means.shape[:-1], *shape)

    def check_comparable(self, other: "SampleSpectrum") -> None:
        """Raise ValueError unless both hold samples, of one shape and measured with the same settings."""
        if self.shape != other.shape:
            raise ValueError(
                f"{self.name} and {other.name} must have one shape (channels, *spatial), got {self.shape} and "
                f"{other.shape}; crop or resize them to one size first"
            )
        self._check_settings(other)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as a flat dictionary of tensors, to save or to send to another process."""
        state = {"settings": encode_text(json.dumps(self.settings, sort_keys=True))}
        if self._shape is not None:
            state["shape"] = torch.tensor(self._shape)
        parts = {"means": self.means.state_dict(), "plane": self.plane.state_dict()}
        return state | {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace state and settings by those of [`state_dict`][passband.metrics.SampleSpectrum.state_dict].

        Raises:
            ValueError: if it is the state of something else.

        """
        if "settings" not in state:
            raise ValueError(f"not a state of SampleSpectrum: it lacks 'settings', it holds {sorted(state)}")
        settings = json.loads(decode_text(state["settings"]))
        if not isinstance(settings, dict) or not {"kind", "taper", "probes"} <= set(settings):
            raise ValueError(
                f"not a state of SampleSpectrum: its settings must be {', '.join(self.settings)}, got {settings}"
            )
        if set(settings) != set(self.settings):
            raise ValueError(
                f"{self.name} were measured by another version of passband, with the settings {', '.join(settings)}, "
                f"where this one has {', '.join(self.settings)}; measure them again"
            )
        probes = settings.pop("probes")
        SampleSpectrum(**settings)  # raises where one of them is none
        for key, value in settings.items():
            setattr(self, key, value)
        self.reset()
        if "shape" in state:
            self._take_shape(tuple(int(n) for n in state["shape"]))
            if probes != list(self.layout):
                raise ValueError(
                    f"{self.name} were measured by another version of passband: it took {', '.join(probes)}, this one "
                    f"takes {', '.join(self.layout)}; measure them again"
                )
            self.means.load_state_dict(_part(state, "means."))
            self.plane.load_state_dict(_part(state, "plane."))

    def save(
        self, path: str | Path, info: Mapping[str, str] | None = None, extra: Mapping[str, Tensor] | None = None
    ) -> Path:
        """Write what was measured to a safetensors file, whole or not at all.

        Args:
            path: the file; by custom its name ends in `.spectrum.safetensors`.
            info: further facts to keep, such as where the samples came from.
            extra: further tensors, which `load` leaves alone.

        Raises:
            ValueError: before the first sample.

        """
        safetensors = import_extra("safetensors.torch", "train")
        facts = {
            "format": _FORMAT,
            "shape": list(self.shape),
            "count": self.count,
            **self.settings,
            "info": {**self.info, **(info or {})},
        }
        state = {key: value.contiguous() for key, value in (dict(extra or {}) | self.state_dict()).items()}
        data = safetensors.save(state, metadata={"passband": json.dumps(facts, sort_keys=True)})
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_bytes(data)
        return path

    @classmethod
    def load(cls, path: str | Path, *, name: str = "samples") -> "SampleSpectrum":
        """Read what `save` wrote, with its settings; nothing is unpickled.

        Args:
            path: the file.
            name: what the samples are called in errors.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it holds something else, or was measured by another version.

        """
        facts, state = read_kept(
            Path(path), _FORMAT, "measured samples", "SampleSpectrum.save or passband compare", extra="train"
        )
        result = cls(name)
        result.load_state_dict(state)
        result.info = dict(facts["info"])
        return result

    def _measure(self, samples: Tensor, keys: Sequence[str]) -> None:
        planes = Planes(samples, kind=self.kind, taper=self.taper, name=self.name)
        blocks = [probe(planes).flatten(1).double() for probe in self.probes]
        self.means.update(torch.cat(blocks, 1), keys)
        self.plane.update(planes.scanned_power, keys)

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        """Choose the probes for samples of this shape, and lay their statistics out in one vector."""
        if self._shape is not None:
            return
        self.probes = tuple(probe for probe in standard_probes(self.kind, self.sample_rate) if probe.check(shape))
        planes, start = Planes(torch.zeros(1, *shape), kind=self.kind, taper=self.taper), 0
        for probe in self.probes:
            block = tuple(probe(planes).shape[1:])
            self.layout[probe.name] = slice(start, start + prod(block)), block
            start += prod(block)
        self._shape = shape

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if self._shape is not None and shape != self._shape:
            raise ValueError(
                f"{self.name} must all have one shape (channels, *spatial), got {shape} after {self._shape}; "
                "crop or resize them to one size first"
            )
        if min(shape[1:]) < _SMALLEST_SIDE:
            raise ValueError(
                f"{self.name} must be at least {_SMALLEST_SIDE} positions wide to have a spectrum, got size {shape[1:]}"
            )

    def _check_settings(self, other: "SampleSpectrum") -> None:
        mine, theirs = self.settings, other.settings
        keys = ("kind", "taper", "replicates", "seed", "sample_rate") if not (self.count and other.count) else mine
        differing = [key for key in keys if mine[key] != theirs[key]]
        if differing:
            raise ValueError(
                f"{self.name} and {other.name} must be measured with the same settings, got "
                + " and ".join(", ".join(f"{key} {each[key]}" for key in differing) for each in (mine, theirs))
                + "; measure one of them again"
            )


def check_sample_rate(sample_rate: int | None, kind: SampleKind) -> None:
    """Raise unless it is a rate of signals, or none."""
    if sample_rate is None:
        return
    check_integer("sample_rate", sample_rate)
    if sample_rate < 1 or kind != "signals":
        raise ValueError(f"sample_rate must be that of signals and at least 1 Hz, got {sample_rate} for {kind}")


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _check_finite(name: str, samples: Tensor, keys: Sequence[str]) -> None:
    """Raise ValueError, naming the first, unless all values are finite."""
    bad = (~samples.detach().flatten(1).float().sum(1).isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{name} must be finite; {len(bad)} of this batch are not, the first at index {bad[0]} "
            f"({keys[bad[0]]!r}); leave them out, or find out why they were generated"
        )
