"""What vLLM alone makes of the same prompts: `LLM.generate` over all of them at once, with the job's engine settings.

python -m bench.bare_vllm BUNDLE PROMPTS.json RESULT.json    (vLLM itself prints, so the result is a file: tokens, seconds)
"""

import json
import os
import sys
import time
from pathlib import Path

from inference.model_bundle import ModelBundle
from inference.replica import VllmSettings


def main(path: str, prompts: list[str], result: Path) -> None:
    from inference.vllm_start import cores, sampling

    settings, encode = VllmSettings(), ModelBundle.open(path).tokenizer.encode
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cores(settings.cpu_cores)
    import torch
    from vllm import LLM
    from vllm.inputs import TokensPrompt

    on_cpu = not torch.cuda.is_available()
    llm = LLM(
        model=path,
        skip_tokenizer_init=True,
        dtype="float32" if on_cpu else "auto",
        enforce_eager=on_cpu,
        enable_prefix_caching=True,
        block_size=settings.block_size if on_cpu else None,  # type: ignore[arg-type]
        kv_cache_memory_bytes=settings.kv_cache_mb << 20 if on_cpu else None,
        max_num_seqs=settings.max_running,
    )
    params = sampling(path, settings)
    tokens = [TokensPrompt(prompt_token_ids=encode(prompt).ids) for prompt in prompts]
    llm.generate(tokens[:1], params, use_tqdm=False)  # what is compiled or allocated once
    begun = time.monotonic()
    outputs = llm.generate(tokens, params, use_tqdm=False)
    seconds = time.monotonic() - begun
    made = sum(len(output.outputs[0].token_ids) for output in outputs)
    result.write_text(json.dumps({"tokens": made, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]))
