"""The private parts of nats-py that `streams.connection.ClientInternals` uses, held to the installed version.

When one of these fails after an update of nats-py, change ClientInternals, which is the only place that uses them.
"""

import ast
import inspect
import re
from importlib.metadata import version
from pathlib import Path

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

import streams
from streams.connection import ClientInternals, Connection
from streams.nats_protocol import ClientParser
from tests.streams.deadlines import eventually

ADVICE = f"nats-py {version('nats-py')} differs from what streams.connection.ClientInternals expects"
PRIVATE = {"_ps", "_send_command", "_flush_pending", "_id", "_public_nkey"}


def test_the_client_reads_through_a_parser_that_can_be_replaced() -> None:
    client = Client()
    assert isinstance(client._ps, Parser), f"{ADVICE}: Client._ps is not its parser"
    assert inspect.iscoroutinefunction(Parser.parse), f"{ADVICE}: Parser.parse is not a coroutine function"
    assert list(inspect.signature(Parser.parse).parameters) == ["self", "data"], f"{ADVICE}: Parser.parse"
    assert list(inspect.signature(Parser.reset).parameters) == ["self"], f"{ADVICE}: Parser.reset"
    used = set(re.findall(r"self\._ps\.(\w+)", inspect.getsource(Client)))
    assert used == {"parse", "reset"}, f"{ADVICE}: Client calls {used} on its parser; ClientParser has parse and reset"
    parser = ClientInternals(client).insert_parser()
    assert isinstance(parser, ClientParser)
    assert client._ps is parser  # type: ignore[comparison-overlap]


def test_the_client_writes_protocol_text() -> None:
    for method, parameters in ((Client._send_command, ["cmd"]), (Client._flush_pending, [])):
        assert inspect.iscoroutinefunction(method), f"{ADVICE}: Client.{method.__name__} is not a coroutine function"
        signature = inspect.signature(method).parameters.values()
        required = [each.name for each in signature if each.default is each.empty and each.name != "self"]
        assert required == parameters, f"{ADVICE}: Client.{method.__name__} needs {required}"


def test_a_subscription_has_its_id() -> None:
    subscription = Subscription(Client(), id=7, subject="a")
    assert ClientInternals.subscription_id(subscription) == b"7", f"{ADVICE}: Subscription._id"


async def test_what_is_written_past_the_library_arrives_in_order(log: Connection) -> None:
    """And messages of a subscription in blocks come with the id that the library gave it."""
    received: list[bytes] = []
    inbox = log.inbox()
    subscription = await log.subscribe_blocks(inbox, lambda deliveries: received.extend(deliveries.payloads))
    await log.publish_block([(inbox, b"NATS/1.0\r\n\r\n", b"without a reply")])
    await log.publish(inbox, b"one", reply="reply")
    await log.publish(inbox, b"two", reply="reply")
    await eventually(lambda: len(received) == 2, what=ADVICE)
    assert received == [b"one", b"two"]
    await log.unsubscribe_blocks(subscription)


def test_no_other_code_uses_private_parts_of_the_library() -> None:
    (folder,) = streams.__path__
    for file in Path(folder).rglob("*.py"):
        tree = ast.parse(file.read_text())
        if file.name == "connection.py":
            tree.body = [node for node in tree.body if getattr(node, "name", "") != "ClientInternals"]
        foreign = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in PRIVATE
            and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        }
        assert not foreign, f"{file}: {foreign} belongs in ClientInternals"
