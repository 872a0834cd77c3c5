"""`make results`: every figure of docs/results/quality.*, from nothing, in one run that can be killed and goes on.

    market -> samples, allow-list -> pretrained decoder -> generated labels -> arms -> quality (all contenders)

Each step is one `aigq` command that another person could type; a step that is done is not done again. Markets are worked on side by side,
one core each. Run it alone on the machine: it is sized for three hours of two cores. `--small` proves that the chain runs, with figures
that mean nothing.

With `--log FILE` a real log goes the same way; without it, the figures of docs/results/real-log.json stand on the page: that log may not be
passed on, so it is not where a clone is.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from inference.allow_list import FILE_NAME as ALLOW_LIST
from simulation.market_folder import START_MS
from training.yardstick.quality_log import RealLogResult
from training.yardstick.real_log import FACTS, LogFacts
from training.yardstick.report import write_pages
from training.yardstick.results import Part, read_parts
from training.yardstick.run import TEST_DAYS

ROOT = Path(__file__).parent.parent
DIRECT = "aigq-direct"
"""The judged model's name in every market."""
REAL_LOG = "real-log"
"""Its pages: real-log.json and real-log.md."""
LEARN_DAYS = 25
"""Of a real log, before the first judged one."""
DAY_S = 86_400
TOOK = "seconds: "
"""Last line of a step's log."""


@dataclass(frozen=True)
class Size:
    shoppers: int
    days: int
    seeds: tuple[int, ...]
    hidden: int
    layers: int
    pretrained: int
    """Samples of a pretraining."""
    labelled: int
    """Samples whose lists are filled up."""
    tuned: int
    """Samples of the judged model's fine-tuning: two passes of what is labelled."""
    ordered: int
    """Samples of the two arms that compare orders of labels."""
    compared: int
    """Samples of both trainings of the arms that compare prompts: uncompressed ones take more than twice the time."""
    asked: int
    """Shoppers that the untrained SmolLM2 is asked about."""
    baselines: str = ""
    """Empty: all."""


FULL = Size(2_500, 32, (2, 3, 4), 128, 4, 22_000, 8_000, 16_000, 8_000, 4_000, 200)
SMALL = Size(300, 12, (1,), 64, 1, 400, 200, 200, 200, 200, 0, "popularity,repeats,user-bigrams")
COUNTED = "popularity-all,popularity-7d,popularity,repeats"
"""All that the market without drift is for: whether what is rebuilt daily is better there, too."""


@dataclass(frozen=True)
class Market:
    law: str
    seed: int
    null: bool = False
    drift: int = 1
    ablations: bool = False

    @property
    def name(self) -> str:
        return f"{self.law}-{self.seed}{'-null' if self.null else ''}{'' if self.drift else '-still'}"


@dataclass(frozen=True)
class Step:
    name: str
    words: tuple[str, ...]
    """Of `aigq`; or of `cp`."""
    makes: Path
    """Is there when the step is done."""


def markets(size: Size) -> list[Market]:
    """One draw of each law first: what can be refuted early is."""
    first, *others = size.seeds
    begin = [Market("missions", first, ablations=True), Market("habits", first, ablations=True)]
    drawn = [Market(law, seed) for seed in others for law in ("missions", "habits")]
    return [*begin, Market("missions", first, null=True), *drawn, Market("missions", first, drift=0)]


class Chain(Protocol):
    """Steps, one after another."""

    name: str
    at: Path
    """Its folder."""

    def steps(self) -> Iterator[Step]: ...


