"""What lies in a folder: names by suffix, and sample rates."""

import pytest
import torch

from passband.data import save_audio
from passband.data.listing import AUDIO_SUFFIXES, IMAGE_SUFFIXES, names_ending, sample_rates

pytest.importorskip("soundfile")


def test_names_and_rates_of_a_folder(tmp_path):
    for name, rate in (("a.wav", 8000), ("inner/b.flac", 16000), ("inner/c.wav", 8000), (".hidden/d.wav", 44100)):
        save_audio(tmp_path / name, torch.zeros(100), rate)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "photo.PNG").touch()
    assert names_ending(tmp_path, AUDIO_SUFFIXES) == ["a.wav", "broken.wav", "inner/b.flac", "inner/c.wav"]
    assert names_ending(tmp_path, IMAGE_SUFFIXES) == ["photo.PNG"]
    calls = []
    assert sample_rates(tmp_path, lambda done, total: calls.append((done, total))) == {8000: 2, 16000: 1}
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder of audio files"):
        sample_rates(tmp_path / "none")
