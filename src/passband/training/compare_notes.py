"""What a reader of a comparison must know of its two sets beside the numbers."""

from passband.reports.compare import left_out_note
from passband.reports.spectrum.words import terms_of
from passband.training.measured_set import MeasuredSet
from passband.training.sample_paths import Opening, Pair, Side
from passband.training.sample_sets import SampleSet


def set_notes(name: str, side: Side, measured: MeasuredSet) -> list[str]:
    """Of one set, called by a name: files that were left out, images that were resized."""
    if isinstance(side, SampleSet):
        return side.notes(name, measured.skipped)
    return left_out_note(name, measured.skipped, terms_of(side.measuring.kind, side.spectrum.sample_rate).samples)


def pair_notes(pair: Pair, opening: Opening, *, paired: bool) -> list[str]:
    """Of both sets: a limit that has no effect, and files of one name that could be pairs.

    Args:
        pair: the sets.
        opening: how they were opened.
        paired: whether they were found to show the same content.

    """
    named = {"real": pair.real, "fake": pair.fake[-1]}
    notes = [note for name, side in named.items() for note in _limit_note(name, side, opening.limit)]
    return notes if paired else [*notes, *_names_note(pair.real, pair.fake[-1])]


def _limit_note(name: str, side: Side, limit: int | None) -> list[str]:
    if isinstance(side, SampleSet) or limit is None or side.count <= limit:
        return []
    note = (
        f"The {name} set was measured before, on {side.count:,} samples: --limit {limit:,} has no effect on it. "
        "Measure it anew with that limit to use fewer."
    )
    return [note]


def _names_note(real: Side, fake: Side) -> list[str]:
    """Copies of some of the files are no pairs as long as the other files are there too."""
    if not (isinstance(real, SampleSet) and isinstance(fake, SampleSet)):
        return []
    names = {key for key in real.file_keys() if not key.rpartition("/")[2].isdecimal()}
    others = set(fake.file_keys())
    common = len(names & others)
    if not common or common == len(names | others):
        return []
    note = (
        f"{common:,} of {len(names):,} real and {len(others):,} fake files have the same names. If these show the same "
        "content, compare them alone, in folders of their own: as pairs their chance cancels, and the intervals get "
        "narrower."
    )
    return [note]
