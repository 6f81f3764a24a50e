"""Tables on narrow terminals: prose wraps, figures and names are never cut."""

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


def test_a_narrow_terminal_cuts_nothing() -> None:
    lines = shown(40)
    assert ADDRESS in lines[2]
    assert "-1,234,567.89" in lines[2]
    assert lines[-1].startswith("bob ")
    assert " ".join(line[59:].strip() for line in lines[2:-1]).startswith("a sentence that is longer")
    assert all(len(line) <= len(ADDRESS) + 2 + len("-1,234,567.89") + 2 + 28 for line in lines)


def test_a_wide_terminal_wraps_nothing_and_figures_stand_on_the_right() -> None:
    header, _, first, second = shown(200)
    end = header.index("profit USD") + len("profit USD")
    assert first.index("-1,234,567.89") + len("-1,234,567.89") == second.index("2.00") + len("2.00") >= end
