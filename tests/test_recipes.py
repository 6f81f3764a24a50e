"""The recipes of CONTRIBUTING.md work: applied to a copy of the tree, each adds what it promises."""

from pathlib import Path

import pytest

from tests.recipes import RecipeError, Step, apply, edited, steps

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
