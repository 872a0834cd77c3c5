"""Single shoppers folded anew in the running namespace: from a corrected archive, out of a quarantine, beside a job that goes on."""

import dataclasses
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

import pipelines.folding
import pipelines.operation
from interest import decode, encode
from local.kafka import Kafka
from local.valkey import Valkey
from pipelines.folding import Folding
from pipelines.users_in_place import UsersInPlace
from schemas import BehaviourEvent, Item
from schemas.codec import encoder_for
from store.client import Claim, ShopperStore, StateChange
from store.layout import shard_of
from store.operations import Operation, OperationProgress, Operations
from tests.integration import readme
from tests.integration.archives import archive_now, ends_of
from tests.integration.dlq import POLICY, SmallJob, new_dlq
from tests.integration.oracle import Record, Rule, Shopper, fold_log, read_topic
from tests.integration.oracle_store import read_store
from tests.integration.pages import Page, runbook
from tests.integration.stores import a_list
from tests.integration.test_read_events_faults import delete_up_to
from tests.integration.typed import typed
from tests.integration.verdict import judge_states
from transforms.archive_layout import EVENTS, facts_of, files_of
from transforms.fire_due import fire_all_due
from transforms.generate_queries import decode_change
from transforms.redriven_records import partition_of
from transforms.want_lists import wanted_list

WRONG, SHORTER, GONE, BROKEN, OTHER = USERS = ("wrong", "shorter", "gone", "broken", "other")
to_json = encoder_for(BehaviourEvent, "json")


def reads_nothing(record: bytes) -> BehaviourEvent | str:
    return "nothing is known of this format"


def reads_all_but_one(record: bytes) -> BehaviourEvent | str:
    event = msgspec.json.decode(record, type=BehaviourEvent)
    return "that one" if (event.user, event.query) == (WRONG, "thing 3") else event


@dataclass
class Tonight:
    """A job in miniature, and the command as it is typed."""

    job: SmallJob
    folder: Path
    made: int = 0

    @property
    def store(self) -> ShopperStore:
        return self.job.store

    def shop(self, users: tuple[str, ...] = USERS, numbers: range = range(4)) -> None:
        """Clicks and searches in turn."""
        for number in numbers:
            for user in users:
                self.made += 1
                at, text = int(time.time() * 1000) - 3_600_000 + self.made * 1_000, f"thing {number}"
                if number % 2:
                    event = BehaviourEvent(f"e{self.made}", user, "search", at, query=text)
                else:
                    event = BehaviourEvent(f"e{self.made}", user, "click", at, item=Item(f"i{number}", text, "Things"))
                self.job.produce(to_json(event), user)
        self.job.take()

    def page(self, name: str, behind: str, archive: Path) -> Page:
        """A part of the runbook."""
        page = Page(runbook(name, behind=behind))
        page.ours |= {"users.txt": str(self.folder / "users.txt")}
        page.ours |= dict.fromkeys(("/data/aigq", "/data/corrected"), str(archive))
        return page

    def rebuild(self, *words: str, users: tuple[str, ...] = (), status: int = 0, page: Page | None = None) -> str:
        """By the next command of a page, where there is one."""
        dlq, file = self.job.dlq, self.folder / "users.txt"
        if users:
            file.write_text("".join(f"{user}\n" for user in users))
        command = page.next("aigq rebuild")[1:] if page else ["rebuild", f"--users={file}"]
        where = [f"--bootstrap={dlq.bootstrap}", f"--topic={dlq.behaviour}", f"--dead_letter_topic={dlq.topic}"]
        where += [f"--store={dlq.store_url}", f"--namespace={dlq.namespace}"]
        return typed(*command, *where, *words, exits=status)

    def texts(self, user: str) -> list[str]:
        return self.job.texts(user)

    def clock_ms(self, user: str) -> int:
        return self.store.progress()[shard_of(user, 4), partition_of(user.encode(), 4)].clock_ms

    def want(self, *users: str, age_ms: int) -> None:
        """Requests for lists from the states as they are."""
        for user in users:
            as_of_ms = self.clock_ms(user) - age_ms
            wanted = wanted_list(user, self.job.state(user), as_of_ms, "before", POLICY.version)
            assert wanted
            assert self.store.want("backfill", [wanted], low=False) == ["requested"]

    def publish(self, claim: Claim) -> str:
        change = decode_change(claim.blob)
        made = a_list(claim.user, claim.run_id, change.as_of_ms)
        return self.store.publish(dataclasses.replace(made, replaces=change.replaces)).outcome

    def lists(self, user: str) -> list[str]:
        return [run.run_id for run in self.store.runs(user)]

    def operation(self) -> tuple[Operation, OperationProgress]:
        (found,) = [each for each in Operations(self.store.calls).list() if each[0].namespace == self.store.name]
        return found

    def expected(self, archive: Path | None = None) -> dict[str, Shopper]:
        """What the (corrected) log says, by an oracle that shares no code with the product."""
        rule = Rule(
            POLICY.version, **{n: getattr(POLICY, n) for n in Rule.__dataclass_fields__ if n != "trigger_version"}
        )
        records = read_topic(self.job.dlq.bootstrap, self.job.dlq.behaviour)
        if archive:
            ends = ends_of(archive)
            records = [r for r in records if r.offset >= ends.get(r.partition, 0)]
            for file in files_of(str(archive), EVENTS):
                rows = pq.ParquetFile(file.path).read(["partition", "offset", "append_ms", "value"]).to_pylist()
                records += [Record(*row.values()) for row in rows if row["value"]]
        return fold_log(records, rule, until_ms=0)

    def check(self, archive: Path | None = None) -> None:
        """Every shopper's state is what the log says."""
        fire_all_due(self.store, "generate", requests=False)
        verdict = judge_states(self.expected(archive), read_store(self.job.dlq.store_url, self.job.dlq.namespace, 4))
        assert verdict.behaviours
        assert not verdict.wrong, verdict


