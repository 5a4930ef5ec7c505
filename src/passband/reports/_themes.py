"""Figures that follow the page: the colours of a drawn SVG get a second value for the dark."""

import re

# The ends of the greys: ink and paper, in the light and in the dark.
_INK, _DARK_INK = 0x22, (0xE6, 0xE9, 0xEC)
_DARK_PAPER = (0x1A, 0x1E, 0x23)
_NEAR_WHITE = 0xEC  # greys above may be the middle of a diverging colour map
_BRIGHTER = {"0072b2": "#3f9fdc"}

_GROUND = re.compile(r'(<g id="patch_\d+">\s*<path [^>]*?style="fill: )#ffffff')
_COLOUR = re.compile(r"\b(fill|stroke): #([0-9a-f]{6})\b")
_OPENING = re.compile(r"<svg\b[^>]*>")


def adaptive(svg: str) -> str:
    """The same figure with colours that change where the reader's system is dark.

    Grounds (white patches), greys and the palette's blue get a dark value. Pure black, pure white, very light greys and
    all other colours stay, since they belong to the data: cells of a map, and the text on them. A viewer that knows no
    variables or no media queries shows the light figure.

    Args:
        svg: as `to_svg` returns it; an SVG without such colours comes back as it is.

    """
    dark: dict[str, str] = {}

    def varied(match: re.Match[str]) -> str:
        kind, colour = match.groups()
        other = in_the_dark(colour)
        if other is None:
            return match[0]
        dark[f"--c{colour}"] = other
        return f"{kind}: var(--c{colour}, #{colour})"

    themed = _COLOUR.sub(varied, svg)
    themed, grounds = _GROUND.subn(r"\1var(--ground, #ffffff)", themed)
    if grounds:
        dark["--ground"] = _hexadecimal(_DARK_PAPER)
    if not dark:
        return svg
    values = "".join(f"{name}:{value};" for name, value in sorted(dark.items()))
    style = f"<style>@media (prefers-color-scheme: dark){{:root{{{values}}}}}</style>"
    return _OPENING.sub(lambda opening: opening[0] + style, themed, count=1)


def in_the_dark(colour: str) -> str | None:
    """What a colour (six hexadecimal digits) becomes on dark paper; None if it stays."""
    if colour in _BRIGHTER:
        return _BRIGHTER[colour]
    channels = [int(colour[i : i + 2], 16) for i in (0, 2, 4)]
    value = channels[1]
    if max(channels) - min(channels) > 2 or value > _NEAR_WHITE or value == 0:
        return None
    share = max(0.0, (value - _INK) / (0xFF - _INK))
    return _hexadecimal(
        tuple(round(ink + share * (paper - ink)) for ink, paper in zip(_DARK_INK, _DARK_PAPER, strict=True))
    )


def _hexadecimal(channels: tuple[int, ...]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in channels)
