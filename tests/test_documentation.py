"""The pages agree with the code: links, paths, commands, settings, and the tables of docs/design.md."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError

from domain.configuration import Configuration
from domain.events import CATALOGUE
from domain.guardrails import Policy
from domain.sizing import SIZING_MODES
from handlers.live.event_codec import ALL
from handlers.services.config_file import parse
from streams.topology import STREAMS
from tests.repository import ROOT, files, name_of
from vibe.app.settings import Settings
from vibe.app.wiring import STAGES
from vibe.cli import app

PAGES = {name_of(path): path.read_text() for path in files(".md")}
DESIGN = PAGES["docs/design.md"]
PACKAGES = ("domain", "streams", "gateways", "handlers", "projections", "vibe")
FOLDERS = (*PACKAGES, "tests", "ops", "docs")

_BLOCK = re.compile(r"^```[^`\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,4} (.+)$", re.MULTILINE)
_AT_THE_TOP = re.compile(r"[\w.-]+\.(?:md|toml|conf|yml|lock)|Makefile|LICENSE")


def fenced(page: str) -> list[str]:
    """The lines of a page's fenced blocks."""
    return [line for block in _BLOCK.findall(PAGES[page]) for line in block.splitlines()]


def spans(page: str) -> list[str]:
    """The code spans of a page, fenced blocks left out; a table's escaped bar is a bar."""
    return [span.replace("\\|", "|") for span in _SPAN.findall(_BLOCK.sub("", PAGES[page]))]


def headings(page: str) -> list[str]:
    return [heading.strip() for heading in _HEADING.findall(_BLOCK.sub("", PAGES[page]))]


