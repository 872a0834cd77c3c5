"""What the judges of operators' commands look at, read without the product's code: keys, names, files and topics as they lie there."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from redis import Redis

from tests.integration.oracle import Due, Record, Shopper
from tests.integration.oracle_store import TOKEN_BYTES, Stored, StoredRequest


@dataclass(frozen=True)
class OperationRecord:
    id: str
    status: str
    updated_ms: int
    checkpoint: dict[str, Any]
    """Empty where there is none, or where it is no JSON object."""
    phase: str
    """Which part of its work it is at: as its checkpoint names it, else whether it has one."""


def operations(url: str, kind: str, name: str) -> list[OperationRecord]:
    """Of a command and a name, the oldest first."""
    found = []
    server: Any = Redis.from_url(url)
    with server:
        for id, value in server.hgetall("aigq:operations").items():
            asked = json.loads(value)
            if (asked["kind"], asked["namespace"]) == (kind, name):
                progress = json.loads(server.hget(f"aigq:operation:{id.decode()}", "progress") or b"{}")
                checkpoint = progress.get("checkpoint", "")
                place = json.loads(checkpoint) if checkpoint.startswith("{") else {}
                phase = place.get("phase") or ("with a checkpoint" if checkpoint else "before its first checkpoint")
                status, updated_ms = progress.get("status", "running"), progress.get("updated_ms", 0)
                found.append((asked["begun_ms"], OperationRecord(id.decode(), status, updated_ms, place, phase)))
    return [record for _, record in sorted(found, key=lambda each: each[0])]


def namespaces(url: str, name: str) -> set[str]:
    """Every namespace whose name begins with this one's: the runs of a campaign have names of their own."""
    server: Any = Redis.from_url(url)
    with server:
        return {each.decode() for each in server.smembers("aigq:namespaces") if each.decode().startswith(name)}


def is_held(url: str, name: str) -> bool:
    """Whether a command still keeps jobs from starting under this name."""
    server: Any = Redis.from_url(url)
    with server:
        return bool(server.exists(f"aigq:moving:{name}"))


def shards_of(url: str, namespace: str) -> int:
    server: Any = Redis.from_url(url)
    with server:
        return json.loads(server.get(f"{namespace}:meta"))["shards"]


def states(url: str, namespace: str) -> dict[str, bytes]:
    """Each shopper's state, byte for byte but for the token that guards its next save."""
    found = {}
    server: Any = Redis.from_url(url)
    with server:
        for key in server.scan_iter(match=f"{namespace}:{{s*}}:u:*", count=1_000):
            found[key.decode().partition("}:u:")[2]] = server.get(key)[TOKEN_BYTES:]
    return found


def archived(root: Path) -> dict[int, list[tuple[int, bytes]]]:
    """(offset, value) by partition, over all files of one set, by offset; what is there twice comes twice."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    for file in root.rglob("p*.parquet"):
        rows = pq.read_table(file, columns=["offset", "value"])
        partition = int(file.name[1:6])
        found.setdefault(partition, []).extend(zip(rows["offset"].to_pylist(), rows["value"].to_pylist(), strict=True))
    return {partition: sorted(rows) for partition, rows in found.items()}


def run_name(user: str, as_of_ms: int, version: str) -> str:
    """The id of a request, by docs/interest.md; of one that a command asked for, with the operation's id as version."""
    return hashlib.blake2b(f"{user}\x1f{as_of_ms}\x1f{version}".encode(), digest_size=8).hexdigest()


def with_asked_for(expected: Mapping[str, Shopper], stored: Stored, asked: Iterable[OperationRecord]) -> int:
    """Adds the requests that these operations have asked for to those that the records lead to. Returns how many.

    Its as-of is the log clock that the operation wrote down when it began: any other request has no ground.
    """
    known = {run_id for run_id, _, _ in stored.ended} | {request.run_id for request in stored.open_requests}
    added = 0
    for operation in asked:
        clocks = {int(partition): clock for partition, clock in operation.checkpoint.get("clocks", {}).items()}
        for user, shopper in expected.items():
            as_of_ms = clocks.get(shopper.partition, 0)
            run_id = run_name(user, as_of_ms, operation.id)
            if run_id in known:
                kept = tuple(each for each in shopper.kept if each.time_ms <= as_of_ms)
                shopper.requests.append(Due(run_id, as_of_ms, kept, shopper.profile, 0.0, 0.0))
                shopper.requests.sort(key=lambda due: due.as_of_ms)
                added += 1
    return added


def one_after_the_other(history: list[Stored]) -> Stored:
    """What a name has held over the namespaces that it stood for: the newest, and which requests ended in those before.

    An adoption takes the newest open request of a shopper over; it drops one whose list is stored, or that a newer one or a newer
    list has overtaken. Any other that is gone is missing afterwards.
    """
    newest = history[-1]
    whole = Stored(newest.shoppers, newest.open_requests, [], newest.lists, newest.applied)
    for position, stored in enumerate(history):
        whole.ended += stored.ended
        later = {run_id for after in history[position + 1 :] for run_id, _, _ in after.ended}
        later |= {request.run_id for after in history[position + 1 :] for request in after.open_requests}
        if position < len(history) - 1:
            whole.ended += [
                (request.run_id, request.user, end)
                for request in stored.open_requests
                if request.run_id not in later and (end := _dropped(request, stored))
            ]
    for _, _, outcome in whole.ended:
        whole.counts[outcome] = whole.counts.get(outcome, 0) + 1
    return whole


def _dropped(request: StoredRequest, stored: Stored) -> str:
    lists = stored.lists.get(request.user, [])
    if any(run_id == request.run_id for _, _, run_id in lists):
        return "published"
    others = [other.as_of_ms for other in stored.open_requests if other.user == request.user]
    overtaken = any(as_of_ms > request.as_of_ms for as_of_ms in others)
    return "conflated" if overtaken or any(as_of >= request.as_of_ms for as_of, _, _ in lists) else ""


def unheld(
    records: Iterable[Record], held: Mapping[int, list[tuple[int, bytes]]], ends: Mapping[int, int]
) -> list[str]:
    """Records below `ends` that an archive lacks or holds otherwise."""
    have = {(partition, offset): value for partition, rows in held.items() for offset, value in rows}
    return [
        f"{record.partition}:{record.offset} is {'not archived' if place not in have else 'archived with other bytes'}"
        for record in records
        if record.offset < ends.get(record.partition, 0)
        and have.get(place := (record.partition, record.offset)) != record.value
    ]