class MarketChain:
    """Everything of one market."""

    def __init__(self, market: Market, size: Size, work: Path) -> None:
        self.market, self.size = market, size
        self.name = market.name
        self.at = work / market.name
        self.shop, self.samples, self.allowed = self.at / "market", self.at / "samples", self.at / ALLOW_LIST
        self.models: list[tuple[str, Path]] = []
        """(name, bundle): the judged one first."""

    def steps(self) -> Iterator[Step]:
        market, size = self.market, self.size
        played = ("--law", market.law, "--seed", market.seed, "--shoppers", size.shoppers, "--days", size.days)
        other = ("--drift", market.drift, "--workers", 1, *(["--null"] if market.null else []))
        yield _step("simulate", self.shop, "simulate", *played, *other, "--out", self.shop)
        if not market.drift:
            yield self.quality("quality", COUNTED)
            return
        archive = self.shop / "archive"
        with_searches = ("--direct_labels", "with_searches")
        yield _step(
            "samples",
            self.samples / "samples.json",
            "samples",
            "--archive",
            archive,
            "--out",
            self.samples,
            *with_searches,
        )
        until = _instant(START_MS, size.days - TEST_DAYS)
        counted = ("--archive", archive, "--out", self.allowed, "--until", until)
        yield _step("allow-list", self.allowed, "allow-list", *counted)
        yield from self.arms()
        models = [word for model, bundle in self.models for word in ("--model", f"{model}={bundle}")]
        yield self.quality("quality", size.baselines, "--samples", self.samples, *models)
        if market.ablations and size.asked:
            asked = ("--samples", self.samples, "--shoppers", size.asked)
            yield self.quality("untrained", "popularity,zero-shot", *asked)

    def arms(self) -> Iterator[Step]:
        size = self.size
        pretrained = self.at / "pretrain" / "bundle"
        yield self.pretrain("pretrain", size.pretrained)
        filled = self.at / "generated"
        source = ("--model", pretrained, "--market", self.shop, "--allow-list", self.allowed, "--most", size.labelled)
        yield _step(
            "generated labels", filled / "generated.json", "generate-labels", self.samples, *source, "--out", filled
        )
        yield from self.sft(DIRECT, filled, pretrained, size.tuned)
        if self.market.ablations:
            # The ranker's labels: only there do the two orders differ much.
            yield from self.sft("il-sft", self.samples, pretrained, size.ordered)
            yield from self.sft("sft", self.samples, pretrained, size.ordered, "--order", "plain")
            for name, plain in (("prompts-compressed", ()), ("prompts-plain", ("--plain",))):
                yield self.pretrain(f"pretrain-{name}", size.compared, *plain)
                base = self.at / f"pretrain-{name}" / "bundle"
                yield from self.sft(name, filled, base, size.compared, *plain)

    def pretrain(self, name: str, samples: int, *more: object) -> Step:
        shape = ("--hidden", self.size.hidden, "--layers", self.size.layers)
        out = self.at / name
        return _step(name, _card(out), "pretrain", self.shop, "--out", out, "--samples", samples, *shape, "--threads", 1, *more)  # fmt: skip

    def sft(self, name: str, samples: Path, base: Path, count: int, *more: object) -> Iterator[Step]:
        out = self.at / name
        learned = ("--base", base, "--samples", count, "--threads", 1, "--name", name, "--version", self.market.name)
        yield _step(name, _card(out), "sft", samples, "--out", out, *learned, *more)
        listed = out / "bundle" / ALLOW_LIST
        yield Step(f"{name}: its allow-list", ("cp", str(self.allowed), str(listed)), listed)
        self.models.append((name, out / "bundle"))

    def quality(self, name: str, baselines: str, *more: object) -> Step:
        out = self.at / name
        return _step(name, out / "quality.md", "evaluate", self.shop, "--baselines", baselines, "--out", out, *more)


class RealLogChain:
    """A real log, day by day: docs/real-log.md has the reasons."""

    name = REAL_LOG

    def __init__(self, file: Path, size: Size, work: Path) -> None:
        self.file, self.size = file, size
        self.at = work / REAL_LOG

    def steps(self) -> Iterator[Step]:
        log, model = self.at / "log", self.at / "model"
        bundle, listed = model / "bundle", model / "bundle" / ALLOW_LIST
        yield _step("import", log, "import-log", self.file, "--out", log)
        facts = msgspec.json.decode((log / FACTS).read_bytes(), type=LogFacts)
        shape = ("--hidden", self.size.hidden, "--layers", self.size.layers)
        unread = ("--test-days", facts.days - LEARN_DAYS)
        yield _step("pretrain", _card(model), "pretrain", log, *unread, "--samples", self.size.pretrained, *shape, "--threads", 1, "--out", model)  # fmt: skip
        until = ("--until", _instant(facts.start_ms, LEARN_DAYS), "--shoppers", 3)
        yield _step("allow-list", listed, "allow-list", "--archive", log / "archive", *until, "--out", listed)
        judged = ("--model", f"aigq-real={bundle}", "--likeliest", "--learn-days", LEARN_DAYS)
        out = self.at / "quality"
        yield _step("quality", out / "quality.md", "evaluate", "--log", log, *judged, "--out", out)


