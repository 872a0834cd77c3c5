"""Item descriptions by a language model behind an OpenAI-compatible endpoint (vLLM's server, or a hosted one)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import httpx
import msgspec

from inference.describe_items import RuleWriter, by_rule
from inference.prompt import MOST_CHARACTERS, content
from schemas import Item

INSTRUCTION = (
    f"You write short product descriptions for a shop's search model. Answer with one line of at most {MOST_CHARACTERS} characters, "
    "lower case, no punctuation: the brand, what the product is, and what is special about it, in words that shoppers search with. "
    "Leave out model numbers, pack sizes and prices."
)
WAIT_NO_LONGER = (400, 413, 422)
"""This item is refused whenever it is tried; another may be taken."""
NEVER = (401, 403, 404)
"""No item will be taken: the key, the URL or the model's name is wrong."""
LONGEST_WAIT_S = 30.0


class EndpointFailed(Exception):
    """The endpoint cannot be used now. What was written is kept; the same command goes on there."""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


@dataclass(frozen=True)
class EndpointWriter:
    url: str
    """With or without /v1."""
    model: str
    key: str = ""
    """Bearer token; empty for none."""
    at_once: int = 32
    """Requests in flight; the server makes its batches of them."""
    tries: int = 5
    first_wait_s: float = 0.5
    """Doubled after each try, unless the server says how long to wait."""
    timeout_s: float = 60.0

    @property
    def version(self) -> str:
        return f"{self.model}/{sha256(INSTRUCTION.encode()).hexdigest()[:8]}"

    def write(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        """An item that the endpoint refuses, or answers with nothing of use, is described by the rule. Raises EndpointFailed."""
        return asyncio.run(self._write(items))

    async def _write(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        places = asyncio.Semaphore(self.at_once)
        async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(self.timeout_s, connect=5.0)) as client:

            async def one(item: Item) -> tuple[str, str]:
                async with places:
                    text = await self._ask(client, item)
                return (text, self.version) if text else (by_rule(item), RuleWriter.version)

            tasks = [asyncio.ensure_future(one(item)) for item in items]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

    async def _ask(self, client: httpx.AsyncClient, item: Item) -> str:
        """Empty where this item gets no description."""
        url = self.url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": _facts(item)}],
            "temperature": 0,
            "max_tokens": 48,
        }
        detail, wait_s = "", self.first_wait_s
        for attempt in range(self.tries):
            if attempt:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                response = await client.post(url, json=body)
                if response.status_code in WAIT_NO_LONGER:
                    return ""
                if response.status_code in NEVER:
                    raise EndpointFailed(
                        f"{url} answers HTTP {response.status_code} to model {self.model!r}: {response.text[:200]}; "
                        f"check --endpoint, --model and $AIGQ_ENDPOINT_KEY"
                    )
                if (named := response.headers.get("Retry-After", "")).isdigit():
                    wait_s = min(float(named), LONGEST_WAIT_S)
                response.raise_for_status()
                choices = msgspec.json.decode(response.content, type=_Completion).choices
                return _one_line(choices[0].message.content or "") if choices else ""
            except (httpx.HTTPError, msgspec.DecodeError) as error:
                detail = repr(error)
        raise EndpointFailed(
            f"{url} failed {self.tries} times for item {item.id}: {detail}. Is the server up? Give the command again"
        )


def _facts(item: Item) -> str:
    attributes = "; ".join(f"{name}: {value}" for name, value in sorted(item.attributes.items()))
    return f"Title: {item.title}\nCategory: {item.category}\nAttributes: {attributes}"


def _one_line(answer: str) -> str:
    """The first line that says something, as prompts hold it."""
    lines = (content(line.strip().strip("\"'`.*#- ")) for line in answer.splitlines())
    return next((line for line in lines if line), "")
