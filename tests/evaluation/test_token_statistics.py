from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lenvm.evaluation.length_tokens.strongest import Context, StrongestContexts
from lenvm.evaluation.length_tokens.token_statistics import TokenStatistics

VOCAB, THRESHOLD, KEPT = 7, 0.01, 2


def occurrences(number: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[Context]]:
    """Token ids below 6 with shifts around a mean that is large beside their spread, and few different contexts."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 6, number)
    shifts = rng.normal(0.02 * (ids - 3), 0.01) + np.where(ids == 5, 1e4, 0.0)
    contexts = [Context.of([int(a)], [int(b), 3]) for a, b in rng.integers(0, 4, (number, 2))]
    return ids, shifts, contexts


def statistics(ids: np.ndarray, shifts: np.ndarray, contexts: list[Context]) -> TokenStatistics:
    found = TokenStatistics(VOCAB, THRESHOLD, KEPT)
    found.add(ids, shifts, contexts.__getitem__)
    return found


def strongest(contexts: StrongestContexts) -> dict[int, list[tuple[float, Context]]]:
    return {token: contexts.of(token) for token in range(VOCAB)}


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_parts_add_up_to_numpy(parts: int, tmp_path: Path) -> None:
    ids, shifts, contexts = occurrences()
    total, from_files = TokenStatistics(VOCAB, THRESHOLD, KEPT), TokenStatistics(VOCAB, THRESHOLD, KEPT)
    for number, here in enumerate(np.array_split(np.random.default_rng(1).permutation(len(ids)), parts)):
        part = statistics(ids[here], shifts[here], [contexts[i] for i in here])
        part.rollouts, part.unscored = 3, 1
        part.write(tmp_path / f"{number}.parquet")
        from_files.read(tmp_path / f"{number}.parquet")
        total.merge(part)
    assert not list(tmp_path.glob("*.partial"))
    for token in range(VOCAB):
        mine = shifts[ids == token]
        assert total.count[token] == len(mine)
        assert total.above[token] == (mine > THRESHOLD).sum()
        assert total.below[token] == (mine < -THRESHOLD).sum()
        if len(mine):
            assert total.mean[token] == pytest.approx(mine.mean(), rel=1e-12)
            # around 1e4, a sum of squares would have lost the variance of 1e-4
            assert total.variance[token] == pytest.approx(mine.var(ddof=1), rel=1e-6)
        best: dict[Context, float] = {}
        for i in np.flatnonzero((ids == token) & (shifts < -THRESHOLD)):
            best[contexts[i]] = max(-shifts[i], best.get(contexts[i], 0.0))
        assert total.shorter.of(token) == sorted(((s, c) for c, s in best.items()), reverse=True)[:KEPT]
    for name in ("count", "mean", "squares", "above", "below", "rollouts", "unscored"):
        np.testing.assert_array_equal(getattr(total, name), getattr(from_files, name))
    assert strongest(total.longer) == strongest(from_files.longer)
    assert total.rollouts == 3 * parts


def test_a_token_that_never_occurs_has_no_moments() -> None:
    found = statistics(*occurrences())
    assert (found.count[6], found.mean[6], found.variance[6]) == (0, 0, 0)
    once = TokenStatistics(VOCAB, THRESHOLD, KEPT)
    once.add(np.array([2]), np.array([0.5]), lambda _: Context.of([], [1]))
    assert (once.mean[2], once.variance[2]) == (0.5, 0)


def test_contexts_are_different_and_ties_do_not_depend_on_the_order() -> None:
    contexts = [Context.of([i], []) for i in range(4)]
    offers = [(0.5, 0), (0.7, 1), (0.7, 1), (0.5, 2), (0.5, 3), (0.6, 0)]
    found = []
    for order in (offers, offers[::-1]):
        kept = StrongestContexts(3)
        for strength, number in order:
            kept.add(9, strength, contexts[number])
        found.append(kept.of(9))
    assert found[0] == found[1]
    assert [strength for strength, _ in found[0]] == [0.7, 0.6, 0.5]
    assert found[0][0][1].ids() == ([1], [])


def test_a_shift_on_the_threshold_is_no_event() -> None:
    found = TokenStatistics(VOCAB, 0.25, KEPT)
    found.add(np.array([1, 1, 1]), np.array([0.25, -0.25, 0.26]), lambda i: Context.of([i], []))
    assert (found.above[1], found.below[1]) == (1, 0)
    assert [context.ids()[0] for _, context in found.longer.of(1)] == [[2]]
