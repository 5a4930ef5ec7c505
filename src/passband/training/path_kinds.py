"""What lies at a path that samples are to be read from: audio, images, an array, latents, what was measured, a run."""

from pathlib import Path

from passband.data._latent_header import LATENTS_FILE, SETTINGS_FILE
from passband.data.arrays import is_array_file
from passband.data.listing import AUDIO_SUFFIXES, IMAGE_SUFFIXES, names_ending
from passband.training.measured_files import holds_measured, measured_rate
from passband.training.sample_series import find_steps

AUDIO, IMAGES, ARRAY, LATENTS, MEASURED, SERIES = "audio", "images", "array", "latents", "measured", "series"


def kind_of_path(path: Path) -> str:
    """What lies at a path: "audio", "images", "array", "latents", "measured" or "series".

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is nothing that can be compared.

    """
    if is_array_file(path) and not holds_measured(path):
        return ARRAY  # whether it is there, opening it says
    if not path.exists():
        raise FileNotFoundError(f"no such folder or file: {str(path)!r}; check the path")
    if holds_measured(path):
        return MEASURED
    if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
        raise ValueError(f"{str(path)!r} is one file of audio: give the folder that holds the clips to compare")
    if not path.is_dir():
        return IMAGES  # a zip of images, or none: reading it says which
    if (path / LATENTS_FILE).is_file() or (path / SETTINGS_FILE).is_file():
        return LATENTS
    return SERIES if _is_series(path) else _kind_of_files(path)


def is_of_audio(path: Path) -> bool:
    """Whether there are clips at a path, or what was measured of clips.

    Raises:
        FileNotFoundError, ValueError: as `kind_of_path`.

    """
    kind = kind_of_path(path)
    return kind == AUDIO or (kind == MEASURED and measured_rate(path) is not None)


def _is_series(path: Path) -> bool:
    """Whether it is a run's folder, or holds the samples of several steps, or pictures of many samples."""
    if (path / "recipe.yaml").is_file():
        return True
    steps = find_steps(path)
    return len(steps) > 1 or any(step.path.is_file() for step in steps)


def _kind_of_files(path: Path) -> str:
    sounds, pictures = (names_ending(path, suffixes) for suffixes in (AUDIO_SUFFIXES, IMAGE_SUFFIXES))
    if sounds and pictures:
        raise ValueError(
            f"{str(path)!r} holds audio ({len(sounds)} files, such as {sounds[0]!r}) and images ({len(pictures)}, such "
            f"as {pictures[0]!r}); give folders that hold one of them"
        )
    if sounds or pictures:
        return AUDIO if sounds else IMAGES
    arrays = names_ending(path, (".npy", ".npz", ".safetensors"))
    if arrays:
        raise ValueError(
            f"{str(path)!r} holds neither audio nor images, but arrays, such as {arrays[0]!r}: give the file itself, "
            f"{str(path / arrays[0])!r}"
        )
    raise ValueError(
        f"found neither audio nor images in {str(path)!r}: looked in all its folders (hidden files are left out) "
        f"for files ending in {', '.join((*AUDIO_SUFFIXES, *IMAGE_SUFFIXES))}; check the path"
    )
