"""Steering: streams, configuration, switches, dead letters."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vibe.app.settings import settings
from vibe.cli.root import Json, finish, group

streams_app = group("streams", "The streams of the event log.")
config_app = group("config", "Influencers, subscribers, subscriptions and guardrails.")
control_app = group("control", "Switches for operators, in force from the next decision on.")
dead_app = group("dead", "Events that a stage could not handle: look, run again, or drop.")


@streams_app.command(name="apply")
def streams_apply(*, json: Json = False) -> None:
    """Create or update every stream.

    Example: vibe streams apply
    """
    from vibe.cli.streams import run_streams_apply

    finish(run_streams_apply(settings(), json), quiet=True)


@streams_app.command(name="show")
def streams_show(*, json: Json = False) -> None:
    """Every stream: subjects, events, size, age limit, and whether it is as it should be.

    Example: vibe streams show --json
    """
    from vibe.cli.streams import run_streams_show

    finish(run_streams_show(settings(), json), quiet=True)


@config_app.command(name="import")
def config_import(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    json: Json = False,
    actor: str = "vibe config import",
) -> None:
    """Import JSON lines. Running services follow at once. One bad line and nothing of the file is applied.

    Example: vibe config import config.jsonl

    A line: {"kind":"influencer","id":"whale-1","venue":"hyperliquid","addresses":["0x..."],"status":"active"}
    A line: {"kind":"subscriber","id":"alice","mode":"paper","deposit_usd":"10000","status":"active"}
    A line: {"kind":"subscription","id":"alice-whale-1","subscriber_id":"alice","influencer_id":"whale-1",
    "sizing":{"mode":"copy_percent","percent":"1"},"limits":{},"filters":{},"status":"active"}
    A line: {"kind":"guardrail","scope":"global","values":{"spread_bps":20}}

    Parameters
    ----------
    file
        the file, or - for standard input
    actor
        who is named in the events
    """
    from vibe.cli.config import run_config_import

    finish(run_config_import(settings(), file, actor, json), quiet=True)


@config_app.command(name="export")
def config_export() -> None:
    """Print the whole configuration as JSON lines; importing them again changes nothing.

    Example: vibe config export > config.jsonl
    """
    from vibe.cli.config import run_config_export

    finish(run_config_export(settings()), quiet=True)


@config_app.command(name="show")
def config_show(*, json: Json = False) -> None:
    """Who is followed, who copies whom, and the guardrails in force.

    Example: vibe config show
    """
    from vibe.cli.config import run_config_show

    finish(run_config_show(settings(), json), quiet=True)


@dead_app.command(name="list")
def dead_list(*, stage: str | None = None, all: bool = False, json: Json = False) -> None:
    """Dead letters that need somebody: open ones, or all of them with what became of each.

    Example: vibe dead list --stage normalize

    Parameters
    ----------
    stage
        only letters of this stage
    all
        retried and dropped ones too
    """
    from vibe.cli.dead import run_list

    finish(run_list(settings(), stage, all, json), quiet=True)


@dead_app.command(name="show")
def dead_show(letter: int, /, *, json: Json = False) -> None:
    """One letter whole: where it came from, why it died, and the event itself.

    Example: vibe dead show 12

    Parameters
    ----------
    letter
        its number in `vibe dead list`, the sequence in DEAD
    """
    from vibe.cli.dead import run_show

    finish(run_show(settings(), letter, json), quiet=True)


@dead_app.command(name="retry")
def dead_retry(*letters: int, all: bool = False, stage: str | None = None, json: Json = False) -> None:
    """Run letters through their stage once more, after the cause was mended. One that fails again is a new letter.

    Example: vibe dead retry 12 13

    Parameters
    ----------
    letters
        numbers from `vibe dead list`
    all
        every open letter (with --stage: of that stage)
    """
    from vibe.cli.dead import run_retry

    finish(run_retry(settings(), letters, all, stage, json), quiet=True)


@dead_app.command(name="drop")
def dead_drop(*letters: int, why: str, json: Json = False) -> None:
    """Close letters that need nothing more. They stay in the log, with the reason and who said it.

    Example: vibe dead drop 12 --why "test frame"

    Parameters
    ----------
    letters
        numbers from `vibe dead list`
    why
        kept with the letter
    """
    from vibe.cli.dead import run_drop

    finish(run_drop(settings(), letters, why, json), quiet=True)


Note = Annotated[str, Parameter(help="why, for whoever reads the log")]
Actor = Annotated[str | None, Parameter(help="who; without it, the user of this process")]


def _control(target: str, key: str, state: str, note: str, actor: str | None, json: bool) -> None:
    from domain.events import ControlState, ControlTarget
    from vibe.app.clock import Clock
    from vibe.cli.control import run_control

    work = run_control(settings(), ControlTarget(target), key, ControlState(state), note, actor, json, Clock())
    finish(work, quiet=True)


@control_app.command(name="show")
def control_show(*, json: Json = False) -> None:
    """What is switched otherwise than usual.

    Example: vibe control show
    """
    from vibe.cli.control import run_show

    finish(run_show(settings(), json), quiet=True)


@control_app.command(name="pause")
def control_pause(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Pause the engine: everything is recorded, nothing is copied, and nothing of it is copied later.

    Example: vibe control pause --note "venue maintenance"
    """
    _control("engine", "", "paused", note, actor, json)


@control_app.command(name="resume")
def control_resume(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Let the engine copy again what is detected from now on.

    Example: vibe control resume
    """
    _control("engine", "", "running", note, actor, json)


@control_app.command(name="record-only")
def control_record_only(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Decide everything and execute nothing: decisions say what they would have been refused for.

    Example: vibe control record-only
    """
    _control("engine", "", "record_only", note, actor, json)


@control_app.command(name="disable")
def control_disable(
    what: Literal["influencer", "subscriber", "market"],
    name: str,
    /,
    *,
    note: Note = "",
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Open nothing new for an influencer, a subscriber or a market; reductions go through.

    Example: vibe control disable market DOGE --note "delisting"
    """
    _control(what, name, "disabled", note, actor, json)


@control_app.command(name="enable")
def control_enable(
    what: Literal["influencer", "subscriber", "market"],
    name: str,
    /,
    *,
    note: Note = "",
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Take a disabling back.

    Example: vibe control enable market DOGE
    """
    _control(what, name, "enabled", note, actor, json)


@control_app.command(name="reset-breakers")
def control_reset_breakers(subscriber: str, /, *, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Reset the tripped breakers of a subscriber; they look back to its equity at that moment.

    Example: vibe control reset-breakers alice
    """
    _control("breakers", subscriber, "reset", note, actor, json)
