"""Seeds from (seed, global sample index): the same numbers on one process and on several, and after a restart."""

import hashlib
import operator
from typing import SupportsIndex


def seed_for(seed: SupportsIndex, index: SupportsIndex, stream: str = "") -> int:
    """A stable 63-bit seed for one sample's random numbers.

    A hash of the three arguments, so neighbouring seeds, indices and streams give unrelated values, the same on every
    machine and in every Python version.

    Args:
        seed: the run's seed, any integer.
        index: the sample's global index (how many came before it, over all ranks), any integer.
        stream: what the numbers are for ("noise", "flip"), so that one use never repeats another's numbers.

    Returns:
        An integer in [0, 2^63), valid for `torch.Generator.manual_seed`.

    Raises:
        TypeError: if seed or index is not an integer, or stream not a string.

    Example:
        >>> from passband._seeds import seed_for
        >>> seed_for(0, 7, "noise") == seed_for(0, 7, "noise"), seed_for(0, 7, "noise") == seed_for(0, 7, "flip")
        (True, False)

    """
    if not isinstance(stream, str):
        raise TypeError(f"stream must be a string, got {type(stream).__name__}; name what the random numbers are for")
    text = f"{operator.index(seed)},{operator.index(index)},{stream}"
    # surrogatepass: a file name that is not valid UTF-8 may be part of a stream's name.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
