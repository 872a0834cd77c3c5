"""A shopper's history as the text that the model reads (AIGQ sec. 3.2, eq. 1).

    Please recommend the next 10 queries. Profile: {age: 44, gender: F}. Behaviours: {<1><1_day_ago><search> dell laptop;;
    <2><now><click> dell inspiron 15.6" laptop}<list>

Index, age and kind of a behaviour are one token each (`vocabulary.py`). Behaviours stand oldest first, index 1 is the
oldest shown: the newest stands next to the answer, where a small decoder reads it best, and a shopper's next prompt begins
like the last one, which prefix caching finds. The instruction stands first, because every prompt shares it.

The answer that the model was trained to give: ` query;; query;; ... query<end>`, ten queries (`output.py` reads it).
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence

from schemas import Behaviour

PROMPT_VERSION = "1"
"""Raised with every change of the text below: a bundle says which version it was trained on, a list which it came from."""
DESCRIBED_PROMPT_VERSION = f"{PROMPT_VERSION}+descriptions"
"""Of prompts with `describe`. The job writes none, so it refuses a bundle that was trained on them."""

MOST_BEHAVIOURS = 20
"""Newest behaviours shown: two or three sessions."""
MOST_CHARACTERS = 48
"""Of one behaviour's text; longer titles name colours and pack sizes at their end. Cut at a word."""
MOST_FIELDS = 6
MOST_FIELD_CHARACTERS = 24

SEPARATOR = ";;"
LIST = "<list>"
"""Ends every prompt: what follows is the answer."""

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_AGES: tuple[tuple[int, str, str], ...] = (
    (30 * _MINUTE_MS, "<now>", "just now"),
    (_DAY_MS, "<hours_ago>", "hours ago"),
    (2 * _DAY_MS, "<1_day_ago>", "1 day ago"),
    (3 * _DAY_MS, "<2_days_ago>", "2 days ago"),
    (4 * _DAY_MS, "<3_days_ago>", "3 days ago"),
    (7 * _DAY_MS, "<days_ago>", "days ago"),
    (14 * _DAY_MS, "<1_week_ago>", "1 week ago"),
    (28 * _DAY_MS, "<weeks_ago>", "weeks ago"),
    (60 * _DAY_MS, "<1_month_ago>", "1 month ago"),
    (1 << 62, "<months_ago>", "months ago"),
)
"""(younger than, token, plain form). Elapsed time and not calendar days: nobody knows the shopper's time zone, and two
sides of midnight are one session. 30 minutes are the gap that ends a session."""
_BOUNDS_MS = [bound for bound, _, _ in _AGES]

COMPRESSED_TOKENS: dict[str, str] = {
    **{f"<{i}>": str(i) for i in range(1, MOST_BEHAVIOURS + 1)},
    **{token: plain for _, token, plain in _AGES},
    "<search>": "search",
    "<click>": "click",
    SEPARATOR: ";",
    LIST: "queries:",
}
"""The tokens that only compressed prompts hold, with the plain form whose sub-words each one's embedding starts from."""

_INSTRUCTION = "Please recommend the next 10 queries. "
_PLAIN_INSTRUCTION = (
    "You are the search assistant of a shop. Below are the profile of a shopper and a list of what the shopper did, one "
    "a line, as index|time|behaviour type|content, oldest first. Please recommend the next 10 queries that the shopper "
    "will search for, the most likely first, separated by semicolons, without explanation. "
)
# What would be read as structure, control and format characters, lone surrogates, which no tokenizer can encode, and the
# dashes that shops put between the parts of a title.
_STRUCTURE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f<>{}|;\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff\\ufff9-\\uffff]"
    r"|(?<=\s)[-–—](?=\s)"
)
_SPACES = re.compile(r"\s+")


def build_prompt(
    profile: Mapping[str, str],
    behaviours: Sequence[Behaviour],
    as_of_ms: int,
    plain: bool = False,
    describe: Callable[[str], str] | None = None,
) -> str:
    """The prompt for a list as of `as_of_ms`; `behaviours` oldest first, as a `Change` holds them. Never raises.

    `plain=True` gives the same facts without special tokens, with the explanation that an untrained model needs: the
    left side of AIGQ eq. 1, to compare token counts with. `describe` puts another text in the place of a clicked item's title
    (`describe_items.Descriptions.of`). Without it, a title stands as it is, cut: what prompt version 1 means.
    """
    said = ((b, describe(b.text) if describe and b.kind == "click" else b.text) for b in behaviours[-MOST_BEHAVIOURS:])
    shown = [(b, text) for b, told in said if (text := content(told))]
    fields = _fields(profile)
    if plain:
        lines = (f"{i}|{_age(b, as_of_ms)[2]}|{b.kind}|{text}" for i, (b, text) in enumerate(shown, 1))
        return f"{_PLAIN_INSTRUCTION}Profile: {{{fields}}}. Behaviours:\n" + "\n".join(lines) + "\nQueries:"
    steps = (f"<{i}>{_age(b, as_of_ms)[1]}<{b.kind}> {text}" for i, (b, text) in enumerate(shown, 1))
    return f"{_INSTRUCTION}Profile: {{{fields}}}. Behaviours: {{{SEPARATOR.join(steps)}}}{LIST}"


def content(text: str, most: int = MOST_CHARACTERS) -> str:
    """A shopper's or a shop's text as prompts and answers hold it: lower case, single spaces, nothing that could be read
    as a special token or as the prompt's structure, at most `most` characters."""
    if len(text) > 16 * most:  # a 10 MB query must not cost a regular expression over 10 MB
        text = text[: 16 * most]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _SPACES.sub(" ", _STRUCTURE.sub(" ", text)).strip().lower()
    if len(text) <= most:
        return text
    whole_words = text[: most + 1].rpartition(" ")[0]
    return whole_words or text[:most]


def answer(queries: Iterable[str]) -> str:
    """The text that the model is trained to write, without the end token."""
    return SEPARATOR.join(f" {content(query)}" for query in queries)


def _age(behaviour: Behaviour, as_of_ms: int) -> tuple[int, str, str]:
    return _AGES[bisect_right(_BOUNDS_MS, min(as_of_ms - behaviour.time_ms, _BOUNDS_MS[-1] - 1))]


def _fields(profile: Mapping[str, str]) -> str:
    pairs = (
        (content(name, MOST_FIELD_CHARACTERS), content(profile[name], MOST_FIELD_CHARACTERS))
        for name in sorted(profile)
    )
    return ", ".join([f"{name}: {value}" for name, value in pairs if name and value][:MOST_FIELDS])