@pytest.fixture
def tonight(kafka: Kafka, valkey: Valkey, namespace: str, fresh_topic: Callable[..., str], tmp_path: Path) -> Tonight:
    made = Tonight(SmallJob(new_dlq(kafka.bootstrap, valkey.url, namespace, fresh_topic)), tmp_path)
    for stage in ("generate", "backfill", "rebuild"):
        made.store.begin(stage)
    return made


def mend(archive: Path, corrected: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """As docs/archive.md has it."""
    page = (readme.ROOT / "docs" / "archive.md").read_text("utf-8")
    (code,) = (
        each for each in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "def mend" in each
    )
    written: dict[str, Any] = {}
    exec(code, written)
    written["mend"](archive, corrected, change)


def correct(row: dict[str, Any]) -> dict[str, Any] | None:
    """Titles of WRONG are corrected, the newest record of SHORTER goes, and all of GONE, of whom one is blanked."""
    if (row["user"], row["item_title"]) == (GONE, "thing 0"):
        return row | {"value": None}
    if row["user"] == GONE or (row["user"], row["query"]) == (SHORTER, "thing 3"):
        return None
    if row["user"] == WRONG and row["kind"] == "click":
        event, title = json.loads(row["value"]), f"corrected {row['item_title']}"
        event["item"]["title"] = title
        return row | {"value": json.dumps(event).encode(), "item_title": title}
    return row


def put_in_quarantine(tonight: Tonight, user: str) -> None:
    """As a record that broke the fold would."""
    stored = tonight.store.state(user)
    assert stored
    state = replace(decode(stored.blob), broken_at=decode(stored.blob).offset)
    where = shard_of(user, 4), state.partition
    change = StateChange(user, stored.token, encode(state), None)
    assert tonight.store.fire_many({where: [change]}, {where: 0}, "rebuild")[where].status == "saved"


def test_shoppers_are_folded_anew_from_a_corrected_archive_and_out_of_quarantine(
    tonight: Tonight, monkeypatch: pytest.MonkeyPatch
):
    store, archive, corrected = tonight.store, tonight.folder / "archive", tonight.folder / "corrected"
    tonight.shop()
    tonight.want(*USERS, age_ms=2)
    assert {tonight.publish(claim) for claim in store.claim(10, 60_000)} == {"published"}
    tonight.want(WRONG, GONE, age_ms=1)
    in_flight = {claim.user: claim for claim in store.claim(10, 60_000)}
    tonight.want(SHORTER, age_ms=1)
    put_in_quarantine(tonight, BROKEN)
    archive_now(archive, tonight.job.dlq.bootstrap, tonight.job.dlq.behaviour)
    mend(archive, corrected, correct)
    files = {file.name: facts_of(file) for file in files_of(str(archive), EVENTS)}
    assert {file.name: facts_of(file) for file in files_of(str(corrected), EVENTS)} == files
    tonight.shop((WRONG, BROKEN, OTHER), range(4, 5))  # behind the archive's end
    untouched = store.states([OTHER]), tonight.lists(OTHER)

    users = (WRONG, SHORTER, GONE, BROKEN, "nobody")
    night_3 = tonight.page("night-3-store-lost", "**Single shoppers**", corrected)
    night_4 = tonight.page("night-4-bad-producer", "**5. Records", corrected)
    for page in (night_3, night_4):
        assert "4 have a state, 1 of them are in quarantine" in tonight.rebuild(page=page, users=users)
    assert [decode(store.states([BROKEN])[BROKEN].blob).broken_at >= 0, tonight.texts(WRONG)[0]] == [True, "thing 0"]
    with monkeypatch.context() as patch:  # killed between the states and the lists

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(UsersInPlace, "ask_for_lists", die)
        tonight.rebuild(page=night_3, status=130)
    id = tonight.rebuild(page=night_4).split()[-1]
    night_3.finish()
    night_4.finish()
    operation, progress = tonight.operation()
    assert (operation.id, progress.status, progress.done) == (id, "done", progress.of)
    counts = {"rebuilt": 3, "without records": 2, "still broken": 0, "unreadable records": 0, "lists requested": 3}
    assert counts.items() <= progress.counts.items()
    assert "2 shoppers (gone, nobody)" in progress.note

    assert tonight.texts(WRONG) == ["corrected thing 0", "thing 1", "corrected thing 2", "thing 3", "thing 4"]
    assert tonight.texts(SHORTER) == ["thing 0", "thing 1", "thing 2"]
    assert tonight.texts(BROKEN) == [f"thing {number}" for number in range(5)]
    # Who is not in the corrected log has nothing; and nobody else is touched.
    assert (store.state(GONE), tonight.lists(GONE), any(store.request(GONE))) == (None, [], False)
    assert (store.states([OTHER]), tonight.lists(OTHER)) == untouched

    # What was on its way was made from what was wrong: it does not come. Lists as of now take the place of all.
    assert {user: tonight.publish(claim) for user, claim in in_flight.items()} == {WRONG: "unknown", GONE: "refused"}
    claims = [claim for claim in store.claim(10, 60_000) if claim.user != OTHER]  # whose own change may have come due
    assert {claim.user for claim in claims} == {WRONG, SHORTER, BROKEN}
    for claim in claims:
        change = decode_change(claim.blob)
        assert (change.origin, [each.text for each in change.behaviours]) == (id, tonight.texts(claim.user))
        assert tonight.publish(claim) == "published"
        assert tonight.lists(claim.user) == [claim.run_id]

    # The job goes on upon the new states.
    tonight.shop(USERS, range(5, 7))
    tonight.check(corrected)
    assert tonight.texts(GONE) == ["thing 5", "thing 6"]


@pytest.mark.parametrize("moment", ["put", "_saved"])
def test_what_the_job_saves_meanwhile_is_not_lost(tonight: Tonight, monkeypatch: pytest.MonkeyPatch, moment: str):
    """Before the states are looked at, and between that and the save."""
    tonight.shop((WRONG, OTHER))
    put_in_quarantine(tonight, WRONG)
    real, moves = getattr(UsersInPlace, moment), [4, 5]

    def moved(*arguments: Any, **named: Any) -> Any:
        if moves:
            tonight.shop((WRONG,), range(moves[0], moves.pop(0) + 1))
        return real(*arguments, **named)

    monkeypatch.setattr(UsersInPlace, moment, moved)
    tonight.rebuild("--execute", users=(WRONG,))
    assert not moves
    tonight.check()
    assert tonight.texts(WRONG) == [f"thing {number}" for number in range(6)]


def test_who_cannot_be_read_is_left_and_named(tonight: Tonight, monkeypatch: pytest.MonkeyPatch):
    tonight.shop((WRONG, OTHER))
    before = tonight.store.states(USERS)
    said = tonight.rebuild("--execute", f"--mapper={__name__}:reads_nothing", users=(WRONG, OTHER), status=3)
    assert "8 of 8 records cannot be read" in said
    assert tonight.store.states(USERS) == before
    said = tonight.rebuild("--execute", f"--mapper={__name__}:reads_all_but_one", users=(WRONG, OTHER), status=1)
    where = f"partition {tonight.job.state(WRONG).partition} offset {tonight.job.state(WRONG).offset}"
    assert f"1 shoppers were left as they were. {WRONG}: {where} cannot be read: mapper_refused" in said
    counts = tonight.operation()[1].counts
    assert (counts["rebuilt"], counts["still broken"], counts["unreadable records"]) == (1, 1, 1)
    assert tonight.store.states([WRONG]) == {WRONG: before[WRONG]}

    def breaks(state: Any, event: BehaviourEvent, *rest: Any) -> Any:
        if event.user == WRONG:
            raise ZeroDivisionError
        return real(state, event, *rest)

    real = pipelines.folding.fold
    monkeypatch.setattr(pipelines.folding, "fold", breaks)
    said = tonight.rebuild("--execute", status=1)
    assert f"{WRONG}: partition {tonight.job.state(WRONG).partition} offset" in said
    assert "breaks the fold: ZeroDivisionError()" in said
    assert tonight.store.states([WRONG]) == {WRONG: before[WRONG]}


def test_whose_records_lie_before_the_log_is_left_and_named(tonight: Tonight):
    user = next(f"old-{number}" for number in range(100) if partition_of(f"old-{number}".encode(), 4) == 0)
    tonight.shop((user,))
    delete_up_to(AdminClient({"bootstrap.servers": tonight.job.dlq.bootstrap}), tonight.job.dlq.behaviour, 4)
    before = tonight.store.states([user])
    assert "offsets 0 to 3 are gone" in tonight.rebuild("--execute", users=(user,), status=3)
    said = tonight.rebuild("--execute", "--on_lost_records=skip", users=(user,), status=1)
    assert f"{user}: the log begins behind partition 0 offset 3" in said
    assert tonight.store.states([user]) == before


def test_a_cancel_is_heard_while_it_reads(tonight: Tonight, monkeypatch: pytest.MonkeyPatch):
    tonight.shop()
    before, real = tonight.store.states(USERS), Folding.add

    def add(*arguments: Any) -> None:
        Operations(tonight.store.calls).control(tonight.operation()[0].id, "cancel")
        real(*arguments)

    monkeypatch.setattr(Folding, "add", add)
    monkeypatch.setattr(pipelines.operation, "SAVE_S", 0.0)
    assert "was cancelled" in tonight.rebuild("--execute", users=USERS, status=4)
    progress = tonight.operation()[1]
    assert 0 < progress.done < progress.of == 20
    assert tonight.store.states(USERS) == before
