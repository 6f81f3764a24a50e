"""The list of read models: every module of projections/models is in it, and defines the read model of its name."""

import sys
from types import ModuleType

import pytest

from projections import models
from projections.engine.projection import Projection
from tests.repository import ROOT


def test_every_module_is_listed_once() -> None:
    modules = {path.stem for path in (ROOT / "projections/models").glob("*.py")} - {"__init__"}
    assert sorted(models.NAMES) == sorted(modules)
    assert [each.name for each in models.PROJECTIONS] == list(models.NAMES)


@pytest.mark.parametrize(
    ("names", "found"), [([], "none"), (["other"], "other"), (["wanted", "other"], "wanted, other")]
)
def test_a_module_defines_one_read_model_of_its_name(
    monkeypatch: pytest.MonkeyPatch, names: list[str], found: str
) -> None:
    module = ModuleType("projections.models.wanted")
    for name in names:
        setattr(module, name, type(name, (Projection,), {"name": name, "__module__": module.__name__}))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(TypeError, match=f"expected one subclass of Projection with the name 'wanted', found {found}$"):
        models.projection_of("wanted")
