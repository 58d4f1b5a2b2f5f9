"""Storms: schedules of faults that can be replayed (what authors import)."""

from pytest_carthage.live.faults.probing import CAPABILITIES, lacking
from pytest_carthage.live.faults.schedule import KINDS, Schedule, ScheduledFault, schedule
from pytest_carthage.live.faults.storm import (
    AsyncStorm,
    Storm,
    replay,
    replay_aio,
    storm,
    storm_aio,
)

__all__ = [
    "CAPABILITIES",
    "KINDS",
    "AsyncStorm",
    "Schedule",
    "ScheduledFault",
    "Storm",
    "lacking",
    "replay",
    "replay_aio",
    "schedule",
    "storm",
    "storm_aio",
]
