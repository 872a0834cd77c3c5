"""Any Hugging Face causal model as base: tokens are added and started, LoRA is merged, and what comes out is a bundle."""

from pathlib import Path

import msgspec
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from inference.vocabulary import END, SPECIAL_TOKENS, token_id
from tests.training.small_samples import QUERIES, write_samples
from training.base_model import SMOLLM2, BaseModel, open_base, smollm2_folder
from training.decode import greedy
from training.decoder import load_decoder
from training.il_sft import fine_tune
from training.il_sft_recipe import Recipe
from training.progress import read_curve

RECIPE = Recipe(
    samples=60, batch_tokens=1_024, optimizer="adamw", learning_rate=1e-2, unlearn=0.0, dtype="float32", threads=1
)


def write_llama(folder: Path, tied: bool) -> Path:
    """A Llama as others make them: untied or tied, a tokenizer without our special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f" {query}" for query in QUERIES], trainer)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def llama(request, tmp_path_factory) -> str:
    return str(write_llama(tmp_path_factory.mktemp("llama"), request.param))


def tables_of(base: BaseModel) -> list[torch.Tensor]:
    weights = dict(base.model.named_parameters())
    return [weights[name] for name in ("model.embed_tokens.weight", "lm_head.weight") if name in weights]


def test_special_tokens_start_as_the_mean_of_their_subwords(llama: str):
    base = open_base(llama)
    assert not base.own
    for table in tables_of(base):
        for token, plain in SPECIAL_TOKENS.items():
            if plain:
                ids = base.tokenizer.encode(" " + plain).ids
                assert torch.allclose(table[token_id(base.tokenizer, token)], table[ids].mean(dim=0), atol=1e-6)


def test_the_start_can_be_switched_off_to_measure_it(llama: str):
    on, off = open_base(llama, True), open_base(llama, False)
    assert on.digest != off.digest
    row = token_id(on.tokenizer, "<search>")
    tables = [tables_of(base)[0] for base in (on, off)]
    assert not torch.allclose(tables[0][row], tables[1][row], atol=1e-3)
    old = on.tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)
    assert torch.equal(tables[0][:old], tables[1][:old])


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_a_foreign_model_becomes_a_bundle_that_writes_what_training_taught(llama: str, lora_rank: int, tmp_path: Path):
    recipe = msgspec.structs.replace(RECIPE, lora_rank=lora_rank)
    bundle = fine_tune(write_samples(tmp_path / "samples", 60), llama, tmp_path / "out", recipe)
    curve = read_curve(tmp_path / "out")
    assert curve.held_out[-1] < 0.95 * curve.held_out[0]
    model = load_decoder(bundle)
    assert isinstance(model, LlamaForCausalLM)
    assert model.config.eos_token_id == token_id(bundle.tokenizer, END)
    assert len(greedy(model, bundle.tokenizer, ["Please<list>"])) == 1
    assert bundle.card.recipe["base"] == Path(llama).name


def test_what_is_no_model_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="a base is smollm2, the folder of a bundle or of a Hugging Face model"):
        open_base(str(tmp_path))


def test_smollm2_becomes_a_bundle_by_way_of_lora(tmp_path: Path):
    """The real thing: loaded from its package, four steps of LoRA, written, opened again."""
    assert list(smollm2_folder().glob("*.gguf"))
    recipe = msgspec.structs.replace(
        RECIPE, samples=4, batch_tokens=200, learning_rate=3e-3, warmup=0.0, lora_rank=4, held_out=1
    )
    bundle = fine_tune(write_samples(tmp_path / "samples", 30), SMOLLM2, tmp_path / "out", recipe)
    assert bundle.card.recipe["base"] == "smollm2"
    assert bundle.card.parameters > 134e6
    before, *_, after = read_curve(tmp_path / "out").held_out
    assert after < before
