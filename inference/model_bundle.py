"""A model bundle: the one thing that training hands to inference, and the folder of versions that a job follows.

models/aigq-small/2/            weights (safetensors), config, tokenizer, generation settings, card.json
models/aigq-small/VERSIONS.json every version ever published, with its digest: a name is never used twice
models/aigq-small/CURRENT       the version that serves, and how often that has changed: {"version": "2", "promotion": 2}
"""

import hashlib
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from tokenizers import Tokenizer

from inference.engine import ServedModel
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


class _Current(msgspec.Struct, frozen=True):
    version: str
    promotion: int


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
        card = _read(path / "card.json", ModelCard, wrong)
        config = _read(path / "config.json", _Config, wrong)
        generation = _read(path / "generation_config.json", _GenerationConfig, wrong)
        tokenizer = _tokenizer(path / "tokenizer.json", wrong)
        if card and card.prompt_version != PROMPT_VERSION:
            wrong.append(
                f"card.json: trained on prompt version {card.prompt_version}, this code writes {PROMPT_VERSION}"
            )
        if config and config.architectures != ["Qwen3ForCausalLM"]:
            wrong.append(f"config.json: architectures is {config.architectures}, must be ['Qwen3ForCausalLM']")
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


def publish(source: str | Path, models_dir: str | Path) -> ModelBundle:
    """Copies a checked bundle to `models_dir/<name>/<version>` (names from its card) and records its digest.

    Raises BadBundle where the bundle is unusable or the version's name was ever used before, even if its folder is gone:
    lists in the store carry the name, so it must mean one model for good. Does not serve it: that is `promote`.
    """
    bundle = ModelBundle.open(source)
    home = Path(models_dir) / bundle.card.name
    versions = _versions(home)
    if bundle.card.version in versions or (home / bundle.card.version).exists():
        raise BadBundle(
            f"version {bundle.card.version} of {bundle.card.name} was published before; take a new version name"
        )
    home.mkdir(parents=True, exist_ok=True)
    arriving = home / f".{bundle.card.version}.arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    shutil.copytree(source, arriving)
    _write(home / "VERSIONS.json", {**versions, bundle.card.version: bundle.digest})
    arriving.rename(home / bundle.card.version)
    return ModelBundle.open(home / bundle.card.version)


def promote(models_dir: str | Path, name: str, version: str) -> ServedModel:
    """Makes a published version the current one. Also the roll-back: the promotion counter rises with every change, so the
    lists of an older version outrank those that it replaces.

    Raises BadBundle where the version was not published, or its files are no longer what was published.
    """
    home = Path(models_dir) / name
    bundle = ModelBundle.open(home / version)
    published = _versions(home).get(version)
    if bundle.digest != published:
        raise BadBundle(
            f"{bundle.path}: digest {bundle.digest} is not the published {published}; restore it or publish anew"
        )
    before = _current(home)
    if before is None or before.version != version:
        _write(home / "CURRENT", _Current(version, before.promotion + 1 if before else 1))
    served = latest(models_dir, name)
    assert served is not None
    return served


def latest(models_dir: str | Path, name: str) -> ServedModel | None:
    """The model that is to be served, None where none was promoted yet. Cheap: a job asks every second.

    Raises BadBundle where CURRENT cannot be read.
    """
    home = Path(models_dir) / name
    current = _current(home)
    if current is None:
        return None
    path = home / current.version
    wrong: list[str] = []
    card = _read(path / "card.json", ModelCard, wrong)
    if card is None:
        raise BadBundle(f"{home / 'CURRENT'} names {current.version}, which is no bundle: {'; '.join(wrong)}")
    return ServedModel(str(path), f"{name}/{current.version}", current.promotion, card.prompt_version)


def _current(home: Path) -> _Current | None:
    return _read_state(home / "CURRENT", _Current)


def _versions(home: Path) -> dict[str, str]:
    return _read_state(home / "VERSIONS.json", dict[str, str]) or {}


def _read_state(path: Path, kind: type[T]) -> T | None:
    if not path.exists():
        return None
    wrong: list[str] = []
    state = _read(path, kind, wrong)
    if state is None:
        raise BadBundle("; ".join(wrong))
    return state


def _read(path: Path, kind: type[T], wrong: list[str]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{path.name}: {error}")
        return None


def _write(path: Path, state: object) -> None:
    """In one step: a reader sees the old file or the new one."""
    arriving = path.with_name(f".{path.name}.{os.getpid()}")
    arriving.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    arriving.replace(path)


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
