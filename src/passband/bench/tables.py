"""Results as rows for a terminal and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from passband.bench.results import FORWARD_ALONE, ArmResult, Check, ItemResult

Style = Literal["head", "ours", "plain", "floor", "good", "bad"]

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
SCALING = "scaling/"
OTHER = "≠"
BOUNDS = "bar / goal"


@dataclass(frozen=True)
class Row:
    """Cells and how they look."""

    cells: tuple[str, ...]
    style: Style = "plain"


@dataclass(frozen=True)
class Block:
    """A table of one family, and what to say below it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def blocks(items: Iterable[ItemResult], wide: bool = True) -> list[Block]:
    """A table per family; without `wide`, numbers come without their spreads."""
    families: dict[str, list[ItemResult]] = {}
    for item in items:
        families.setdefault(_family(item.name), []).append(item)
    return [
        _scaling(family, members, wide) if family.startswith(SCALING) else _family_block(family, members, wide)
        for family, members in families.items()
    ]


def summary(items: Sequence[ItemResult]) -> list[Row]:
    """How many bars were reached, which were missed, and what went wrong."""
    checks = [check for item in items for arm in item.arms for check in arm.checks]
    count = {verdict: sum(check.verdict == verdict for check in checks) for verdict in ("goal", "met", "missed")}
    reached = count["goal"] + count["met"]
    rows = []
    if checks:
        words = f"{reached} of {len(checks)} bars reached"
        words += f", {count['goal']} at {'its' if count['goal'] == 1 else 'their'} goal" if count["goal"] else ""
        rows.append(Row((words,), "good" if not count["missed"] else "plain"))
    if without := [arm for item in items for arm in item.unchecked]:
        rows.append(Row((_not_checked(without),), "bad"))
    for item in items:
        for arm, check in item.missed:
            rows.append(
                Row((f"missed: {item.name}, {arm.name}: {_measured(arm, check)}, {_promise(arm, check)}",), "bad")
            )
        if item.error:
            rows.append(Row((f"failed: {item.name}: {item.error}",), "bad"))
    return rows


def markdown(items: Sequence[ItemResult], facts: dict[str, Any]) -> str:
    """The block between the markers: facts, then a table per family, a row per item."""
    parts = [BEGIN, "<!-- written by `passband bench --markdown`; not to be edited -->", "", describe(facts), ""]
    families: dict[str, list[ItemResult]] = {}
    for item in items:
        families.setdefault(item.name.partition("/")[0], []).append(item)
    for family, members in families.items():
        kind = {"scaling": _scaling_lines, "step": _step_lines}.get(family, _item_lines)
        notes = dict.fromkeys(note for item in members for arm in item.arms for note in _notes(arm))
        parts += [f"**{family}**", "", *kind(members), "", *(f"- {note}" for note in notes), *([""] if notes else [])]
    lines = [row.cells[0] for row in summary(items)]
    return "\n".join([*parts, *(f"- {_escaped(line)}" for line in lines), *([""] if lines else []), END])


def with_block(text: str | None, block: str) -> str:
    """A page with the block in the place of its old one; the block alone where there is no page.

    Raises:
        ValueError: if the page has no place for it.

    """
    if text is None or not text.strip():
        return block + "\n"
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise ValueError(
            f"there is no place for the tables: put {BEGIN} and {END} into the page, on lines of their own"
        )
    return text[:start] + block + text[end + len(END) :]


def describe(facts: dict[str, Any], between: str = ", ") -> str:
    """The facts: the machine, then versions and date, with something between the two."""
    threads = facts.get("threads", 1)
    machine = [
        f"{facts.get('gpu') or facts.get('cpu', 'unknown processor')} ({facts.get('cores')} cores)",
        f"{threads} thread{'' if threads == 1 else 's'}",
    ]
    versions = [
        f"torch {facts.get('torch')}",
        f"passband {facts.get('passband')}" + (f" at {facts['commit']}" if "commit" in facts else ""),
        *([f"backend {facts['backend']}"] if facts.get("backend", "auto") != "auto" else []),
        str(facts.get("date", "")),
        *([f"load {facts['load']} at the start"] if "load" in facts else []),
    ]
    return ", ".join(machine) + between + ", ".join(versions)


def number(value: float) -> str:
    """Three digits, as many as can be trusted.

    Example:
        >>> from passband.bench.tables import number
        >>> number(1.2345), number(123.45), number(0.012345), number(1234.5)
        ('1.23', '123', '0.0123', '1234')

    """
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{value:.1f}" if abs(value) >= 10 else text


def _family(name: str) -> str:
    family = name.partition("/")[0]
    return "/".join(name.split("/")[:2]) if family in ("scaling", "step") else family


