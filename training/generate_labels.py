"""Generated labels (the fourth source of AIGQ eq. 4): what is likely next, if asked for after what came true.

    FOLDER/direct/split=train/*.parquet -> OUT/direct/split=train/*.parquet, and OUT/generated.json when all are done

A sample says which one or two of a shopper's likely queries came true. Learned as they are, such short lists teach what follows the query
before; a served list needs alternatives to each other. A teacher knows them: the pretrained model, which was taught what comes next at
every place of every history, or a contender of the yardstick, which reads counts that no prompt holds. Its best queries fill the list up in
their order, and where nobody clicked or searched they are all of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, log
from pathlib import Path
from random import Random

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from inference.allow_list import AllowList
from inference.allowed_prefixes import Prefixes
from inference.model_bundle import ModelBundle
from inference.output import normalise
from schemas import Behaviour
from training.il_sft_targets import LIST_LENGTH
from training.likeliest import Likely, likeliest
from training.log import Case, Ranker
from training.progress import say
from training.rankers.fusion import DAMPING
from training.sample_files import DIRECT
from transforms.label_lists import Candidate, LabelList, concat, label_list

MORE = 6
"""Generated beyond a list's length: for those that say the same as a label."""
FEEDBACK = 0
"""Clicked or searched labels that stand first: none, for one of them says what came true once, and the likeliest what comes true most often
(docs/decisions/0009). More of them are follow-ups of each other."""
Teacher = Callable[[pa.Table], list[list[Likely]]]
"""Samples -> for each what is likely next, best first, all of it allowed."""
RANKED = 60
"""Of a contender, before the allow-list."""
MODEL_WEIGHT = 0.5
"""Of the model beside a contender: on a simulated market of seed 9 the best of 0, .5, 1, 2 (docs/decisions/0009)."""
COLUMNS = ("labels", "label_from", "label_scores", "labels_plain")


class Counts(msgspec.Struct, frozen=True):
    samples: int = 0
    labels: int = 0
    generated: int = 0

    def __add__(self, more: "Counts") -> "Counts":
        return Counts(self.samples + more.samples, self.labels + more.labels, self.generated + more.generated)


def generate_labels(samples: Path, teacher: Teacher, out: Path, most: int = 0, feedback: int = FEEDBACK) -> Counts:
    """Of `most` samples, drawn from all files alike; 0: of all. Files that are there already are not made again.

    Raises FileNotFoundError where there are no samples.
    """
    files = sorted(Path(samples, DIRECT, "split=train").glob("*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"no {samples}/{DIRECT}/split=train/*.parquet: `aigq samples --out {samples}` writes them"
        )
    total = Counts()
    for number, file in enumerate(files, 1):
        written = Path(out, *file.relative_to(samples).parts)
        if not written.exists():
            table = _some(pq.read_table(file), -(-most // len(files)), file.name)
            rows = zip(table["labels_plain"].to_pylist(), _plain_sources(table), teacher(table), strict=True)
            _write(table, [extended(labels, sources, likely, feedback) for labels, sources, likely in rows], written)
        total += _counted(written)
        say(
            f"{number} of {len(files)} files, {total.samples} samples, {total.generated} of {total.labels} labels generated"
        )
    (out / "generated.json").write_bytes(msgspec.json.encode(total))
    return total


def by_model(bundle: ModelBundle, allowed: AllowList, gain: Mapping[str, float] = {}) -> Teacher:
    """The allowed queries that a model finds likeliest; `gain` as in `likeliest`."""
    from training.decoder import load_decoder

    model, prefixes = load_decoder(bundle), Prefixes.of(allowed, bundle.tokenizer)

    def teach(samples: pa.Table) -> list[list[Likely]]:
        prompts = samples["prompt"].to_pylist()
        found = dict(likeliest(model, bundle.tokenizer, prompts, prefixes, LIST_LENGTH + MORE, gain=gain))
        return [found[i] for i in range(len(prompts))]

    return teach


def by_ranker(ranker: Ranker, allowed: AllowList) -> Teacher:
    """What a fitted contender ranks first."""

    def teach(samples: pa.Table) -> list[list[Likely]]:
        columns = zip(
            *(samples[name].to_pylist() for name in ("user", "as_of_ms", "profile", "behaviours")), strict=True
        )
        cases = [
            Case(user, as_of_ms, dict(profile), tuple(Behaviour(**each) for each in behaviours), "", ())
            for user, as_of_ms, profile, behaviours in columns
        ]
        return [_halving(q for q in ranked if q in allowed.queries) for ranked in ranker.rank(cases, RANKED)]

    return teach


def together(ranker: Teacher, model: Teacher) -> Teacher:
    """Reciprocal rank fusion of both, of which the model counts half: counts and words err in different places."""

    def teach(samples: pa.Table) -> list[list[Likely]]:
        made: list[list[Likely]] = []
        for both in zip(ranker(samples), model(samples), strict=True):
            score: dict[str, float] = defaultdict(float)
            for likely, weight in zip(both, (1.0, MODEL_WEIGHT), strict=True):
                for place, each in enumerate(likely, 1):
                    score[each.text] += weight / (DAMPING + place)
            made.append(_halving(sorted(score, key=lambda query: (-score[query], query))))
        return made

    return teach


def _halving(queries: Iterable[str]) -> list[Likely]:
    """A place further down is half as likely."""
    return [Likely(query, -place * log(2)) for place, query in enumerate(queries)]


def extended(
    plain: Sequence[str], sources: Sequence[str], likely: Sequence[Likely], feedback: int = FEEDBACK
) -> LabelList:
    """The first `feedback` labels that shoppers gave, then what was generated, in the order of `label_lists`, with the model's probability as
    the system prior."""
    given = [(q, of) for q, of in zip(plain, sources, strict=True) if of in ("click", "search")][:feedback]
    told = {source: [q for q, of in given if of == source] for source in ("click", "search")}
    candidates = concat(told["click"], told["search"], generated=[each.text for each in likely])
    return label_list(candidates, _prior(likely), _admitted, LIST_LENGTH)


def _prior(likely: Sequence[Likely]) -> Mapping[str, float]:
    best = max((each.log_p for each in likely), default=0.0)
    return {normalise(each.text): exp(each.log_p - best) for each in likely}


def _admitted(candidate: Candidate) -> bool:
    """Feedback was admitted when the samples were made, and the model writes by the allow-list."""
    return True


def _some(table: pa.Table, most: int, name: str) -> pa.Table:
    if not most or most >= len(table):
        return table
    return table.take(sorted(Random(f"generated {name}").sample(range(len(table)), most)))


def _plain_sources(table: pa.Table) -> list[list[str]]:
    """`label_from` in the order of `labels_plain`."""
    rows = zip(*(table[name].to_pylist() for name in ("labels", "label_from", "labels_plain")), strict=True)
    return [[dict(zip(labels, sources, strict=True))[label] for label in plain] for labels, sources, plain in rows]


def _write(table: pa.Table, made: Sequence[LabelList], path: Path) -> None:
    for name in COLUMNS:
        at = table.schema.get_field_index(name)
        values = pa.array([list(getattr(each, name)) for each in made], table.schema.field(at).type)
        table = table.set_column(at, table.schema.field(at), values)
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_suffix(".writing")
    pq.write_table(table, writing, compression="zstd")
    writing.replace(path)


def _counted(path: Path) -> Counts:
    sources = pq.read_table(path, columns=["label_from"])["label_from"].to_pylist()
    labels = [source for row in sources for source in row]
    return Counts(len(sources), len(labels), labels.count("generated"))
