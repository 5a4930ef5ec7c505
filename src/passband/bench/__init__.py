"""Time and memory of every loss, operator and metric beside what you would otherwise install or write.

All ways of computing one thing (an item) take turns in one process, so that what slows the machine slows them all:
Passband's, other packages', the version written by hand, and the floor, the least that any way must do.
"""

from passband.bench.bars import Bar
from passband.bench.catalogue import catalogue, choose
from passband.bench.item import Arm, Case, Item, Missing, Setting
from passband.bench.measure import Budget, measure
from passband.bench.memory import kept_bytes
from passband.bench.results import ArmResult, ItemResult, Results
from passband.bench.timing import Call, Timing, half_quartile_distance, take_turns

__all__ = [
    "Arm",
    "ArmResult",
    "Bar",
    "Budget",
    "Call",
    "Case",
    "Item",
    "ItemResult",
    "Missing",
    "Results",
    "Setting",
    "Timing",
    "catalogue",
    "choose",
    "half_quartile_distance",
    "kept_bytes",
    "measure",
    "take_turns",
]
