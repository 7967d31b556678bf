"""The table: each protecting mechanism, how it is taken away, and the test that has to notice."""

from __future__ import annotations

from tests.faults.sabotage.addresses import ADDRESSES
from tests.faults.sabotage.applications import APPLICATIONS
from tests.faults.sabotage.breakers import BREAKERS
from tests.faults.sabotage.broker import MESSAGES, SHARED_BROKER
from tests.faults.sabotage.chunks import CHUNKS
from tests.faults.sabotage.claims import CLAIM, DOUBT, FENCE
from tests.faults.sabotage.drain import DRAIN
from tests.faults.sabotage.engine import ENGINE
from tests.faults.sabotage.events import EVENTS
from tests.faults.sabotage.forgetting import FORGETTING
from tests.faults.sabotage.generations import GENERATIONS
from tests.faults.sabotage.history import HISTORY
from tests.faults.sabotage.keys import KEYS
from tests.faults.sabotage.keywords import KEYWORDS
from tests.faults.sabotage.lag import LAG
from tests.faults.sabotage.lifecycle import LIFECYCLE
from tests.faults.sabotage.marks import MARKS
from tests.faults.sabotage.mixing import MIXING
from tests.faults.sabotage.outages import OUTAGES
from tests.faults.sabotage.page import PAGE
from tests.faults.sabotage.plans import PLANS
from tests.faults.sabotage.platforms import PLATFORMS
from tests.faults.sabotage.plugins import PLUGINS
from tests.faults.sabotage.postgres import LOCKS, TRIGGER, WATCHES
from tests.faults.sabotage.promotions import PROMOTIONS
from tests.faults.sabotage.rate_limiter import RATE_LIMITER
from tests.faults.sabotage.refusals import REFUSALS
from tests.faults.sabotage.related import RELATED
from tests.faults.sabotage.restores import RESTORES
from tests.faults.sabotage.rows import LONG_KEYS, ODD_ROWS, SESSIONS
from tests.faults.sabotage.searches import SEARCHES
from tests.faults.sabotage.security import SECRETS
from tests.faults.sabotage.sides import SIDES
from tests.faults.sabotage.sources import SOURCES
from tests.faults.sabotage.spend import SPEND
from tests.faults.sabotage.traces import TRACES
from tests.faults.sabotage.upkeep import UPKEEP
from tests.faults.sabotage.watermarks import WATERMARKS
from tests.faults.sabotage.without_provider import WITHOUT_PROVIDER
from tests.faults.sabotage.worker_pool import WORKER_POOL

TABLE = (
    *FENCE,
    *WORKER_POOL,
    *DOUBT,
    *CLAIM,
    *DRAIN,
    *MARKS,
    *WATERMARKS,
    *UPKEEP,
    *BREAKERS,
    *REFUSALS,
    *MESSAGES,
    *SHARED_BROKER,
    *ADDRESSES,
    *PLATFORMS,
    *TRIGGER,
    *WATCHES,
    *LOCKS,
    *SESSIONS,
    *ODD_ROWS,
    *LONG_KEYS,
    *OUTAGES,
    *RESTORES,
    *MIXING,
    *SIDES,
    *LAG,
    *KEYWORDS,
    *SECRETS,
    *PAGE,
    *HISTORY,
    *EVENTS,
    *TRACES,
    *KEYS,
    *FORGETTING,
    *SOURCES,
    *APPLICATIONS,
    *PLUGINS,
    *CHUNKS,
    *RATE_LIMITER,
    *SPEND,
    *WITHOUT_PROVIDER,
    *ENGINE,
    *GENERATIONS,
    *LIFECYCLE,
    *PLANS,
    *PROMOTIONS,
    *RELATED,
    *SEARCHES,
)
