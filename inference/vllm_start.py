"""Starts vLLM for one bundle: the settings that pay on this machine. Importing it loads vLLM (a minute on a cold disk)."""

import ctypes
import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.replica import VllmSettings

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is the answer of the command that runs it
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import msgspec
import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

PR_SET_PDEATHSIG = 1


class OrphanSafeExecutor(MultiprocExecutor):
    """Runs in vLLM's EngineCore process and ends it with its parent.

    Without it a worker that is killed with -9 leaves EngineCore behind, with 4 GB. The signal comes when the thread that
    started the process ends, which is the replica's own; vLLM's worker ends with EngineCore by itself.
    """

    def _init_executor(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # it died while this process was being started
        super()._init_executor()


def start_vllm(path: str, settings: "VllmSettings") -> tuple[AsyncLLM, SamplingParams]:
    """Blocks until the model is loaded. Call it in the thread that will run the engine's event loop.

    Raises whatever vLLM raises where the bundle cannot be loaded or memory is short.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cores(settings.cpu_cores)
    preload = os.environ.get("LD_PRELOAD")
    args = AsyncEngineArgs(
        model=path,
        skip_tokenizer_init=True,  # prompts come as token ids, answers go as token ids: no work per step in this process
        dtype="float32" if on_cpu and settings.dtype == "auto" else settings.dtype,  # type: ignore[arg-type]
        enforce_eager=on_cpu,  # compiling takes longer than it saves on a small model
        enable_prefix_caching=True,
        block_size=settings.block_size if on_cpu else None,
        kv_cache_memory_bytes=settings.kv_cache_mb << 20 if on_cpu else None,
        max_num_seqs=settings.max_running + 1,  # a place for the canary
        disable_log_stats=True,
        enable_log_requests=False,
        distributed_executor_backend=OrphanSafeExecutor,
        logits_processors=["inference.vllm_distinct:DistinctQueries"],
        additional_config={"aigq_allow_list": settings.allow_list},  # vllm_distinct.ALLOW_LIST
    )
    try:
        llm = AsyncLLM.from_engine_args(args)
    finally:
        # vLLM preloads its allocator into its children; other processes that this one starts must not inherit that.
        if preload is None:
            os.environ.pop("LD_PRELOAD", None)
        else:
            os.environ["LD_PRELOAD"] = preload
    return llm, sampling(path, settings)


class _Generation(msgspec.Struct):
    """generation_config.json of a bundle, as transformers writes it."""

    eos_token_id: int | list[int]
    max_new_tokens: int = 160
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


def sampling(path: str, settings: "VllmSettings") -> SamplingParams:
    """The bundle's generation settings, and the cheapest output there is: token ids, once, at the end."""
    bundle = msgspec.json.decode(Path(path, "generation_config.json").read_bytes(), type=_Generation)
    ends = bundle.eos_token_id
    return SamplingParams(
        temperature=bundle.temperature if bundle.do_sample else 0.0,
        top_k=bundle.top_k if bundle.do_sample else 0,
        top_p=bundle.top_p if bundle.do_sample else 1.0,
        repetition_penalty=bundle.repetition_penalty,
        max_tokens=settings.max_output_tokens or bundle.max_new_tokens,
        stop_token_ids=ends if isinstance(ends, list) else [ends],
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def cores(wanted: str) -> str:
    """On a small machine all cores: vLLM's own choice keeps one for itself, which costs a fifth to a third of two."""
    allowed = sorted(os.sched_getaffinity(0))
    if wanted != "auto" or len(allowed) > 4:
        return wanted
    return ",".join(map(str, allowed))