def section(title: str) -> str:
    """The text of docs/design.md under a heading, up to the next one of the same depth."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", DESIGN, re.MULTILINE | re.DOTALL)
    assert found, f"docs/design.md has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, headers and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        row
        for row, after in zip(cells, [*cells[1:], [""]], strict=True)
        if not set(row[0]) <= set("-: ") and not (after[0] and set(after[0]) <= set("-: "))
    ]


# --- links and paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page: str) -> None:
    for link in _LINK.findall(PAGES[page]):
        if "://" not in link:
            target = (ROOT / page).parent / link.partition("#")[0]
            assert target.exists(), f"{page} links to {link}, which does not exist"


def is_path(span: str) -> bool:
    return span.partition("/")[0] in FOLDERS and "/" in span and not re.search(r"[\s<>{}…]", span)


def exists(span: str) -> bool:
    """Whether a file, folder or module is there, and the name in it when the span has one (`domain/ids.derived`)."""
    path = ROOT / span.rstrip("/")
    if path.exists() or path.with_name(f"{path.name}.py").exists():
        return True
    module, dot, name = span.rpartition(".")
    if not dot or span.partition("/")[0] not in PACKAGES or not exists(module):
        return False
    return hasattr(importlib.import_module(module.replace("/", ".")), name)


@pytest.mark.parametrize("page", PAGES)
def test_named_paths_exist(page: str) -> None:
    for span in spans(page):
        if is_path(span):
            assert exists(span), f"{page} names {span}, which does not exist"
        elif _AT_THE_TOP.fullmatch(span):
            assert any((folder / span).exists() for folder in (ROOT, (ROOT / page).parent)), f"{page} names {span}"


def test_a_path_that_is_not_there_is_found_out() -> None:
    assert exists("domain/ids.derived")
    assert not exists("domain/ids.nothing")
    assert not exists("domain/nothing.py")
    assert is_path("domain/nothing.py")


def test_every_page_is_linked() -> None:
    linked = {
        name_of(((ROOT / page).parent / link.partition("#")[0]).resolve())
        for page in PAGES
        for link in _LINK.findall(PAGES[page])
        if "://" not in link
    }
    assert set(PAGES) - {"README.md"} <= linked


# --- what code cites -------------------------------------------------------------------------------------------

_CITATION = re.compile(r"(docs/[\w/]+\.md)(?:,\s+(?:#\s+)?([^\n]*(?:\n\s*#?[^\n]*)?))?")


def citations() -> Iterator[tuple[str, str, str]]:
    """(where, page, the words behind the comma) of every page that a Python file cites."""
    for path in files(".py"):
        if path.name in ("test_documentation.py", "test_vocabulary.py"):
            continue
        text = path.read_text()
        for found in _CITATION.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{name_of(path)}:{line}", found[1], re.sub(r"[\s#]+", " ", found[2] or "").strip()


def test_cited_sections_exist() -> None:
    wrong = []
    for where, page, words in citations():
        titles = [title.lower() for title in headings(page)] if page in PAGES else None
        if titles is None or (words and not words.lower().startswith(tuple(titles))):
            wrong.append(f"{where} cites {page}, {words[:40]}")
    assert not wrong, "these citations lead nowhere (page, section title):\n" + "\n".join(wrong)


_ELSEWHERE = re.compile(
    r"\b(?:DESIGN|STYLE|LAYOUT)\b(?: \d|\.md)|\b(?:hyperliquid|polymarket|nats|ops|scale) \d+(?:\.\d+)?\b"
)


def test_no_file_cites_a_page_that_is_not_here() -> None:
    own = Path(__file__).resolve()
    cited = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in files(".py", ".md", ".conf", ".yml", ".toml")
        if path != own
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _ELSEWHERE.search(line)
    ]
    assert not cited, "these cite pages that are not in the repository:\n" + "\n".join(cited)


# --- commands and settings -------------------------------------------------------------------------------------


def find(words: list[str]) -> tuple[App, list[str]]:
    """The command that words name, and the words left over."""
    command, left = app, list(words)
    while left and not left[0].startswith("-") and left[0] in list(command):
        command = command[left.pop(0)]
    return command, left


def is_group(command: App) -> bool:
    return any(not name.startswith("-") for name in command)


def options(command: App) -> frozenset[str]:
    return frozenset(name for argument in command.assemble_argument_collection() for name in argument.names) | {
        "--help"
    }


def complaint(span: str) -> str | None:
    """What is wrong with a command as a page writes it, placeholders included; None when it could be typed."""
    words = re.sub(r"[\[\]]", " ", span).split()[1:]
    if not words or words[0].startswith("-"):
        return None
    command, left = find(words)
    if command is app or (is_group(command) and left and not left[0].startswith("-")):
        return f"there is no command {' '.join(words[:2])!r}"
    unknown = [
        word for word in left if word.startswith("--") and not is_group(command) and word not in options(command)
    ]
    return f"it has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist(page: str) -> None:
    for span in spans(page):
        if span.startswith("vibe "):
            assert not complaint(span), f"{page} names `{span}`: {complaint(span)}"


def test_a_command_that_is_not_there_is_found_out() -> None:
    assert complaint("vibe projections forget") is not None
    assert complaint("vibe nothing") is not None
    assert complaint("vibe trace ID --louder") is not None
    assert complaint("vibe trace ID [--verify] [--json]") is None


def test_rows_of_the_command_table_name_commands_of_their_group() -> None:
    table = [_SPAN.findall(row[0]) for row in rows(PAGES["README.md"].replace("\\|", "/"))]
    for first, *others in [named for named in table if named and named[0].startswith("vibe ")]:
        command, _ = find([first.split()[1]])
        for other in others:
            assert other.split()[0] in list(command), f"README: `vibe {first.split()[1]}` has no command {other!r}"


def test_options_in_the_text_belong_to_some_command() -> None:
    def all_options(command: App) -> Iterator[str]:
        if not is_group(command):
            yield from options(command)
        else:
            for name in command:
                if not name.startswith("-"):
                    yield from all_options(command[name])

    known = set(all_options(app))
    for page in PAGES:
        for span in spans(page):
            if re.fullmatch(r"--[a-z][a-z-]*( [A-Z]+)?", span):
                assert span.split()[0] in known, f"{page} names the option {span}"


def typed(line: str) -> list[str] | None:
    """The words behind `vibe` of a line of a fenced block, comments and settings in front left out."""
    command = re.sub(r"^\$ ", "", line.strip())
    command = re.sub(r"^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?=vibe )", "", command)
    if not command.startswith("vibe "):
        return None
    return shlex.split(re.split(r"\s{2,}|\s#", command)[0])[1:]


COMMAND_LINES = [(page, line) for page in PAGES for line in fenced(page) if typed(line)]


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES)
def test_command_lines_can_be_typed(page: str, line: str) -> None:
    words = typed(line)
    assert words
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{page}: {line.strip()}: {error}")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for text in (*spans(page), *fenced(page)):
            named = re.match(r"(?:\$ )?make ([a-z]+)", text)
            assert not named or named[1] in targets, f"{page} names `make {named[1] if named else ''}`"


def test_settings_in_the_text_exist() -> None:
    of_tests = {"VIBE_TEST_RECORDINGS", "VIBE_TEST_NATS_URL", "VIBE_TEST_POSTGRES_DSN"}
    secrets = {"VIBE_KEYSTORE_PASSWORD", "VIBE_AGENT_KEY_NAME"}  # read once, and never part of the settings
    known = {f"VIBE_{name.upper()}" for name in Settings.model_fields} | of_tests | secrets | {"VIBE_SKIP_UI"}
    known |= {f"{name}_FILE" for name in known}
    for page, text in PAGES.items():
        assert set(re.findall(r"\bVIBE_[A-Z_]+\b", text)) <= known, page


def test_the_readme_names_every_command_setting_and_stage() -> None:
    readme = PAGES["README.md"]
    for name in app:
        if not name.startswith("-"):
            assert f"`vibe {name}" in readme, f"README does not name `vibe {name}`"
    for setting in Settings.model_fields:
        assert f"VIBE_{setting.upper()}" in readme, f"README does not name VIBE_{setting.upper()}"
    for stage in STAGES:
        assert f"| {stage} |" in readme


def test_the_configuration_in_the_readme_can_be_imported() -> None:
    lines = [line for line in fenced("README.md") if line.startswith('{"kind":')]
    events, bad = parse(lines, Configuration(), "tests")
    assert not bad
    assert len(events) == len(lines) == 7


# --- tables of docs/design.md ----------------------------------------------------------------------------------


def test_the_guardrails_have_the_defaults_of_the_code() -> None:
    defaults = {name: getattr(Policy(), name) for name in Policy.__struct_fields__}
    assert {row[0].strip("`"): int(row[1]) for row in rows(section("Guardrails"))} == defaults


def test_the_sizing_modes_are_those_of_the_code() -> None:
    assert [row[0].strip("`") for row in rows(section("Sizing"))] == list(SIZING_MODES)


def test_the_events_are_those_of_the_catalogue() -> None:
    assert {name for row in rows(section("Events")) for name in _SPAN.findall(row[1])} == set(ALL)
    assert set(CATALOGUE) <= set(ALL)


def test_the_streams_are_those_of_the_topology() -> None:
    documented = {row[0]: row for row in rows(section("Streams"))}
    assert list(documented) == [stream.name for stream in STREAMS]
    for stream in STREAMS:
        prefixes = {span.partition(".")[0] for span in _SPAN.findall(documented[stream.name][1]) if "." in span}
        assert prefixes == {subject.removesuffix(".>") for subject in stream.subjects}
        days = stream.max_age // (86_400 * 1_000_000_000)
        kept = "newest per subject" if stream.scratch else f"{days} days" if days else "forever"
        assert documented[stream.name][2] == kept


def test_the_stages_are_those_of_the_code() -> None:
    assert sorted(row[0] for row in rows(section("Data flow"))) == sorted(STAGES)


def test_the_tree_has_every_folder() -> None:
    documented = {row[0].strip("`") for row in rows(PAGES["docs/layout.md"]) if row[0].endswith("/`")}
    folders = {
        "/".join(name_of(path).split("/")[:-1][:2]) + "/" for path in files(".py") if name_of(path).startswith(PACKAGES)
    }
    assert folders <= documented | {"projections/", "vibe/"}
    assert {"tests/", "ops/", "docs/"} <= documented
