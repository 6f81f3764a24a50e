"""All test cases that the library ships for recorders, on one server and on a cluster of three."""

import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any, ClassVar
from unittest import TestCase

import pytest
from eventsourcing.persistence import ProcessRecorder, Tracking
from eventsourcing.tests import application as application_cases
from eventsourcing.tests import persistence as cases
from eventsourcing.tests import projection as projection_cases
from eventsourcing.utils import Environment

from gateways.embedded import Addresses
from streams.eventsourcing import (
    Factory,
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)
from streams.eventsourcing.sync_bridge import SyncBridge
from tests.streams.cluster import Cluster, cluster_in

MODULE = "streams.eventsourcing"
NUMBERS = itertools.count(1)
NOT_OF_RECORDERS = {
    "RecorderTestCase": "has no tests of its own",
    "TranscoderTestCase": "is about the library's JSON",
    "TaggedDecisionCountersProjectionTestCase": "is about recorders with dynamic consistency boundaries",
}


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class OnOneServer:
    """Each test has its own streams, named by the environment, which are deleted after it."""

    @pytest.fixture(autouse=True)
    def streams_of_its_own(self, running: Addresses, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        yield from self.environment_of(running.nats_url, 1, monkeypatch)

    def environment_of(self, url: str, replicas: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        prefix = f"test{next(NUMBERS)}"
        self.variables = {
            "PERSISTENCE_MODULE": MODULE,
            "NATS_URL": url,
            "NATS_STREAM": prefix,
            "NATS_REPLICAS": str(replicas),
        }
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        self.factory = Factory(Environment("conformance", self.variables))
        yield
        self.factory.close()
        gc.collect()  # closes applications that the library's tests leave open
        bridge = SyncBridge(url)
        names = bridge.run(bridge.connection.api("STREAM.NAMES"))["streams"] or ()
        for name in names:
            if name.startswith(f"{prefix}_"):
                bridge.run(bridge.connection.api(f"STREAM.DELETE.{name}"))
        bridge.close()


class OnACluster(OnOneServer):
    @pytest.fixture(autouse=True)
    def streams_of_its_own(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        yield from self.environment_of(cluster.url("n1"), 3, monkeypatch)


# --- recorders ---------------------------------------------------------------------------------------------


class TestAggregateRecorder(OnOneServer, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> JetStreamAggregateRecorder:
        return self.factory.aggregate_recorder()


class TestAggregateRecorderOnACluster(OnACluster, TestAggregateRecorder):
    pass


class TestApplicationRecorder(OnOneServer, cases.ApplicationRecorderTestCase[JetStreamApplicationRecorder]):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderOnACluster(OnACluster, TestApplicationRecorder):
    pass


class TestNotificationIdsOfInserts(OnOneServer, cases.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1000

    def create_recorder(self) -> JetStreamApplicationRecorder:
        return self.factory.application_recorder()


class TestNotificationIdsOfInsertsOnACluster(OnACluster, TestNotificationIdsOfInserts):
    pass


class TestTrackingRecorder(OnOneServer, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> JetStreamTrackingRecorder:
        return self.factory.tracking_recorder()


class TestTrackingRecorderOnACluster(OnACluster, TestTrackingRecorder):
    pass


class TestProcessRecorder(OnOneServer, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> ProcessRecorder:
        return self.factory.process_recorder()


class TestProcessRecorderOnACluster(OnACluster, TestProcessRecorder):
    pass


# --- the factory and applications --------------------------------------------------------------------------


class OwnTrackingRecorder(JetStreamTrackingRecorder):
    pass


class TestFactory(OnOneServer, cases.InfrastructureFactoryTestCase[Factory]):
    def setUp(self) -> None:
        self.env = Environment("TestCase", self.variables)
        super().setUp()

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[JetStreamAggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[JetStreamApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[JetStreamTrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[JetStreamTrackingRecorder]:
        return OwnTrackingRecorder

    def expected_process_recorder_class(self) -> type[JetStreamProcessRecorder]:
        return JetStreamProcessRecorder


class TestFactoryOnACluster(OnACluster, TestFactory):
    pass


class TestExampleApplication(OnOneServer, application_cases.ExampleApplicationTestCase):
    expected_factory_topic = f"{MODULE}.factory:Factory"


class TestExampleApplicationOnACluster(OnACluster, TestExampleApplication):
    pass


class TestApplication(OnOneServer, application_cases.ApplicationTestCase):
    pass


class TestApplicationOnACluster(OnACluster, TestApplication):
    pass


# --- projections -------------------------------------------------------------------------------------------


class CountersView(JetStreamTrackingRecorder, projection_cases.EventCountersView):
    """Counts in memory the events that it tracks in the log."""

    created = 0
    subsequent = 0

    def get_created_event_counter(self) -> int:
        return self.created

    def get_subsequent_event_counter(self) -> int:
        return self.subsequent

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self.created += 1

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self.subsequent += 1


class TestEventCountersView(OnOneServer, projection_cases.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> projection_cases.EventCountersView:
        view = self.factory.tracking_recorder(CountersView)
        assert isinstance(view, CountersView)
        return view


class TestEventCountersViewOnACluster(OnACluster, TestEventCountersView):
    pass


class TestProjection(OnOneServer, projection_cases.AggregateEventCountersProjectionTestCase):
    view_class = CountersView
    env: ClassVar[dict[str, str]] = {}


class TestProjectionOnACluster(OnACluster, TestProjection):
    pass


class TestEventSourcedProjection(OnOneServer, projection_cases.EventSourcedProjectionTestCase):
    pass


class TestEventSourcedProjectionOnACluster(OnACluster, TestEventSourcedProjection):
    pass


# --- all of them -------------------------------------------------------------------------------------------


def cases_of(module: ModuleType) -> set[type[Any]]:
    """The test cases that a module of the library defines."""
    found = (case for case in vars(module).values() if isinstance(case, type) and issubclass(case, TestCase))
    return {case for case in found if case.__module__ == module.__name__}


@pytest.mark.parametrize("where", [OnOneServer, OnACluster])
def test_every_case_of_the_library_is_used(where: type[OnOneServer]) -> None:
    shipped = set().union(*map(cases_of, (cases, application_cases, projection_cases)))
    here = [case for case in globals().values() if isinstance(case, type) and issubclass(case, where)]
    if where is OnOneServer:
        here = [case for case in here if not issubclass(case, OnACluster)]
    missing = {case.__name__ for case in shipped if not any(issubclass(own, case) for own in here)}
    assert missing - NOT_OF_RECORDERS.keys() == set()
