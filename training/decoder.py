"""The small decoder: its shape, and writing it down as a bundle that transformers and vLLM load."""

import json
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from inference.model_bundle import ModelBundle, ModelCard
from inference.vocabulary import END, PAD, start_special_tokens, token_id

Decoder = Qwen3ForCausalLM | LlamaForCausalLM
"""What bundles hold."""
MAX_TOKENS = 1024
"""Prompt and answer. The longest prompt has about 600 (20 behaviours of 48 rare characters each can have more; the engine
refuses those)."""
MAX_ANSWER_TOKENS = 160


def new_decoder(tokenizer: Tokenizer, hidden: int, layers: int, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 decoder with random weights. Heads of 32, the smallest that vLLM's CPU kernels take: what the model must do is
    look things up in two places, the history and its own list. Tied embeddings: else a third of it would be vocabulary."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        head_dim=32,
        max_position_embeddings=MAX_TOKENS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PAD),
        use_cache=True,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        start_special_tokens(model.model.embed_tokens.weight, tokenizer)
    return model


def save_bundle(path: Path, model: PreTrainedModel, tokenizer: Tokenizer, card: ModelCard) -> ModelBundle:
    """Writes all files of a bundle and opens it. Weights are stored as fp16, half the size in git, and run as what
    config.json says, fp32; a card's lists_kept_in_fp16 says what the rounding changes."""
    path.mkdir(parents=True, exist_ok=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {
        name: w.to("cpu", torch.float16).contiguous() for name, w in model.state_dict().items() if name not in tied
    }
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    (path / "model.safetensors").chmod(0o644)
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    for of_its_origin in ("transformers_version", "_name_or_path"):
        config.pop(of_its_origin, None)
    _write_json(path / "config.json", config)
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    greedy = {"do_sample": False, "eos_token_id": end, "pad_token_id": pad, "max_new_tokens": MAX_ANSWER_TOKENS}
    _write_json(path / "generation_config.json", greedy)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": MAX_TOKENS,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(path / "tokenizer_config.json", settings)
    write_card(path, card)
    return ModelBundle.open(path)


def write_card(path: Path, card: ModelCard) -> None:
    (path / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def load_decoder(bundle: ModelBundle) -> Decoder:
    """The bundle's model as it runs: fp32, in evaluation mode."""
    model = AutoModelForCausalLM.from_pretrained(bundle.path, dtype=torch.float32)
    return model.eval()  # pyright: ignore[reportReturnType]


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
