"""Tables on narrow terminals: nothing is cut, and no line is wider than the terminal."""

from io import StringIO

from rich.console import Console

from vibe.cli.output import show, table

ADDRESS = "0x764b7522c27ce4a959eda80a0564289109fde369"


def shown(width: int) -> list[str]:
    made = table("name", "profit USD", "why", text=("why",))
    made.add_row(ADDRESS, "-1,234,567.89", "a sentence that is longer than twenty-four cells, and does not end soon")
    made.add_row("bob", "2.00", "")
    out = StringIO()
    show(made, Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_a_table_that_is_too_wide_is_shown_in_parts() -> None:
    lines = shown(72)
    assert all(len(line) <= 72 for line in lines)
    assert lines[2] == f"{ADDRESS} -1,234,567.89"
    assert lines[4] == ""
    assert lines[5].split() == ["name", "why"]
    assert lines[7].startswith(f"{ADDRESS} a sentence that is longer")
    assert " ".join(line.removeprefix(ADDRESS).strip() for line in lines[7:-1]).endswith("and does not end soon")


def test_a_terminal_narrower_than_a_cell_folds_it() -> None:
    lines = shown(30)
    assert all(len(line) <= 30 for line in lines)
    assert "".join(line.split()[0] for line in lines[2:4]).startswith(ADDRESS[:20])
    assert shown(1)


def test_a_wide_terminal_wraps_nothing_and_aligns_figures_on_the_right() -> None:
    header, _, first, second = shown(200)
    end = header.index("profit USD") + len("profit USD")
    assert first.index("-1,234,567.89") + len("-1,234,567.89") == second.index("2.00") + len("2.00") >= end


def test_headers_wrap_before_columns_are_separated() -> None:
    made = table("influencer", "round trips won", "profit USD")
    made.add_row("whale-1", "3/4", "12.00")
    out = StringIO()
    show(made, Console(file=out, width=28))
    assert [line.split() for line in out.getvalue().splitlines()[:3]] == [
        ["influencer", "round", "profit"],
        ["trips", "USD"],
        ["won"],
    ]
