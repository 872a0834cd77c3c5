"""What the job counts and times, for Prometheus, `aigq status` and the summary. Defined once, named here, documented in docs/metrics.md."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("aigq_events", "Behaviour events read from the log", ["outcome"])
"""outcome: folded, duplicate, too_late, before_erasure, erased, quarantined, dead, skipped (by the mapper)."""
CHANGES = Counter("aigq_changes", "Changes that came due (requests for a list)")
REQUESTS = Counter("aigq_requests", "Requests by the outcome they ended in", ["outcome"])
"""outcome: published, conflated, expired, malformed, refused, exhausted."""
DEAD_LETTERS = Counter("aigq_dead_letters", "Dead letters", ["stage", "reason"])
DROPPED = Counter("aigq_dropped_queries", "Queries that the model wrote and no list shows", ["reason"])
"""reason: inference.output.DropReason; `unsupported`: not in the allow-list."""
CLAMPED = Counter("aigq_clamped_records", "Records whose log clock lay below the saved progress", ["partition"])
REWINDS = Counter("aigq_rewinds", "Times a shard of the store was behind the log and its records were read again")
CONFLICTS = Counter("aigq_save_conflicts", "Saves that met a state changed by the other stage and were folded again")
STORE_RETRIES = Counter("aigq_store_retries", "Calls to the store that were repeated", ["call"])

LAG = Gauge("aigq_lag_records", "Records in the log that are not yet in the store", ["partition"])
PROGRESS_AGE = Gauge("aigq_progress_age_seconds", "Wall clock minus saved log clock", ["partition"])
QUEUE_DEPTH = Gauge("aigq_queue_requests", "Requests waiting or in flight", ["state"])
"""state: waiting, leased, low (waiting, of low priority: not among `waiting`)."""
QUEUE_AGE = Gauge("aigq_queue_oldest_seconds", "Age of the oldest waiting request")
ENGINE_ROOM = Gauge("aigq_engine_room_requests", "Requests the engine would take now")
ENGINE_STATE = Gauge("aigq_engine_state", "0 starting, 1 ready, 2 busy, 3 dead")
ALLOWED = Gauge("aigq_allowed_queries", "Queries that lists may hold, in the allow-list; 0: any")

PROMPT_TOKENS = Counter("aigq_prompt_tokens", "Tokens read by the model")
OUTPUT_TOKENS = Counter("aigq_output_tokens", "Tokens written by the model")
PREFIX_HITS = Counter("aigq_prefix_cache_hit_tokens", "Prompt tokens found in the prefix cache")
TIME_TO_LIST = Histogram(
    "aigq_time_to_list_seconds",
    "Newest event of a change to its readable list, by part: settle, queue, model, store, total",
    ["part"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300),
)
