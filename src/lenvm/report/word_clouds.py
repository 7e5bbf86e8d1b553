"""Word clouds with a colour scale, as outlines: sharp at any size, and the same on machines without the font."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from wordcloud import WordCloud

_WIDTH, _HEIGHT, _SMALLEST = 900, 620, 13
_SCALES = (("#9db8d6", "#2f6fb2", "#0d2f57"), ("#e6bd8c", "#d9822b", "#6e3503"))


class CloudWord(NamedTuple):
    """One word of a cloud.

    Attributes:
        text: the word.
        events: how often it occurred; decides its size.
        shade: decides its colour.
    """

    text: str
    events: int
    shade: float


def word_clouds(clouds: Mapping[str, Sequence[CloudWord]], *, shade: str, font: Path | None = None) -> Figure:
    """Clouds side by side, each with its colour scale.

    The size of a word follows its rank and its events in equal parts (`relative_scaling` 0.5): with these alone,
    a few words would fill the picture.

    Args:
        clouds: words by title; the same input gives the same picture.
        shade: what the colour says.
        font: a TrueType file; left out, DejaVu Sans, which has Latin, Greek and Cyrillic letters and many symbols.
            Words that it cannot draw are left out, and their number is written below.
    """
    font = font or Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    figure, panels = Figure(figsize=(7.0 * len(clouds), 5.9)), max(len(clouds), 1)
    FigureCanvasAgg(figure)
    for i, (title, words) in enumerate(clouds.items()):
        axes = figure.add_axes(((i + 0.02) / panels, 0.17, 0.96 / panels, 0.76))
        scale = figure.add_axes(((i + 0.25) / panels, 0.1, 0.5 / panels, 0.025))
        axes.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0), aspect="equal", xticks=[], yticks=[], title=title)
        axes.spines[:].set_visible(False)
        _draw(axes, scale, words, shade, font, _SCALES[i % len(_SCALES)])
    return figure


def _draw(axes: Axes, scale: Axes, words: Sequence[CloudWord], shade: str, font: Path, shown: tuple[str, ...]) -> None:
    letters = set(map(chr, FT2Font(str(font)).get_charmap()))
    drawable = [word for word in words if set(word.text) <= letters]
    if left_out := len(words) - len(drawable):
        axes.set_xlabel(f"{left_out} that the font cannot draw are left out")
    if not drawable:
        axes.text(_WIDTH / 2, _HEIGHT / 2, "none", ha="center", va="center", color="#8a8f98")
        scale.set_visible(False)
        return
    shades = {word.text: abs(word.shade) for word in drawable}
    low, high = min(shades.values()), max(shades.values())
    sign = -1.0 if drawable[0].shade < 0 else 1.0
    colors = LinearSegmentedColormap.from_list("", shown)
    norm = Normalize(low, high if high > low else low + 1e-9)
    for text, size, left, top in _layout(drawable, font):
        # one dollar sign would stay itself, but two would make a formula
        path = TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=FontProperties(fname=str(font)))
        ink = path.get_extents()
        placed = path.vertices * np.array([1.0, -1.0]) + np.array([left - ink.x0, top + ink.y1])
        axes.add_patch(PathPatch(Outline(placed, path.codes), facecolor=colors(norm(shades[text])), linewidth=0))
    bar = axes.figure.colorbar(ScalarMappable(norm, colors), cax=scale, orientation="horizontal")
    bar.set_label(shade)
    scale.xaxis.set_major_formatter(lambda value, _: f"{sign * value:+.2f}")
    bar.outline.set_visible(False)


def _layout(words: Sequence[CloudWord], font: Path) -> list[tuple[str, int, float, float]]:
    """Text, font size, left end and upper end of the ink of each word that has a place."""
    cloud = WordCloud(
        width=_WIDTH,
        height=_HEIGHT,
        margin=4,
        font_path=str(font),
        prefer_horizontal=1.0,
        relative_scaling=0.5,
        min_font_size=_SMALLEST,
        max_font_size=150,
        max_words=len(words),
        random_state=0,
    ).generate_from_frequencies({word.text: word.events for word in words})
    return [(text, size, float(left), float(top)) for (text, _), size, (top, left), _, _ in cloud.layout_]
