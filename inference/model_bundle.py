"""A model bundle: the one thing that training hands to inference. A folder with weights (safetensors), config, tokenizer,
generation settings and card.json, and the allow-list of what it may write (allow_list.parquet) where it has one;
model_versions.py has the versions of a model side by side.
"""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from tokenizers import Tokenizer

from inference.allow_list import FILE_NAME, AllowList, BadAllowList
from inference.prompt import PROMPT_VERSION
from inference.vocabulary import END, SPECIAL_TOKENS

FILES = (
    "card.json",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
ARCHITECTURES = [["Qwen3ForCausalLM"], ["LlamaForCausalLM"]]
"""As config.json names them: the small decoder of our own, and models of SmolLM2's kind. vLLM loads both alike."""
EMBEDDING = "model.embed_tokens.weight"
T = TypeVar("T")


class BadBundle(ValueError):
    """A folder is no usable bundle; the message lists everything that is wrong with it."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is and where it comes from (card.json)."""

    name: str
    version: str
    prompt_version: str
    description: str
    data: str
    """What it was trained on, and how that was made."""
    recipe: dict[str, str | int | float]
    """Every setting of the training."""
    metrics: dict[str, float]
    """On held-out shoppers; docs/results/ says how they were measured."""
    parameters: int
    seed: int
    created: str
    """ISO date."""
    git_revision: str
    license: str = "Apache-2.0"


class _Config(msgspec.Struct):
    architectures: list[str]
    vocab_size: int
    hidden_size: int
    max_position_embeddings: int


class _GenerationConfig(msgspec.Struct):
    eos_token_id: int | list[int]


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]


@dataclass(frozen=True)
class ModelBundle:
    path: Path
    card: ModelCard
    tokenizer: Tokenizer
    digest: str
    """sha256 over names and contents of all its files."""

    @staticmethod
    def open(path: str | Path) -> "ModelBundle":
        """Reads and checks a bundle. Raises BadBundle with all that is wrong, so that one look mends it."""
        path = Path(path)
        missing = [name for name in FILES if not (path / name).is_file()]
        if missing:
            raise BadBundle(f"{path} is no model bundle: {', '.join(missing)} missing")
        wrong: list[str] = []
        card = read_json(path / "card.json", ModelCard, wrong)
        config = read_json(path / "config.json", _Config, wrong)
        generation = read_json(path / "generation_config.json", _GenerationConfig, wrong)
        tokenizer = _tokenizer(path / "tokenizer.json", wrong)
        if card and card.prompt_version != PROMPT_VERSION:
            wrong.append(
                f"card.json: trained on prompt version {card.prompt_version}, this code writes {PROMPT_VERSION}"
            )
        if config and config.architectures not in ARCHITECTURES:
            wrong.append(f"config.json: architectures is {config.architectures}, must be one of {ARCHITECTURES}")
        if tokenizer:
            wrong += [
                f"tokenizer.json: {token!r} is not one token"
                for token in SPECIAL_TOKENS
                if tokenizer.encode(token).ids != [tokenizer.token_to_id(token)]
            ]
        if tokenizer and config and tokenizer.get_vocab_size() > config.vocab_size:
            wrong.append(f"tokenizer.json: {tokenizer.get_vocab_size()} tokens, config.json has {config.vocab_size}")
        if tokenizer and generation:
            ends = generation.eos_token_id
            if tokenizer.token_to_id(END) not in (ends if isinstance(ends, list) else [ends]):
                wrong.append(f"generation_config.json: eos_token_id {ends} is not the token {END}")
        if (path / FILE_NAME).is_file():
            try:
                AllowList.read(path / FILE_NAME)
            except BadAllowList as error:
                wrong.append(str(error))
        if config:
            _check_weights(path / "model.safetensors", config, wrong)
        if wrong or card is None or tokenizer is None:
            raise BadBundle(f"{path} is no usable model bundle: " + "; ".join(wrong))
        return ModelBundle(path, card, tokenizer, digest(path))


def digest(path: Path) -> str:
    """sha256 over names and contents of a folder's files, in order of their names."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(path).as_posix()} {content}\n".encode())
    return total.hexdigest()


def read_json(path: Path, kind: type[T], wrong: list[str]) -> T | None:
    """None where the file cannot be read as `kind`; `wrong` says why."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{path.name}: {error}")
        return None


def _tokenizer(path: Path, wrong: list[str]) -> Tokenizer | None:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        wrong.append(f"{path.name}: {error}")
        return None


def _check_weights(path: Path, config: _Config, wrong: list[str]) -> None:
    """Reads only the header of a safetensors file: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors = msgspec.json.decode(file.read(min(length, 1 << 26)), type=dict[str, msgspec.Raw])
        shape = msgspec.json.decode(tensors[EMBEDDING], type=_Tensor).shape
    except (OSError, struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{path.name}: {error}")
    except KeyError:
        wrong.append(f"{path.name}: no tensor {EMBEDDING}")
    else:
        if shape != [config.vocab_size, config.hidden_size]:
            wrong.append(
                f"{path.name}: {EMBEDDING} is {shape}, config.json says {[config.vocab_size, config.hidden_size]}"
            )
