"""The adjoint of a signal's extension."""

import pytest
import torch

from passband.transforms._extend import extend, retract_

MODES = ["zero", "constant", "symmetric", "reflect", "periodic", "smooth", "antisymmetric", "antireflect"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("axis", [1, 2])
def test_retract_is_the_adjoint_of_extend(mode, size, axis):
    generator = torch.Generator().manual_seed(size)
    shape = [2, 3, 3]
    shape[axis] = size
    for before, after in [(0, 0), (1, 0), (0, 1), (2, 2), (4, 3), (9, 10)]:  # the last: longer than the signal
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        extended = extend(x, axis, before, after, mode)
        weights = torch.randn(extended.shape, generator=generator, dtype=torch.float64)
        front, middle, behind = weights.split([before, size, after], dim=axis)
        result = middle.clone()
        retract_(result, axis, front if before else None, behind if after else None, mode)
        torch.testing.assert_close((result * x).sum(), (weights * extended).sum(), rtol=1e-12, atol=1e-11)
