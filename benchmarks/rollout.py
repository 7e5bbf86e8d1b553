"""How fast completions are sampled, what a million prompts need in memory, and what a stored token needs on disk.

    python benchmarks/rollout.py            # a table
    python benchmarks/rollout.py --json     # one JSON object

All three engines write the same completions of the playground policy into a folder of shards, on the same machine in
one run; the clock starts when a started engine asks for its first prompt. vLLM is looked for in this environment, then
in `.venv-vllm` (`make install-vllm`); without it, its two figures are null. The server of the `openai` engine shares
the machine with its client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storage import bytes_per_token

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.settings import SamplingSettings
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout.engines import (
    AbstractEngine,
    Failed,
    OpenAIEngine,
    Policy,
    SamplingRequest,
    TransformersEngine,
    VLLMEngine,
    sampling_requests,
)
from lenvm.rollout.folder import RolloutFolder
from models import ROOT

SAMPLES, CONCURRENCY = 8, 64
ENGINES = ("transformers", "vllm", "openai")


def tokens_per_second(name: str, num_prompts: int) -> float:
    """Speed of one engine, storing included."""
    sys.path.insert(0, str(ROOT / "tests" / "rollout" / "engines"))
    from vllm_server import vllm_server

    tokenizer = load_tokenizer(str(POLICY_FOLDER))
    prompts = [as_prompt(p) for p in draw_distinct_problems(num_prompts, seed=0, held_out=False)]
    requests = sampling_requests(prompts, RolloutEncoder(tokenizer), range(SAMPLES))
    sampling = SamplingSettings(max_tokens=MAX_TOKENS)
    policy = Policy(generator=str(POLICY_FOLDER), revision=None, tokenizer=tokenizer, sampling=sampling)
    server = vllm_server(str(POLICY_FOLDER)) if name == "openai" else nullcontext("")
    with server as url, tempfile.TemporaryDirectory() as folder:
        engine: AbstractEngine = {
            "transformers": lambda: TransformersEngine(),
            "vllm": lambda: VLLMEngine(dtype="float32"),
            "openai": lambda: OpenAIEngine(urls=[url], concurrency=CONCURRENCY),
        }[name]()
        return _timed(engine, policy, requests, Path(folder))


def _timed(engine: AbstractEngine, policy: Policy, requests: list[SamplingRequest], folder: Path) -> float:
    start = 0.0

    def pulled() -> Iterator[SamplingRequest]:
        nonlocal start
        start = time.perf_counter()
        yield from requests

    tokens = 0
    with RolloutFolder(folder, {}, {}, 20_000, True) as store, closing(engine.sample(policy, pulled())) as outcomes:
        for outcome in outcomes:
            assert not isinstance(outcome, Failed), outcome.reason
            store.add(outcome)
            tokens += len(outcome.completion_ids or [])
        store.write_shard()
    return tokens / (time.perf_counter() - start)


def rss_growth_mb(num_prompts: int) -> float:
    """Peak of a dry run over so many prompts of a file, above what the process had when it began; in MB (Linux)."""
    from lenvm.rollout.run import rollout

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        with file.open("w") as lines:
            for i in range(num_prompts):
                lines.write(json.dumps({"prompt": f"Question {i}: what is {i}+{i % 97}?", "domain": "math"}) + "\n")
        before = _status_mb("VmRSS")
        rollout(str(POLICY_FOLDER), Path(folder) / "out", str(file), prompt_format="chat", dry_run=True)
        return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _in_own_process(python: str, *words: str) -> Any:
    """What this file prints as JSON when it is run with these words."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [python, __file__, *words], check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _python_with_vllm() -> str | None:
    other = ROOT / ".venv-vllm" / "bin" / "python"
    if find_spec("vllm") is not None:
        return sys.executable
    return str(other) if other.exists() else None


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--prompts", type=int, default=500, help="prompts to complete, 8 samples each")
    parser.add_argument("--streamed", type=int, default=1_000_000, help="prompts of the dry run")
    parser.add_argument("--only", choices=[*ENGINES, "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        measured = rss_growth_mb(options.streamed) if options.only == "memory" else None
        print(json.dumps(measured if measured is not None else tokens_per_second(options.only, options.prompts)))
        return
    pythons = {"transformers": sys.executable, "vllm": _python_with_vllm(), "openai": _python_with_vllm()}
    speeds = {
        name: None if python is None else _in_own_process(python, "--only", name, "--prompts", str(options.prompts))
        for name, python in pythons.items()
    }
    result = {
        "tokens_per_s": speeds,
        "openai_vs_vllm": speeds["openai"] / speeds["vllm"] if speeds["vllm"] else None,
        "rss_growth_mb": _in_own_process(sys.executable, "--only", "memory", "--streamed", str(options.streamed)),
        **bytes_per_token(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in {**{f"{e}, tokens/s": v for e, v in speeds.items()}, **result}.items():
        if not isinstance(value, dict):
            print(f"{name:32} {'not installed' if value is None else f'{value:,.2f}'}")


if __name__ == "__main__":
    main()
