"""What each loss takes of a training step: alone, and as a whole step with it."""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from passband._checks import import_extra
from passband.bench import bars
from passband.bench.bars import Bar
from passband.bench.item import Arm, Case, Item, Setting, loss_call
from passband.bench.timing import Call
from passband.forcing import SpectralForcing
from passband.models import DiffWave, JiT
from passband.process import Flow
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    FocalFrequencyLoss,
    FramedLoss,
    PixelLoss,
    SpectralLoss,
    SpectralRegularizer,
    WaveletLoss,
)

PROCESS = Flow(data_at=1, prediction="sample")


def items() -> list[Item]:
    """Four networks, small enough for a CPU."""
    return [
        Item("step/unet-small", unet_small, "diffusers U-Net (16, 32, 32), 64 x 64, batch 8", 2.0),
        Item("step/unet-medium", unet_medium, "diffusers U-Net (64, 128, 128), 2 blocks, 64 x 64, batch 4", 2.0),
        Item("step/jit-small", jit_small, "JiT, patch 8, 256 wide, 6 blocks, 64 x 64, batch 8", 2.0),
        Item("step/diffwave-small", diffwave_small, "DiffWave, 10 layers, 32 wide, 15,872 samples, batch 4", 2.0),
    ]


def unet_small(setting: Setting) -> Case:
    """The network of the examples, and the one for which shares are promised."""
    network = diffusers_unet((16, 32, 32), 1, setting)
    return step_case(
        network, (8, 3, 64, 64), _image_losses(), ("amplitude", "haar"), setting, promised=(bars.STEP_SHARE,)
    )


def unet_medium(setting: Setting) -> Case:
    """A wider one."""
    network = diffusers_unet((64, 128, 128), 2, setting)
    return step_case(network, (4, 3, 64, 64), _image_losses(), ("amplitude",), setting)


def jit_small(setting: Setting) -> Case:
    """A pixel transformer."""
    torch.manual_seed(setting.seed)
    network = JiT(64, patch_size=8, hidden_size=256, depth=6, num_heads=4, num_classes=0, bottleneck_dim=64)
    return step_case(network, (8, 3, 64, 64), _image_losses(), ("amplitude", "haar"), setting)


def diffwave_small(setting: Setting) -> Case:
    """A vocoder without spectrogram."""
    torch.manual_seed(setting.seed)
    network = DiffWave(residual_layers=10, residual_channels=32, unconditional=True)
    losses: dict[str, SpectralLoss] = {
        "amplitude": AmplitudeLoss(),
        "amplitude-phase": AmplitudePhaseLoss(),
        "haar": WaveletLoss("haar", 3),
        "bior1.3": WaveletLoss("bior1.3", 3),
        "pixel": PixelLoss(),
        "framed amplitude": FramedLoss(AmplitudeLoss()),
    }
    return step_case(network, (4, 1, 15872), losses, ("amplitude", "haar"), setting, forced=False)


def diffusers_unet(widths: Sequence[int], blocks: int, setting: Setting) -> nn.Module:
    """A U-Net without attention."""
    torch.manual_seed(setting.seed)
    made: nn.Module = import_extra("diffusers", "integrations").UNet2DModel(
        sample_size=64,
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
    )
    return made


class Training:
    """A network, its optimizer, a batch, and perhaps a term.

    Args:
        network: called with (noisy, times).
        clean: the batch.
        setting: of the noise.
        regularizer: a term to add to the mean squared error.

    """

    def __init__(
        self, network: nn.Module, clean: Tensor, setting: Setting, regularizer: SpectralRegularizer | None = None
    ) -> None:
        self.network = network.to(clean.device).train()
        self.regularizer = regularizer
        self.clean = clean
        self.t = torch.linspace(0.2, 0.8, len(clean)).to(clean.device)
        self.noisy = PROCESS.add_noise(clean, setting.noise(clean.shape, 1), self.t)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-5)

    def loss(self) -> Tensor:
        """Forward pass, mean squared error, and the term."""
        output = self.network(self.noisy, self.t)
        prediction: Tensor = getattr(output, "sample", output)
        loss = nn.functional.mse_loss(prediction, self.clean)
        if self.regularizer is not None:
            loss = loss + self.regularizer(PROCESS, self.noisy, prediction, self.t, clean=self.clean)
        return loss

    def update(self, loss: Tensor) -> None:
        """Backward pass and the optimizer's step."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def call(self) -> Call:
        """A whole step."""
        return Call(self.loss, self.update)


def step_case(
    network: nn.Module,
    shape: tuple[int, ...],
    losses: dict[str, SpectralLoss],
    whole: Sequence[str],
    setting: Setting,
    forced: bool = True,
    promised: tuple[Bar, ...] = (),
) -> Case:
    """The step, each loss alone on its prediction, and whole steps with some of them.

    Whole steps differ by less than their noise; so what is promised is of the loss alone, in the same turns.
    """
    estimate, clean = setting.pair(shape)
    plain = Training(network, clean, setting)
    arms = [Arm("step, MSE", plain.call, "step")]
    for name, loss in losses.items():
        call = loss_call(loss, estimate, clean)
        arms.append(Arm(name, call, "share", leaf=estimate, differs="a part", bars=(*promised, bars.KEPT)))
    if forced:
        forcing = SpectralForcing(PROCESS)
        alone = Call(partial(forcing, plain.noisy, plain.t))
        arms.append(Arm("forcing", alone, "share", differs="a part", bars=promised))
    for name in whole:
        training = Training(network, clean, setting, SpectralRegularizer(losses[name], weight=0.01))
        arms.append(Arm(f"step with {name}", training.call, "with", differs="more"))
    if forced:
        copied = copy.deepcopy(network)
        forcing.attach(copied)
        arms.append(Arm("step with forcing", Training(copied, clean, setting).call, "with", differs="more"))
    return Case(tuple(arms), (estimate, clean), estimate.untyped_storage().nbytes())


def _image_losses() -> dict[str, SpectralLoss]:
    return {
        "amplitude": AmplitudeLoss(),
        "amplitude-phase": AmplitudePhaseLoss(),
        "haar": WaveletLoss("haar", 3),
        "bior1.3": WaveletLoss("bior1.3", 3),
        "focal": FocalFrequencyLoss(),
        "pixel": PixelLoss(),
    }
