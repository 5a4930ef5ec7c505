"""The least that an item must do, bare of everything else."""

from torch import Tensor
from torch import fft as fourier
from torch.nn.functional import l1_loss

from passband.bench.bars import Bar
from passband.bench.item import Arm, loss_call
from passband.bench.timing import Call


def real_ffts(estimate: Tensor, clean: Tensor, count: int = 3, bars: tuple[Bar, ...] = ()) -> Arm:
    """The spectra of two fields and the way back of one; for a loss of the difference, `count=2`: there and back."""
    fields = [estimate.detach(), clean][: count - 1]
    dims, size = tuple(range(2, clean.ndim)), clean.shape[2:]

    def forward() -> Tensor:
        spectra = [fourier.rfftn(x, dim=dims) for x in fields]
        back: Tensor = fourier.irfftn(spectra[0], s=size, dim=dims)
        return back

    words = {2: "two", 3: "three", 4: "four"}
    return Arm(f"{words[count]} real FFTs", Call(forward), "floor", bars=bars)


def plain_l1(estimate: Tensor, clean: Tensor) -> Arm:
    """A mean absolute difference with its gradient."""
    return Arm("L1", loss_call(l1_loss, estimate, clean), "floor")


def there_and_back(x: Tensor, matrices: tuple[Tensor, ...], times: int = 2, bars: tuple[Bar, ...] = ()) -> Arm:
    """Bare products with a matrix per axis and with its transpose; twice for forward and backward."""
    values = x.detach()

    def forward() -> Tensor:
        y = values
        for _ in range(times):
            for turned in (False, True):
                y = _along_axes(y, matrices, turned)
        return y

    flops = 2 * times * sum(2 * x.numel() * len(matrix) for matrix in matrices)
    return Arm(f"matmuls, {flops / 1e9:.3g} GFLOP", Call(forward), "floor", bars=bars)


def real_ffts_there_and_back(x: Tensor, times: int = 2) -> Arm:
    """Bare real FFTs and their inverses; twice for forward and backward."""
    values = x.detach()
    dims, size = tuple(range(2, x.ndim)), x.shape[2:]

    def forward() -> Tensor:
        y = values
        for _ in range(times):
            y = fourier.irfftn(fourier.rfftn(y, dim=dims), s=size, dim=dims)
        return y

    return Arm("four real FFTs" if times == 2 else "two real FFTs", Call(forward), "floor")


def _along_axes(x: Tensor, matrices: tuple[Tensor, ...], turned: bool) -> Tensor:
    rows = matrices[-1]
    x = x @ (rows if turned else rows.mT)
    if len(matrices) == 2:
        x = (matrices[0].mT if turned else matrices[0]) @ x
    return x
