"""Settings: what is refused, with a message that says what is expected."""

import pytest
from pydantic import ValidationError

from vibe.app.settings import Settings


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_stage_may_have_so_many_lanes(count: int) -> None:
    assert Settings(lanes=count).lanes == count


@pytest.mark.parametrize("count", [0, 3, 16, 64])
def test_any_other_number_of_lanes_is_refused(count: int) -> None:
    with pytest.raises(ValidationError, match=f"a stage has 1, 2, 4 or 8 lanes, not {count}; set VIBE_LANES"):
        Settings(lanes=count)
