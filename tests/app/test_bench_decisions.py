"""`vibe bench decisions` measures executed decisions, each number of positions on its own."""

from vibe.bench import decisions


def test_every_portfolio_has_a_figure() -> None:
    figures = decisions.measure(held=(0, 3), pending=2, groups=1)
    assert list(figures["decision_us"]) == ["0", "3"]
    assert list(figures["decision_us_with_pending"]) == ["2"]
    assert all(one > 0 for of in ("decision_us", "decision_us_with_pending") for one in figures[of].values())
