"""A market folder of a few dozen shoppers, written as an archive is, so that the yardstick can be run in seconds."""

from pathlib import Path
from random import Random

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import BehaviourEvent, Exposure, Item
from transforms.archive_columns import EVENT_SCHEMA, EXPOSURE_FIELDS, LOG_FIELDS
from transforms.archive_layout import EVENTS, EXPOSURES, ArchivedFile, folder_of, hour_of

START_MS = 1_764_547_200_000
DAY_MS = 86_400_000
SUBJECTS = {
    "Laptops": ("laptop", "gaming laptop", "laptop sleeve"),
    "Cameras": ("camera", "camera bag", "tripod"),
    "Phones": ("phone", "phone case", "phone charger"),
    "TVs": ("tv", "hdmi cable", "tv mount"),
}


def events_and_pages(shoppers: int, days: int, seed: int = 1) -> tuple[list[BehaviourEvent], list[Exposure]]:
    """Each shopper has one subject and walks through its queries in order, with clicks; pages before every second search."""
    rng = Random(seed)
    events, pages = [], []
    for n in range(shoppers):
        user, subject = f"u{n}", sorted(SUBJECTS)[n % len(SUBJECTS)]
        for day in range(days):
            if rng.random() < 0.3:
                continue
            time = START_MS + day * DAY_MS + int(rng.random() * DAY_MS * 0.9)
            for step, query in enumerate(SUBJECTS[subject]):
                if step % 2 == 0:
                    hints = (query, "gift card", rng.choice(("sale", "tv")))
                    clicked = (0,) if rng.random() < 0.1 else ()
                    pages.append(Exposure(f"p{len(pages)}", user, time, hints, clicked))
                id = f"{pages[-1].id}/hint" if step % 2 == 0 and clicked else f"e{len(events)}"
                events.append(
                    BehaviourEvent(id, user, "search", time + 20_000, query=query.title(), profile={"n": str(n % 3)})
                )
                item = Item(f"i{subject}{step}", f"Acme - {query.title()} {step}00", subject)
                events.append(BehaviourEvent(f"c{len(events)}", user, "click", time + 50_000, item=item))
                time += 120_000
    return sorted(events, key=lambda e: e.time_ms), sorted(pages, key=lambda p: p.time_ms)


def write_market(folder: Path, shoppers: int = 40, days: int = 12, null: bool = False) -> Path:
    events, pages = events_and_pages(shoppers, days)
    folder.mkdir(parents=True)
    facts = {
        "law": "small",
        "seed": 1,
        "start_ms": START_MS,
        "days": days,
        "null": null,
        "drift": 0.5,
        "shoppers": shoppers,
    }
    (folder / "market.json").write_bytes(msgspec.json.encode(facts))
    _write(folder / "archive", EVENTS, EVENT_SCHEMA, [_event_row(i, e) for i, e in enumerate(events)])
    schema = pa.schema([*LOG_FIELDS, ("value", pa.binary()), *EXPOSURE_FIELDS])
    _write(folder / "archive", EXPOSURES, schema, [_row(i, p) for i, p in enumerate(pages)])
    truth = folder / "truth"
    truth.mkdir()
    categories = [(query, subject) for subject, queries in SUBJECTS.items() for query in queries]
    pq.write_table(
        pa.table({"query": [q for q, _ in categories], "category": [c for _, c in categories]}),
        truth / "categories.parquet",
    )
    best = [list(SUBJECTS[sorted(SUBJECTS)[int(p.user[1:]) % len(SUBJECTS)]]) for p in pages]
    ceiling = {
        "exposure_id": [p.id for p in pages],
        "user": [p.user for p in pages],
        "time_ms": [p.time_ms for p in pages],
        "queries": best,
        "probabilities": [[0.3] * 3 for _ in pages],
    }
    pq.write_table(pa.table(ceiling), truth / "ceiling.parquet")
    return folder


def _event_row(offset: int, event: BehaviourEvent) -> dict:
    item = event.item
    texts = {"item_title": item.title if item else None, "item_category": item.category if item else None}
    return _row(offset, event) | {"kind": event.kind, "query": event.query} | texts


def _row(offset: int, record: BehaviourEvent | Exposure) -> dict:
    row = {"partition": 0, "offset": offset, "append_ms": record.time_ms, "clock_ms": record.time_ms}
    return row | {"value": msgspec.json.encode(record)} | msgspec.structs.asdict(record)


def _write(archive: Path, kind: str, schema: pa.Schema, rows: list[dict]) -> None:
    by_hour: dict[int, list[dict]] = {}
    for row in rows:
        by_hour.setdefault(hour_of(row["clock_ms"]), []).append(row)
    for hour, of_hour in by_hour.items():
        file = ArchivedFile(0, of_hour[0]["offset"], of_hour[-1]["offset"] + 1, hour)
        path = Path(folder_of(str(archive), kind)) / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{k: r[k] for k in schema.names} for r in of_hour], schema=schema), path)
