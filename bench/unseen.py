"""Moments of simulated shoppers whom the shipped model has never seen, in the market that it was trained on."""

import msgspec

from simulation.crowd import Crowd
from simulation.market_folder import START_MS
from training.log import Case
from training.log_files import log_of, search_cases
from training.yardstick.run import DAY_MS, TEST_DAYS

DAYS = 32


def unseen_cases(seed: int, shoppers: int) -> list[Case]:
    """A case before each of their searches of the test days, of shoppers who did something before."""
    events = list(Crowd(seed, shoppers).events(START_MS, DAYS))
    profiles = {event.user: event.profile for event in events if event.profile}
    cases = search_cases(log_of(events), START_MS + (DAYS - TEST_DAYS) * DAY_MS)
    return [msgspec.structs.replace(case, profile=profiles.get(case.user, {})) for case in cases if case.seen]
