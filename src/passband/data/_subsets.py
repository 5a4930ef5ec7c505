"""Which side of a split a file is on and which files a limit keeps: a hash of the name, so a new file moves none."""

from passband._seeds import seed_for


def in_share(name: str, number: int = 0, *, low: float = 0.0, high: float = 1.0) -> bool:
    """Whether a file, or a part of it by number, lies in the share low … high of all of them."""
    return low * 2.0**63 <= seed_for(0, number, f"split {name}") < high * 2.0**63


def limit_rank(name: str, number: int = 0) -> int:
    """The order in which a limit takes files, or parts of them by number."""
    return seed_for(0, number, f"limit {name}")
