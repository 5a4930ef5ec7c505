"""What a run writes as it goes: its log, and the trackers that the recipe names."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from passband._checks import check_choice, import_extra
from passband._files import write_file
from passband.reports import pixels_of
from passband.training.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Called with (step, log entry) after each logged step.
OnLog = Callable[[int, dict[str, float]], None]


def check_trackers(names: Sequence[str]) -> None:
    """Raise unless Accelerate knows each tracker and its package is installed.

    Raises:
        ValueError: if a name is unknown, or its package is not installed.

    """
    if not names:
        return
    tracking = import_extra("accelerate.tracking", "train")
    known = {str(name): kind for name, kind in tracking.LOGGER_TYPE_TO_CLASS.items()}
    available = {str(name) for name in tracking.get_available_trackers()}
    for name in names:
        check_choice("tracker", name, known)
        if name not in available:
            raise ValueError(
                f"the tracker {name!r} is not installed: install its package (pip install {name}), or take it out of "
                "training.trackers"
            )


class Journal:
    """The log of a run and its trackers, written by the main process alone.

    Args:
        folder: the run's folder.
        accelerator: made with `log_with` set to the trackers' names.
        project: the name of the project, for trackers that ask for one.

    """

    def __init__(self, folder: RunFolder, accelerator: "Accelerator", project: str) -> None:
        self.folder, self.accelerator, self.project = folder, accelerator, project
        self._started = False

    def write(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Add an entry and return it."""
        entry = {"step": step, **values}
        self.folder.append(entry)
        if self._trackers(step):
            self.accelerator.log(dict(values), step=step)
        return entry

    def spectrum(self, step: int, values: Mapping[str, float], png: bytes) -> None:
        """Add what the monitor measured to its own log, and show it and its picture."""
        self.folder.append_spectrum({"step": step, **values})
        write_file(self.folder.spectra / f"step-{step:08d}.png", png)
        if self._trackers(step):
            self.accelerator.log(dict(values), step=step)
        self.picture(step, pixels_of(png), "spectrum")

    def picture(self, step: int, pixels: NDArray[np.uint8], name: str = "samples") -> None:
        """Show a picture, (height, width, 3), on the trackers that can."""
        for tracker in self._trackers(step):
            if hasattr(tracker, "log_images"):
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: pixels[None]}, step=step, **layout)

    def _trackers(self, step: int) -> list[Any]:
        if not self.accelerator.log_with:
            return []
        if not self._started:
            # Purged: what an interrupted run wrote after its checkpoint.
            options = {"tensorboard": {"purge_step": step}}
            self.accelerator.init_trackers(self.project, init_kwargs=options)
            self._started = True
        return list(self.accelerator.trackers)
