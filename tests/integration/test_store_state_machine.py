"""Random histories of calls: the store on a real Valkey and a plain Python model must agree after every step."""

import uuid
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from local.valkey import Valkey
from schemas import QueryRun
from store.client import Applied, Fired, Publication, Request, ShopperStore, StateChange, Wanted, WriterFenced
from store.codec import encode_run
from tests.integration.store_model import RUNS_KEPT, Change, ModelRequest, ModelRun, ModelStore, Shopper
from tests.integration.stores import HOUR_MS, a_list, open_store, users_of

USERS = {user: shard for shard in (0, 1) for user in users_of(shard, 3)}
BY_SHARD = {shard: [user for user in USERS if USERS[user] == shard] for shard in (0, 1)}
TIMES = st.integers(1, 12)
PARTITIONS = st.integers(0, 1)


class StoreMachine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.namespace = uuid.uuid4().hex
        self.store = self._newest_writer()
        self.zombies: list[ShopperStore] = []
        self.model = ModelStore({user: Shopper(shard) for user, shard in USERS.items()})
        self.tokens: dict[tuple[str, int], bytes] = dict.fromkeys(((user, 0) for user in USERS), b"")
        self.runs: dict[str, tuple[str, int]] = {}
        """Run id -> shopper and as-of of every request ever fired."""

    def _newest_writer(self) -> ShopperStore:
        store = open_store(self.url, self.namespace, runs_kept=RUNS_KEPT)
        store.begin("backfill")
        store.begin("rebuild")
        return store

    def _changes(self, data: st.DataObject, shard: int) -> tuple[list[Change], list[StateChange]]:
        changes = []
        for user in data.draw(st.lists(st.sampled_from(BY_SHARD[shard]), unique=True, min_size=1, max_size=3), "users"):
            saves = self.model.shoppers[user].saves
            expected = data.draw(st.sampled_from([saves] * 9 + [max(0, saves - 1)]), "token of save")
            fired = []
            for as_of in sorted(data.draw(st.sampled_from([[], [1], [4], [7], [2, 5], [7, 9]]), "fired")):
                known = [run for run, (owner, when) in self.runs.items() if owner == user and when == as_of]
                fired.append((data.draw(st.sampled_from([self._new_run(user, as_of), *known]), "run"), as_of))
            due = data.draw(st.none() | TIMES, "due")
            erased = data.draw(st.sampled_from([None] * 6 + [4, 7]), "erased")
            changes.append(Change(user, expected, data.draw(st.binary(max_size=6)), due, tuple(fired), erased))
        return changes, [
            StateChange(
                change.user,
                self.tokens[change.user, change.expected],
                change.blob,
                change.due,
                tuple(Fired(run_id, as_of, run_id.encode()) for run_id, as_of in change.fired),
                change.erased,
            )
            for change in changes
        ]

    def _new_run(self, user: str, as_of: int) -> str:
        run_id = f"run-{len(self.runs)}"
        self.runs[run_id] = (user, as_of)
        return run_id

    def _remember_tokens(self, changes: list[Change]) -> None:
        for change in changes:
            state = self.store.state(change.user)
            assert state is not None
            saves = self.model.shoppers[change.user].saves
            assert state.token not in [self.tokens.get((change.user, older)) for older in range(saves)]
            self.tokens[change.user, saves] = state.token

    @rule(data=st.data(), shard=st.integers(0, 1), partition=PARTITIONS, jump=st.sampled_from([0, 0, 0, 0, 1, -1]))
    def save(self, data: st.DataObject, shard: int, partition: int, jump: int) -> None:
        start = max(0, self.model.applied.get((shard, partition), (5, 0))[0] + jump)
        end, clock = start + data.draw(st.integers(0, 2), "records"), data.draw(TIMES, "clock")
        model_changes, changes = self._changes(data, shard)
        result = self.store.save(shard, partition, start, end, clock, changes)
        assert result.status == self.model.save(shard, partition, start, end, clock, model_changes)
        if result.status == "saved":
            self._remember_tokens(model_changes)

    @rule(data=st.data(), shard=st.integers(0, 1), partition=PARTITIONS, clock=st.sampled_from([0, 0, 0, 3, 8]))
    def fire(self, data: st.DataObject, shard: int, partition: int, clock: int) -> None:
        model_changes, changes = self._changes(data, shard)
        result = self.store.fire(shard, partition, changes, clock)
        assert result.status == self.model.fire(partition, model_changes, clock, shard)
        if result.status == "saved":
            self._remember_tokens(model_changes)
        elif result.status == "conflict":
            wrong = [i for i, change in enumerate(model_changes) if self._stale(change)]
            assert list(result.conflicts) == wrong

    def _stale(self, change: Change) -> bool:
        return self.model.shoppers[change.user].saves != change.expected

    @rule(room=st.integers(0, 4), lasts=st.booleans(), low_room=st.sampled_from([None, None, 0, 1, 2]))
    def claim(self, room: int, lasts: bool, low_room: int | None = None) -> None:
        if room == 0:
            assert self.store.claim(0, HOUR_MS) == []
            return
        claims = self.store.claim(room, HOUR_MS if lasts else 0, low_room)
        assert all(claim.blob == claim.run_id.encode() for claim in claims)
        expected = self.model.claim(room, lasts, low_room)
        assert sorted((claim.user, claim.run_id, claim.attempt) for claim in claims) == sorted(expected)

    @rule(
        user=st.sampled_from(sorted(USERS)),
        as_of=TIMES,
        promotion=st.integers(1, 2),
        lasts=st.booleans(),
        ends=st.booleans(),
    )
    def fire_and_claim_and_publish(self, user: str, as_of: int, promotion: int, lasts: bool, ends: bool) -> None:
        shopper, run_id = self.model.shoppers[user], self._new_run(user, as_of)
        fired = StateChange(user, self.tokens[user, shopper.saves], b"", None, (Fired(run_id, as_of, run_id.encode()),))
        change = Change(user, shopper.saves, b"", None, ((run_id, as_of),), None)
        assert self.store.fire(shopper.shard, 0, [fired]).status == self.model.fire(0, [change]) == "saved"
        self._remember_tokens([change])
        self.claim(9, lasts)
        self._publish(run_id, promotion, "m/1", ends)

    @rule(data=st.data(), low=st.booleans())
    def want(self, data: st.DataObject, low: bool) -> None:
        users = data.draw(st.lists(st.sampled_from(sorted(USERS)), unique=True, min_size=1, max_size=3), "users")
        wanted = []
        for user in users:
            as_of = data.draw(TIMES, "as-of")
            known = [run for run, (owner, when) in self.runs.items() if owner == user and when == as_of]
            run_id = data.draw(st.sampled_from([self._new_run(user, as_of), *known]), "run")
            wanted.append(Wanted(user, run_id, as_of, run_id.encode()))
        assert self.store.want("backfill", wanted, low) == [
            self.model.want(ModelRequest(each.run_id, each.as_of_ms, 0, low=low), each.user) for each in wanted
        ]

    @rule(data=st.data(), user=st.sampled_from(sorted(USERS)))
    def restore(self, data: st.DataObject, user: str) -> None:
        held = [r.run_id for r in (self.model.shoppers[user].waiting, self.model.shoppers[user].leased) if r]
        runs = []
        for as_of in data.draw(st.lists(TIMES, unique=True, min_size=1, max_size=3), "as-ofs"):
            known = [run for run in held if self.runs[run][1] == as_of]
            run_id = data.draw(st.sampled_from([*known, self._new_run(user, as_of)]), "run")
            runs.append(ModelRun(as_of, data.draw(st.integers(1, 3), "promotion"), run_id, f"{run_id} restored"))
        lists = [_run(user, run, "m/1") for run in runs]
        known = [run.run_id for run in (*runs, *self.model.shoppers[user].runs)]
        gone = tuple(data.draw(st.lists(st.sampled_from(known), unique=True, max_size=2), "replaced"))
        assert self.store.restore("rebuild", {user: lists}, {user: gone}) == self.model.restore(user, runs, gone)

    @rule(user=st.sampled_from(sorted(USERS)), at=TIMES)
    def erase(self, user: str, at: int) -> None:
        self.store.erase("rebuild", {user: at})
        self.model.erase(user, at)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), promotion=st.integers(1, 3), model=st.sampled_from(["m/1", "m/1", "m/2"]), ends=st.booleans())
    def publish(self, data: st.DataObject, promotion: int, model: str, ends: bool) -> None:
        run_id = self._any_run(data)
        stored = [run.run_id for run in self.model.shoppers[self.runs[run_id][0]].runs]
        replaces = (
            tuple(data.draw(st.lists(st.sampled_from(stored), unique=True, max_size=2), "replaces")) if stored else ()
        )
        self._publish(run_id, promotion, model, ends, replaces)

    def _publish(self, run_id: str, promotion: int, model: str, ends: bool, replaces: tuple[str, ...] = ()) -> None:
        user, as_of = self.runs[run_id]
        run = ModelRun(as_of, promotion, run_id, f"{run_id} by {promotion}")
        publication = Publication(user, run_id, as_of, promotion, model, encode_run(_run(user, run, model)), replaces)
        outcome = self.store.publish(publication, end_request=ends).outcome
        assert outcome == self.model.publish(user, run, model, ends, replaces)

    @precondition(lambda self: self.runs)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["published", "malformed", "expired", "exhausted", "refused", "cancelled"]),
    )
    def finish(self, data: st.DataObject, outcome: str) -> None:
        run_id = self._any_run(data)
        user = self.runs[run_id][0]
        assert self.store.finish(user, run_id, outcome) == self.model.finish(user, run_id, outcome)  # type: ignore[arg-type]

    def _any_run(self, data: st.DataObject) -> str:
        held = [r.run_id for s in self.model.shoppers.values() for r in (s.leased, s.waiting) if r]
        return data.draw(st.sampled_from(held + held + sorted(self.runs)), "run")

    @precondition(lambda self: not self.model.revoked)
    @rule()
    def revoke(self) -> None:
        self.store.revoke("m/2")
        self.model.revoked.add("m/2")

    @precondition(lambda self: not self.zombies)
    @rule()
    def a_newer_writer_begins(self) -> None:
        self.zombies = [self.store]
        self.store = self._newest_writer()

    @precondition(lambda self: self.zombies)
    @rule(user=st.sampled_from(sorted(USERS)), partition=PARTITIONS)
    def a_zombie_wakes(self, user: str, partition: int) -> None:
        shopper, zombie = self.model.shoppers[user], self.zombies[0]
        change = StateChange(user, self.tokens[user, shopper.saves], b"zombie", 1, (Fired("zombie", 99, b""),))
        start = self.model.applied.get((shopper.shard, partition), (0, 0))[0]
        calls: list[Callable[[], object]] = [
            lambda: zombie.save(shopper.shard, partition, start, start + 1, 99, [change]),
            lambda: zombie.fire(shopper.shard, partition, [change]),
            lambda: zombie.claim(5, HOUR_MS),
            lambda: zombie.publish(a_list(user, "zombie", 99)),
            lambda: zombie.want("backfill", [Wanted(user, "zombie", 99, b"")], low=True),
            lambda: zombie.restore("rebuild", {user: [_run(user, ModelRun(99, 9, "zombie", "zombie"), "m/1")]}),
            lambda: zombie.finish(user, shopper.leased.run_id if shopper.leased else "none", "malformed"),
        ]
        for call in calls:
            with pytest.raises(WriterFenced):
                call()

    @invariant()
    def store_and_model_agree(self) -> None:
        model, store = self.model, self.store
        shoppers = model.shoppers.values()
        assert store.counts() == {outcome: model.counts[outcome] for outcome in store.counts()}
        assert sorted(ended[:3] for ended in store.outcomes()) == sorted(model.outcomes)
        waiting, leased = [s.waiting for s in shoppers if s.waiting], [s.leased for s in shoppers if s.leased]
        assert store.fired() == model.fired == sum(model.counts.values()) + len(waiting) + len(leased)
        depth = store.depth()
        live = [request for request in waiting if not request.low]
        assert (depth.waiting, depth.low, depth.leased) == (len(live), len(waiting) - len(live), len(leased))
        assert depth.oldest_as_of_ms == min((request.as_of for request in live), default=None)
        assert store.progress() == {where: Applied(*applied) for where, applied in model.applied.items()}
        due = store.due_many({(shard, partition): 99 for shard in (0, 1) for partition in (0, 1)}, 99)
        for (shard, partition), users in due.items():
            times = {user: model.shoppers[user].due.get(partition) for user in BY_SHARD[shard]}
            assert sorted(users) == sorted(user for user, time in times.items() if time is not None)
            assert [times[user] for user in users] == sorted(time for time in times.values() if time is not None)
        for user, shopper in model.shoppers.items():
            state = store.state(user)
            assert (state and state.blob) == shopper.blob
            assert (state.token if state else b"") == self.tokens[user, shopper.saves]
            requests = store.request(user)
            assert (_plain(requests.waiting), _plain(requests.leased)) == (shopper.waiting, shopper.leased)
            runs = [ModelRun(run.as_of_ms, run.promotion, run.run_id, run.queries[0]) for run in store.runs(user)]
            assert runs == shopper.runs
            counted = {run_id for run_id, _, outcome in model.outcomes if outcome == "published"}
            counted |= {request.run_id for request in (shopper.waiting, shopper.leased) if request and request.listed}
            counted |= {run.run_id for run in runs if run.text.endswith("restored")}
            assert {run.run_id for run in runs} <= counted, "a list is served, and its request ended otherwise"


def _plain(request: Request | None) -> ModelRequest | None:
    return request and ModelRequest(request.run_id, request.as_of_ms, request.attempt, request.listed, request.low)


def _run(user: str, run: ModelRun, model: str) -> QueryRun:
    made = msgspec.msgpack.decode(a_list(user, run.run_id, run.as_of, run.promotion, model).blob, type=QueryRun)
    return msgspec.structs.replace(made, queries=(run.text,))


def test_random_histories_leave_the_store_as_the_model_says(valkey: Valkey) -> None:
    machine = type("Machine", (StoreMachine,), {"url": valkey.url})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=checks)
    )
