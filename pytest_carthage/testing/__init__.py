"""Tests without the world: layouts, stages and providers in memory.

Unit-test what works on a layout, in milliseconds::

    from pytest_carthage import testing

    def test_import_counts_the_tills():
        with testing.live(Shop, answers={"psql *": "till-1\\ntill-2\\n"}) as shop:
            testing.run_stage(production, shop=shop)
            assert testing.fakes(shop)["db"].commands == ["psql -tAc ..."]

For those who write providers, :class:`FakeProvider` is an example that keeps every promise.
"""

from pytest_carthage.testing.commands import Answer, Answers, Call, Output
from pytest_carthage.testing.endpoint import FakeEndpoint
from pytest_carthage.testing.files import Tree
from pytest_carthage.testing.live import FakeRun, fakes, fixture, live, run_stage
from pytest_carthage.testing.machine import FakeMachine
from pytest_carthage.testing.provider import FakeMeans, FakeProvider
from pytest_carthage.testing.world import FakeFabric, RecordedFault, World

__all__ = [
    "Answer",
    "Answers",
    "Call",
    "FakeEndpoint",
    "FakeFabric",
    "FakeMachine",
    "FakeMeans",
    "FakeProvider",
    "FakeRun",
    "Output",
    "RecordedFault",
    "Tree",
    "World",
    "fakes",
    "fixture",
    "live",
    "run_stage",
]