def _family_block(family: str, members: Sequence[ItemResult], wide: bool) -> Block:
    rows, notes = [], []
    step = family.startswith("step/")
    for item in members:
        shape = item.name.removeprefix(family).lstrip("/") or item.name
        if item.error:
            rows.append(Row((shape, "failed", "", "", "", ""), "bad"))
        elif not step:
            alone = "" if _rivals(item) else " (no counterpart)"
            rows.append(Row((shape + alone, "", "", "", "", ""), "head"))
        for arm in item.arms:
            rows.append(_row(arm, item, wide))
            notes += _notes(arm)
    head = ("", "ms", "of the step" if step else "× ours", "kept", BOUNDS, "")
    title = f"{family}: {members[0].title}" if step else family
    return Block(title, head, tuple(rows), tuple(dict.fromkeys(notes)))


def _notes(arm: ArmResult) -> list[str]:
    notes = []
    if arm.missing:
        notes.append(f"{arm.name}: {arm.missing}")
    if arm.differs and arm.kind == "rival":
        notes.append(f"{OTHER} {arm.name}: {arm.differs}")
    if arm.remark:
        notes.append(f"{arm.name}: {arm.remark}")
    return notes


def _not_checked(arms: Sequence[ArmResult]) -> str:
    """How many bars were not, for want of which packages."""
    count = sum(arm.unchecked or 0 for arm in arms)
    names = dict.fromkeys(arm.name for arm in arms)
    state = " or ".join(dict.fromkeys(sorted(map(_absence, arms), reverse=True)))
    return (
        f"{count} bar{'' if count == 1 else 's'} not checked: "
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {state}"
    )


def _absence(arm: ArmResult) -> str:
    return "broken" if arm.missing.startswith("broken") else "missing"


def _rivals(item: ItemResult) -> list[ArmResult]:
    return [arm for arm in item.arms if arm.kind == "rival"]


def _row(arm: ArmResult, item: ItemResult, wide: bool) -> Row:
    name = f"floor: {arm.name}" if arm.kind == "floor" else arm.name
    if arm.missing:
        return Row((f"  {name}", _absence(arm), "", "", "", ""), "floor")
    if arm.differs and arm.kind == "rival":
        name += f" {OTHER}"
    kept = "" if arm.kept is None else f"{arm.kept:.2f}"
    # What a loss keeps is promised, and shown, where it stands by itself.
    checks = [check for check in arm.checks if check.of == "ratio" or arm.kind == "ours" or check.verdict == "missed"]
    bounds = "\n".join(_bound(arm, check) for check in checks)
    verdicts = "\n".join(check.verdict for check in checks)
    ratio = _ratio(arm, wide) + _forward(arm, item)
    return Row((f"  {name}", _time(arm, wide), ratio, kept, bounds, verdicts), _style(arm))


def _style(arm: ArmResult) -> Style:
    if any(check.verdict == "missed" for check in arm.checks):
        return "bad"
    return "ours" if arm.kind in ("ours", "step") else "floor" if arm.kind == "floor" else "plain"


def _time(arm: ArmResult, wide: bool = True) -> str:
    if arm.ms is None:
        return ""
    return number(arm.ms) + (f" ± {_error(arm.spread, arm.ms)}" if wide and arm.spread is not None else "")


def _forward(arm: ArmResult, item: ItemResult) -> str:
    """The time that the ratio of a forward pass is relative to."""
    base = item.arms[0].forward_ms
    return f" of {number(base)} ms" if arm.differs == FORWARD_ALONE and base is not None else ""


def _error(spread: float, of: float) -> str:
    """A spread with the digits of what it belongs to."""
    text = number(of)
    return f"{spread:.{len(text.partition('.')[2])}f}" if "e" not in text else f"{spread:.1g}"


def _ratio(arm: ArmResult, wide: bool = True) -> str:
    if arm.ratio is None:
        return ""
    factor, unit = (100, " %") if arm.kind == "share" else (1, "")
    value = factor * arm.ratio
    spread = f" ± {_error(factor * arm.ratio_spread, value)}" if wide and arm.ratio_spread is not None else ""
    return f"{number(value)}{spread}{unit}"


def _bound(arm: ArmResult, check: Check) -> str:
    share = arm.kind == "share" and check.of == "ratio"
    factor, unit = (100, " %") if share else (1, "")
    sign = "≤" if check.most else "≥"
    if check.of == "kept":
        goal = "" if check.goal is None else f" (goal {check.goal:.3g})"
        return f"kept {sign} {check.bar:.3g}{goal}"
    goal = "" if check.goal is None else f" / {factor * check.goal:.3g}"
    return f"{sign} {factor * check.bar:.3g}{goal}{unit}"


def _promise(arm: ArmResult, check: Check) -> str:
    """The bar without its goal."""
    return "the bar is " + _bound(arm, replace(check, goal=None)).removeprefix("kept ")


