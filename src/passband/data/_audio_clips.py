"""What is done with the samples of a clip: silence at its ends, and crops that go on beyond them."""

import numpy as np

from passband.data._audio_read import Samples

_FRAME_HOPS = 4


def sound_bounds(audio: Samples, below: float, hop: int) -> tuple[int, int]:
    """First and last + 1 sample of the frames that are louder than the loudest one less `below` dB.

    Frames of 4 hops every hop, their level the root mean square; the last ones go on with zeros.
    """
    blocks = -(-len(audio) // hop)
    energy = np.zeros(blocks + _FRAME_HOPS - 1)
    padded = np.zeros(blocks * hop, dtype=np.float32)
    padded[: len(audio)] = audio
    energy[:blocks] = np.square(padded, dtype=np.float64).reshape(blocks, hop).sum(1)
    frames = np.lib.stride_tricks.sliding_window_view(energy, _FRAME_HOPS).sum(1)
    loud = np.flatnonzero(frames >= frames.max() * 10 ** (-below / 10))
    return int(loud[0]) * hop, min((int(loud[-1]) + _FRAME_HOPS) * hop, len(audio))


def cut(audio: Samples, start: int, stop: int) -> Samples:
    """The samples start … stop - 1 of a clip that goes on beyond its ends by reflection, the end samples once."""
    if start >= 0 and stop <= len(audio):
        return audio[start:stop]
    if len(audio) == 1:
        return np.repeat(audio, stop - start)
    last = len(audio) - 1
    places = np.arange(start, stop) % (2 * last)
    return audio[np.where(places > last, 2 * last - places, places)]
