"""What an archive holds of a topic at the time of asking: which topic, which offsets, which times."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from transforms.archive_layout import (
    EVENTS,
    ArchivedFile,
    FileFacts,
    Span,
    covered_until,
    facts_of,
    files_of,
    merged,
    newest,
    offset_at,
    spans,
)
from transforms.log_position import ArchiveMismatch


@dataclass(frozen=True)
class ArchiveBounds:
    """Made by `archive_bounds`."""

    root: str
    files: Mapping[int, list[ArchivedFile]]
    """By partition."""
    spans: Mapping[int, list[Span]]
    facts: Mapping[int, FileFacts]
    """What the newest file of each partition says."""

    @property
    def topic_id(self) -> str:
        return next(iter(self.facts.values())).topic_id

    @property
    def partitions(self) -> int:
        return max(each.partitions for each in self.facts.values())

    def beginnings(self, partitions: int) -> dict[int, int]:
        return {p: self.spans[p][0].first_offset if p in self.spans else 0 for p in range(partitions)}

    def ends(self, partitions: int) -> dict[int, int]:
        return {p: self.spans[p][-1].next_offset if p in self.spans else 0 for p in range(partitions)}

    def lost_before_ms(self, partition: int) -> int:
        """Records below the first archived offset have an earlier log clock than this. (Hours are pruned whole; what is left of
        everything is a file without rows that says how far the clock had come.)"""
        first = min(self.files[partition])
        if first.first_offset < first.next_offset:
            return first.hour_ms
        facts = facts_of(first)
        return (facts.clock_ms or facts.progress_ms) + 1

    def holes(self, partition: int, window: Span, held: Span) -> Iterator[Span]:
        """What of the window neither the archive nor the broker (`held`) has."""
        whole = merged([*self.spans.get(partition, []), held])
        at = window.first_offset
        while (at := covered_until(at, whole)) < window.next_offset:
            following = min((part.first_offset for part in whole if part.first_offset > at), default=window.next_offset)
            yield Span(at, min(following, window.next_offset))
            at = following

    def offsets_at(self, time_ms: int, log_clock: str) -> dict[int, int]:
        """First archived offset whose log clock is `time_ms` or later; partitions that have none are absent.

        Raises ArchiveMismatch where the archive's log clock is another one.
        """
        for partition, facts in self.facts.items():
            if facts.log_clock != log_clock:
                raise ArchiveMismatch(
                    f"the archive {self.root} was made with --log_clock={facts.log_clock} (partition {partition}): a time means "
                    f"other records there than with --log_clock={log_clock}. Read it with its own, or make an archive with this one"
                )
        found = {partition: offset_at(files, time_ms) for partition, files in self.files.items()}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def told(self, time_ms: int, held: Mapping[int, int] | None, ends: Mapping[int, int]) -> set[int]:
        """Partitions of which the archive alone says where log clock `time_ms` is: it holds all that the broker holds from before
        (`held`), and reaches beyond that time or to the log's end (`ends`)."""
        return {
            partition
            for partition, parts in self.spans.items()
            if (held is None or parts[0].first_offset <= held[partition])
            and (
                self.facts[partition].progress_ms >= time_ms
                or (held is not None and parts[-1].next_offset >= ends[partition])
            )
        } | ({p for p, end in ends.items() if end == held[p] and p not in self.spans} if held else set())


def archive_bounds(root: str, topic: str, kind: str = EVENTS) -> ArchiveBounds:
    """Lists the archive of a topic. Raises LookupError where there is none, ArchiveMismatch where it is another topic's."""
    files = files_of(root, kind)
    if not files:
        raise LookupError(
            f"no archive of {kind} in {root}: `aigq run archive --archive={root}` makes one; is --archive right?"
        )
    facts = {partition: facts_of(file) for partition, file in newest(files).items()}
    names = {(each.topic, each.topic_id) for each in facts.values()}
    if len(names) > 1 or next(iter(names))[0] != topic:
        held = ", ".join(f"{name} (id {id})" for name, id in sorted(names))
        raise ArchiveMismatch(
            f"the {kind} in archive {root} are of topic {held}, asked for is {topic}: offsets would mean other records. Name the "
            f"archive or the --topic that belong together"
        )
    by_partition: dict[int, list[ArchivedFile]] = defaultdict(list)
    for file in files:
        by_partition[file.partition].append(file)
    return ArchiveBounds(root, dict(by_partition), spans(files), facts)
