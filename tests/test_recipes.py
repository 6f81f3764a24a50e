"""The recipes of CONTRIBUTING.md work: applied to a copy of the tree, each adds what it promises."""

from pathlib import Path

import pytest

from tests.recipes import RecipeError, Step, apply, copy_tree, edited, run, steps

PAGE = """\
# Recipes

### One

````text
### Two
````

```python file=a/new.py
# a comment, not a heading
NEW = 1
```

```diff file=old.py
 ONE = 1
-TWO = 2
+TWO = 3
@@
 LAST = 9
+END = 10
```

### Two

```python file=other.py
```
"""


def test_a_recipe_is_the_blocks_of_its_section() -> None:
    new, diff = steps("One", PAGE)
    assert new == Step("a/new.py", "# a comment, not a heading\nNEW = 1\n", edits=False)
    assert (diff.path, diff.edits) == ("old.py", True)
    assert [step.path for step in steps("Two", PAGE)] == ["other.py"]
    with pytest.raises(RecipeError, match="'Three'"):
        steps("Three", PAGE)


def test_steps_create_and_edit_files(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("ONE = 1\nTWO = 2\n\nLAST = 9\n")
    assert apply(steps("One", PAGE), tmp_path) == ["a/new.py", "old.py"]
    assert (tmp_path / "old.py").read_text() == "ONE = 1\nTWO = 3\n\nLAST = 9\nEND = 10\n"
    with pytest.raises(RecipeError, match=r"a/new\.py exists already"):
        apply(steps("One", PAGE), tmp_path)


@pytest.mark.parametrize(
    ("text", "diff", "wrong"),
    [
        ("A = 1\n", " B = 1\n+C = 2\n", "0 times"),
        ("A = 1\nA = 1\n", "-A = 1\n", "2 times"),
        ("XA = 1\n", " A = 1\n", "0 times"),
        ("A = 1\n", "+B = 1\n", "expected these lines once"),
        ("A = 1\n", "A = 1\n", "begins with"),
    ],
)
def test_a_hunk_must_fit_exactly_once(text: str, diff: str, wrong: str) -> None:
    with pytest.raises(RecipeError, match=wrong):
        edited(text, Step("a.py", diff, edits=True))


# --- the recipes themselves ------------------------------------------------------------------------------------

RULES = ("domain", "handlers/services/config_file.py", "handlers/services/config_lines.py", "tests/domain")
IMPORT = """
import sys
from domain.configuration import Configuration
from handlers.services.config_file import line_of, parse

events, bad = parse(sys.argv[1:], Configuration(), "tests")
assert not bad, bad
print([line_of(event) for event in events])
"""


def of_code(touched: list[str]) -> list[str]:
    return [path for path in touched if not path.startswith("tests/")]


def specified(tree: Path, touched: list[str]) -> None:
    """The recipe's specs pass, and what was decided before it is decided as before."""
    specs = [path for path in touched if path.startswith("tests/")]
    run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/domain/test_rules.py", *specs)


def test_a_guardrail(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path, *RULES)
    line = '{"kind":"guardrail","scope":"global","values":{"max_positions":3}}'
    with pytest.raises(AssertionError, match="guardrail 'max_positions' is unknown"):
        run(tree, "-c", IMPORT, line)
    touched = apply(steps("A guardrail"), tree)
    assert len(of_code(touched)) <= 3
    specified(tree, touched)
    assert "{'max_positions': 3}" in run(tree, "-c", IMPORT, line)


def test_a_sizing_mode(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path, *RULES)
    lines = (
        '{"kind":"influencer","id":"ann","venue":"hyperliquid","addresses":["0x' + "a" * 40 + '"]}',
        '{"kind":"subscriber","id":"sam","deposit_usd":"10000"}',
        '{"kind":"subscription","id":"sam-ann","subscriber_id":"sam","influencer_id":"ann",'
        '"sizing":{"mode":"percent_of_smaller","percent":"50"}}',
    )
    with pytest.raises(AssertionError, match=r"sizing\.mode 'percent_of_smaller' is unknown"):
        run(tree, "-c", IMPORT, *lines)
    touched = apply(steps("A sizing mode"), tree)
    assert len(touched) <= 2
    specified(tree, touched)
    assert "{'mode': 'percent_of_smaller', 'percent': '50'}" in run(tree, "-c", IMPORT, *lines)
