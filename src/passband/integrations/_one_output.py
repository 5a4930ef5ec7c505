"""What the drop-ins that run a host's own loss ask of a regularizer."""

from passband.regularization import SpectralRegularizer


def check_one_output(regularizer: object) -> None:
    """Raise unless it is a regularizer that needs the one network output that the host's loss has."""
    if not isinstance(regularizer, SpectralRegularizer):
        raise TypeError(
            f"regularizer must be a SpectralRegularizer such as SpectralRegularizer('amplitude'), got {regularizer!r}"
        )
    if regularizer.needs_denoiser:
        raise ValueError(
            f"{regularizer.clean_estimate!r} calls the network again, and the host's loss calls it once: "
            "leave clean_estimate at its default, or write the step yourself and pass denoiser="
        )