def _instant(start_ms: int, days: int) -> str:
    return datetime.fromtimestamp(start_ms / 1000 + days * DAY_S, UTC).isoformat()


def _step(name: str, makes: Path, *words: object) -> Step:
    return Step(name, tuple(map(str, words)), makes)


def _card(run: Path) -> Path:
    return run / "bundle" / "card.json"


def core_hours(work: Path) -> float:
    """Of all finished steps in the folder; what a killed run threw away is not in it."""
    logs = (log.read_text().splitlines() for log in work.glob("*/logs/*.log"))
    return sum(int(line.removeprefix(TOOK)) for lines in logs for line in lines if line.startswith(TOOK)) / 3_600


class Failed(RuntimeError):
    """A step ended with another status than 0."""


def work_through(chain: Chain, begun: float) -> None:
    """Raises Failed. A step holds its log's lock, and so does a step whose run was killed: it has the log for its output."""
    for each in chain.steps():
        if each.makes.exists():
            continue
        log = chain.at / "logs" / f"{each.name.replace(' ', '-').replace(':', '')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = list(each.words) if each.words[0] == "cp" else [sys.executable, "-m", "cli", *each.words]
        started = time.monotonic()
        with log.open("a") as output:
            try:
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failed(
                    f"{chain.name}: {each.name} is being made, by another run or by a step that a killed one left behind: "
                    f"wait for it, or end it (`fuser -k {log}`), then give the same command again"
                ) from None
            output.write(f"{' '.join(each.words)}\n")
            output.flush()
            status = subprocess.run(
                words, check=False, cwd=ROOT, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": "1"}
            ).returncode
        if status:
            raise Failed(
                f"{chain.name}: {each.name} ended with {status}, see {log}; mended, the same command goes on there"
            )
        took = time.monotonic() - started
        with log.open("a") as output:
            output.write(f"{TOOK}{took:.0f}\n")
        print(f"{(time.monotonic() - begun) / 60:5.1f} min  {chain.name}: {each.name}, {took:.0f} s", flush=True)


def parts_of(chains: Sequence[Chain], out: Path) -> list[Part]:
    """What the chains measured, and of a real log where none was given, what `out` says of one."""
    parts = [
        part for chain in chains for found in sorted(chain.at.glob("*/parts")) for part in read_parts(found.parent)
    ]
    page = out / f"{REAL_LOG}.json"
    if page.exists() and not any(part.real for part in parts):
        parts.append(msgspec.json.decode(page.read_bytes(), type=RealLogResult).part)
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="prove that it runs: no figures to quote")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "results", help="markets, samples, models, logs")
    parser.add_argument("--out", type=Path, help="folder of the pages; docs/results, or WORK/pages where small")
    parser.add_argument("--lanes", type=int, default=2, help="markets at once")
    parser.add_argument("--only", default="", help="these markets, with commas")
    parser.add_argument("--log", type=Path, help="a real log, as `aigq import-log` takes it")
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    out: Path = options.out or (options.work / "pages" if options.small else ROOT / "docs" / "results")
    begun = time.monotonic()
    only = set(filter(None, options.only.split(",")))
    chains: list[Chain] = [
        MarketChain(market, size, options.work) for market in markets(size) if not only or market.name in only
    ]
    if options.log:
        chains.append(RealLogChain(options.log, size, options.work))
    failed: list[Failed] = []
    with ThreadPoolExecutor(options.lanes) as lanes:
        for done in [lanes.submit(work_through, chain, begun) for chain in chains]:
            try:
                done.result()
            except Failed as error:
                failed.append(error)
                print(error, file=sys.stderr, flush=True)
    if failed:
        return 1
    out.mkdir(parents=True, exist_ok=True)
    for page in (options.work / REAL_LOG / "quality").glob(f"{REAL_LOG}.*") if options.log else ():
        shutil.copy(page, out)
    for target in write_pages(parts_of(chains, out), out, round(core_hours(options.work), 2)).targets:
        print(f"{target.name} = {target.value:.4f} ({target.bound}) {'met' if target.met else 'MISSED'}")
    print(f"written: {out}/quality.json, quality.md and pictures; {(time.monotonic() - begun) / 60:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
