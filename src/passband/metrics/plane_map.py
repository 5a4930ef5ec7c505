"""Mean power of a stream of fields at every frequency of the plane, with its error: constant memory, mergeable."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor

from passband._checks import check_floating, check_integer
from passband.metrics.bootstrap import in_first_half

#: Groups of samples whose sums are kept apart, for a jackknife: 2 to the power of the halvings.
GROUPS = 16
_HALVINGS = 4


def sample_groups(keys: Sequence[str], seed: int = 0) -> Int64[Tensor, " keys"]:
    """The group, 0 ... 15, of each sample: a hash of (seed, key) decides, so samples of one key stay together.

    Example:
        >>> from passband.metrics.plane_map import sample_groups
        >>> groups = sample_groups(["a", "b", "a"])
        >>> bool(groups[0] == groups[2]), 0 <= int(groups.min()) <= int(groups.max()) < 16
        (True, True)

    """
    # The highest bit is that of the halves, so that groups 0 ... 7 are one half and 8 ... 15 the other.
    bits = [in_first_half(keys, seed + step).long() for step in range(_HALVINGS)]
    return sum((bit << (_HALVINGS - 1 - step) for step, bit in enumerate(bits)), torch.zeros(len(keys)).long())


def whole_spectrum(half: Shaped[Tensor, " batch *half"], width: int) -> Shaped[Tensor, " batch *full"]:
    """The whole spectrum, or power, of real fields of this width from its half: X(-k) is the conjugate of X(k).

    Example:
        >>> import torch
        >>> from passband.metrics.plane_map import whole_spectrum
        >>> x = torch.randn(2, 6, 5)
        >>> torch.allclose(whole_spectrum(torch.fft.rfft2(x), 5), torch.fft.fft2(x), atol=1e-5)
        True

    """
    rest = half[..., 1 : (width + 1) // 2].conj().flip(-1)
    if half.ndim == 3:
        rest = rest.flip(-2).roll(1, -2)
    return torch.cat([half, rest], -1)


class PlaneMap:
    r"""Running mean of the power of some planes at each frequency of a half spectrum, in 16 groups of samples.

    The sums are kept in float32, whose rounding is far below what chance makes of a mean. The groups give the error of
    what is computed of the mean: samples of one key (the tiles of one photograph) are in one group, so a pattern that a
    single photograph brings along is seen to be one photograph's.

    Args:
        seed: of the groups; maps of one seed can be merged.

    Raises:
        TypeError: if seed is no integer.

    Example:
        >>> import torch
        >>> from passband.metrics.plane_map import PlaneMap
        >>> from passband.transforms import rfftn
        >>> plane = PlaneMap()
        >>> white = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> plane.update(rfftn(white).abs() ** 2, [str(i) for i in range(500)])
        >>> tuple(plane.mean(0).shape), round(float(plane.mean(0).mean()), 1)
        ((8, 5), 1.0)

    """

    def __init__(self, seed: int = 0) -> None:
        check_integer("seed", seed)
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.counts = torch.zeros(GROUPS, dtype=torch.int64)
        self._sums: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return int(self.counts.sum())

    @property
    def planes(self) -> int:
        """Number of planes."""
        return self.sums.shape[1]

    def update(self, power: Float[Tensor, "batch planes *half"], keys: Sequence[str]) -> None:
        """Add a batch.

        Args:
            power: of each plane of each sample, at each frequency of its half spectrum.
            keys: what each sample is called.

        Raises:
            TypeError: if power is not floating.
            ValueError: if there are not as many keys as samples, or the shape differs from what came before; nothing
                is added then.

        """
        check_floating("power", power)
        if power.ndim < 3 or len(power) != len(keys):
            raise ValueError(
                f"expected the power of each plane of each sample and a key for each sample, got shape "
                f"{tuple(power.shape)} and {len(keys)} keys"
            )
        self._check_shape(tuple(power.shape[1:]))
        if len(power) == 0:
            return
        groups = sample_groups(keys, self.seed)
        if self._sums is None:
            self._sums = torch.zeros(GROUPS, *power.shape[1:])
        self._sums.index_add_(0, groups, power.detach().float().cpu())
        self.counts = self.counts + torch.bincount(groups, minlength=GROUPS)

    def merge(self, other: "PlaneMap") -> "PlaneMap":
        """Add what another one has seen, and return self.

        Raises:
            ValueError: if its seed or shape is another.

        """
        if other.seed != self.seed:
            raise ValueError(f"both must have one seed, got {self.seed} and {other.seed}; measure again with one seed")
        if other.count:
            self._check_shape(tuple(other.sums.shape[1:]))
            self._sums = other.sums.clone() if self._sums is None else self._sums + other.sums
            self.counts = self.counts + other.counts
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another process."""
        if self._sums is None:
            return {}
        return {"sums": self._sums.clone(), "counts": self.counts.clone(), "seed": torch.tensor(self.seed)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.PlaneMap.state_dict].

        Raises:
            ValueError: if an entry is missing.

        """
        missing = {"sums", "counts", "seed"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of a plane map lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            self.seed = int(state["seed"])
            self._sums, self.counts = state["sums"].float().cpu().clone(), state["counts"].long().cpu().clone()

    @property
    def sums(self) -> Float32[Tensor, "groups planes *half"]:
        """The power summed over the samples of each group.

        Raises:
            ValueError: before the first sample.

        """
        if self._sums is None:
            raise ValueError("there are no samples yet; call update with at least one batch first")
        return self._sums

    def mean(self, plane: int) -> Float64[Tensor, "*half"]:
        """The mean power of a plane over all samples."""
        return self.sums[:, plane].double().sum(0) / self.count

    def without(self, plane: int) -> Float64[Tensor, " groups *half"]:
        """The mean power of a plane without each group, for a jackknife; NaN where nothing else is left."""
        sums = self.sums[:, plane].double()
        left = (self.count - self.counts).reshape(-1, *[1] * (sums.ndim - 1))
        return (sums.sum(0) - sums) / left

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if self._sums is not None and tuple(self._sums.shape[1:]) != shape:
            raise ValueError(f"all spectra must have one shape, got {shape} after {tuple(self._sums.shape[1:])}")