def _measured(arm: ArmResult, check: Check) -> str:
    return f"kept {check.value:.3g}" if check.of == "kept" else _ratio(arm, wide=False)


def _scaling(family: str, members: Sequence[ItemResult], wide: bool) -> Block:
    """One row per point: ours, the other, the ratio, and what a value costs."""
    rows, notes, other = [], [], "naive"
    for item in members:
        shape = item.name.removeprefix(family + "/")
        if item.error:
            rows.append(Row((shape, "failed", "", "", "", ""), "bad"))
            continue
        ours, rival = item.arms[0], _other(item)
        other = rival.name
        notes += _notes(rival)
        slower = any(check.verdict == "missed" for check in rival.checks)
        times = (_time(ours, wide), _absence(rival) if rival.missing else _time(rival, wide), _ratio(rival, wide))
        rows.append(Row((shape, *times, _per_value(item), "slower" if slower else ""), "bad" if slower else "plain"))
    head = ("", "ours, ms", "other, ms", "× ours", "ns / value", "")
    return Block(f"{family}, the other: {other}", head, tuple(rows), tuple(dict.fromkeys(notes)))


def _other(item: ItemResult) -> ArmResult:
    return (*item.arms[1:], ArmResult("none", "rival", missing="no counterpart"))[0]


def _per_value(item: ItemResult) -> str:
    values = item.unit // 4
    ms = item.arms[0].ms
    return "" if ms is None or not values else number(1e6 * ms / values)


def _item_lines(members: Sequence[ItemResult]) -> list[str]:
    lines = [
        "| item | passband, ms | kept | others (× our time) | floors (× our time) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for item in members:
        if item.error:
            lines.append(f"| {item.name} | failed: {_escaped(item.error)} | | | |")
            continue
        ours = item.arms[0]
        others = "<br>".join(_mention(arm, item) for arm in item.arms[1:] if arm.kind != "floor") or "no counterpart"
        least = "<br>".join(_mention(arm, item) for arm in item.arms[1:] if arm.kind == "floor")
        kept = "" if ours.kept is None else f"{ours.kept:.2f}"
        kept += "".join(" **(missed)**" for check in ours.checks if check.verdict == "missed")
        lines.append(f"| {item.name} | {_time(ours)} | {kept} | {others} | {least} |")
    return lines


def _step_lines(members: Sequence[ItemResult]) -> list[str]:
    lines = []
    for item in members:
        lines += [f"{item.name}: {item.title}", ""]
        if item.error:
            lines += [f"failed: {_escaped(item.error)}", ""]
            continue
        lines += ["| | ms | of the step | bar / goal | |", "| --- | --- | --- | --- | --- |"]
        for arm in item.arms:
            checks = [check for check in arm.checks if check.of == "ratio"]
            bound = "; ".join(_bound(arm, check) for check in checks)
            lines.append(f"| {arm.name} | {_time(arm)} | {_ratio(arm)} | {bound} | {_verdicts(checks)} |")
        lines.append("")
    return lines[:-1]


def _scaling_lines(members: Sequence[ItemResult]) -> list[str]:
    """A row per shape and a column per loss: the other's time over ours, and what a value costs in ours."""
    cells = {tuple(item.name.split("/")[1:]): _point(item) for item in members}
    losses, shapes = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    others = {item.name.split("/")[1]: _other(item).name for item in members if item.arms}
    return [
        "The other's time over ours, and nanoseconds per value of the batch in ours; bold where ours is slower. "
        + "; ".join(f"{loss}: {other}" for loss, other in others.items())
        + ".",
        "",
        "| | " + " | ".join(losses) + " |",
        "| --- |" + " --- |" * len(losses),
        *(f"| {shape} | " + " | ".join(cells.get((loss, shape), "") for loss in losses) + " |" for shape in shapes),
    ]


def _point(item: ItemResult) -> str:
    if item.error:
        return "failed"
    rival = _other(item)
    if rival.missing:
        return f"{_absence(rival)}; {_per_value(item)} ns"
    slower = any(check.verdict == "missed" for check in rival.checks)
    ratio = f"**{_ratio(rival)}**" if slower else _ratio(rival)
    return f"{ratio}; {_per_value(item)} ns"


def _mention(arm: ArmResult, item: ItemResult) -> str:
    if arm.missing:
        return f"{arm.name} {_absence(arm)}"
    mark = f" {OTHER}" if arm.differs and arm.kind == "rival" else ""
    checks = [check for check in arm.checks if check.of == "ratio"]
    promised = "".join(f" ({_bound(arm, check)} {_verdicts([check])})" for check in checks)
    return f"{arm.name}{mark} {_ratio(arm)}{_forward(arm, item)}{promised}"


def _verdicts(checks: Sequence[Check]) -> str:
    return "; ".join("**missed**" if check.verdict == "missed" else check.verdict for check in checks)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
