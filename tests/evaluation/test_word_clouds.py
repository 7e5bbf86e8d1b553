from __future__ import annotations

from pathlib import Path

import pytest

from lenvm.report.word_clouds import CloudWord, word_clouds


def test_size_says_events_and_colour_says_the_shift(tmp_path: Path) -> None:
    words = [CloudWord("_Wait", 900, 0.3), CloudWord("$x$", 100, 0.1), CloudWord("+", 10, 0.02)]
    figure = word_clouds({"longer": words, "shorter": [CloudWord("Answer", 5, -0.2)]}, shade="mean shift")
    longer, shorter = (axes for axes in figure.axes if axes.get_title())
    assert (len(longer.patches), len(shorter.patches)) == (3, 1)
    heights = [patch.get_path().get_extents().height for patch in longer.patches]
    assert heights == sorted(heights, reverse=True)
    dark = [sum(patch.get_facecolor()[:3]) for patch in longer.patches]  # type: ignore[arg-type]
    assert dark == sorted(dark)
    boxes = [patch.get_path().get_extents() for patch in longer.patches]
    for i, box in enumerate(boxes):
        assert -1 <= box.x0 < box.x1 <= 901
        assert -1 <= box.y0 < box.y1 <= 621
        assert not any(box.overlaps(other) for other in boxes[:i])
    again = word_clouds({"longer": words}, shade="mean shift")
    assert again.axes[0].patches[0].get_path().vertices.tolist() == longer.patches[0].get_path().vertices.tolist()
    figure.savefig(tmp_path / "clouds.svg")


def test_no_word_and_words_without_glyphs(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    figure = word_clouds({"longer": [], "shorter": [CloudWord("等待", 5, -0.2)]}, shade="mean shift")
    assert [axes.texts[0].get_text() for axes in figure.axes[::2]] == ["none", "none"]
    assert figure.axes[2].get_xlabel() == "1 that the font cannot draw are left out"
    figure.savefig(tmp_path / "clouds.png")
