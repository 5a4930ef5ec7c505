"""DiffWave, on waveforms."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from passband.models import DiffWave
from passband.training.families.base import Family, Shape
from passband.training.sections import DiffWaveModel


class DiffWaveFamily(Family[DiffWaveModel]):
    """The convolutional denoiser of waveforms; it takes any length."""

    class_name, name, folder = "DiffWave", "diffwave", "diffwave"

    def build(self, settings: DiffWaveModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        if heads != 1:
            raise ValueError(f"DiffWave has one output, and the process asks for {heads}: set process.hybrid to false")
        options = settings.model_dump(exclude={"name", "pretrained", "gradient_checkpointing"})
        return self.adapted(DiffWave(**options), settings)

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """See the base class."""
        return (1,)

    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return 0

    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """See the base class; that it fits the spectrogram is checked where that is known."""
        if heads != 1:
            raise ValueError(f"{where} has one output, and the process asks for {heads}: set process.hybrid to false")

    def adapted(self, network: nn.Module, settings: DiffWaveModel) -> nn.Module:
        """The network with gradient checkpointing, if the settings ask for it."""
        assert isinstance(network, DiffWave)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return network
