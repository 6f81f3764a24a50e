"""No retired word comes back: not in names, and not in texts. The words are a table in docs/design.md."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.repository import ROOT, files, name_of

DESIGN = ROOT / "docs/design.md"
_TABLE = re.compile(r"^### Retired words$.*?^\|(?:[- ]*\|)+\n(.*?)\n\n", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Retired(NamedTuple):
    """A phrase in small letters, what to write instead, and phrases in which it is the field's own word."""

    phrase: str
    instead: str
    exceptions: tuple[str, ...]


class Finding(NamedTuple):
    """A retired word and the line that it is on."""

    line: int
    word: str
    instead: str


def retired(where: str) -> list[Retired]:
    """The rows of the table that hold in `where`: 'names' or 'texts'."""
    table = _TABLE.search(DESIGN.read_text())
    assert table, "docs/design.md has no table of retired words"
    found = []
    for line in table[1].splitlines():
        phrases, instead, places, exceptions = (cell.strip() for cell in line.strip("|").split("|"))
        if where in places.split(", "):
            excepted = tuple(one for one in exceptions.split(", ") if one)
            found += [Retired(phrase, instead, excepted) for phrase in phrases.split(", ")]
    return found


ALLOWED = {
    ("gateways/embedded/postgres_server.py", "nobody"): "a system user",
    ("tests/gateways/test_embedded_failures.py", "nobody"): "a system user",
    ("tests/streams/test_lane_leases.py", "beat"): "a stored field",
}
"""(file, word): what it is the name of."""

NAMES, TEXTS = retired("names"), retired("texts")
_TEXT_WORDS = {one.phrase: one for one in TEXTS}
_IN_TEXT = re.compile(rf"\b(?:{'|'.join(map(re.escape, _TEXT_WORDS))})\b", re.IGNORECASE)


def in_name(name: str) -> Retired | None:
    """The first retired word among the words of an identifier or file name."""
    words = " ".join(word.lower() for word in _WORD.findall(name))
    for one in NAMES:
        left = words
        for exception in one.exceptions:
            left = left.replace(exception, "")
        if one.phrase in left.split():
            return one
    return None


def in_text(text: str) -> Iterator[Finding]:
    """Every retired word of a text, with its line counted from 0."""
    for number, line in enumerate(text.split("\n")):
        for found in _IN_TEXT.finditer(line):
            one = _TEXT_WORDS[found[0].lower()]
            excepted = (
                re.search(
                    rf"\b{exception.replace(' ', '[ _-]')}\b", line[max(0, found.start() - 20) : found.end()], re.I
                )
                for exception in one.exceptions
            )
            if not any(excepted):
                yield Finding(number, found[0], one.instead)


def stored_names(tree: ast.AST) -> set[tuple[int, int]]:
    """Where strings are that name stored fields: `field(name="...")`, and the values of a struct's `rename`."""
    values: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "field":
            values += [keyword.value for keyword in node.keywords if keyword.arg == "name"]
        elif isinstance(node, ast.ClassDef):
            renames = [keyword.value for keyword in node.keywords if keyword.arg == "rename"]
            values += [value for one in renames if isinstance(one, ast.Dict) for value in one.values]
    return {(value.lineno, value.col_offset) for value in values}


def in_python(source: str) -> Iterator[Finding]:
    """Every retired word in the names, docstrings, comments and strings of a module."""
    stored = stored_names(ast.parse(source))
    text_kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.NAME and (one := in_name(token.string)):
            yield Finding(line, token.string, one.instead)
        elif token.type in text_kinds and token.start not in stored:
            yield from (found._replace(line=line + found.line) for found in in_text(token.string))


def in_file(path: Path) -> list[str]:
    text = path.read_text()
    if path.suffix == ".py":
        found = list(in_python(text))
        if one := in_name(path.stem):
            found.append(Finding(1, path.name, one.instead))
    else:
        # The table itself has to name the words.
        table = _TABLE.search(text) if path == DESIGN else None
        found = [one._replace(line=one.line + 1) for one in in_text(text.replace(table[1], "") if table else text)]
    return [
        f"{name_of(path)}:{one.line}: {one.word!r}; use: {one.instead}"
        for one in found
        if (name_of(path), one.word) not in ALLOWED
    ]


def test_no_file_uses_a_retired_word() -> None:
    # This file has to name some of them.
    found = [one for path in files(".py", ".md") if path != Path(__file__) for one in in_file(path)]
    assert not found, f"{len(found)} retired words:\n" + "\n".join(found)


def test_the_pages_use_no_retired_word() -> None:
    found = [one for path in files(".md") for one in in_file(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def bury_event(): ...", "bury_event"),
        ("class StoryTeller: ...", "StoryTeller"),
        ("from streams import couriers", "couriers"),
        ("x.roster = 1", "roster"),
        ('"""What the house does."""', "house"),
        ("x = 1  # a Courier", "Courier"),
        ("x = f'swept {y}'", "swept"),
        ("x = 'an open letter'", "letter"),
    ],
)
def test_a_retired_word_is_found(source: str, word: str) -> None:
    assert [found.word for found in in_python(source)] == [word]


@pytest.mark.parametrize(
    "source",
    [
        "dead_letter = DeadLetter('a dead letter, a dead-letter queue', dead_letters)",
        "close_guard_ms = CLOSE_GUARD",
        "class Member(Struct): count: int = field(name='beat')",
        "class Row(Struct, rename={'count': 'beat'}): ...",
        "walk_book(restored, household)",
        "# upstanding, sweepstakes and storytelling are other words",
    ],
)
def test_standard_words_are_left_alone(source: str) -> None:
    assert list(in_python(source)) == []


def test_a_finding_names_its_line_and_the_standard_word() -> None:
    assert list(in_python('"""One.\n\nThe roster.\n"""\n')) == [Finding(3, "roster", "lease table")]
