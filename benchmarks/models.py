"""The playground's value models for the benchmarks: made by the committed recipes where they are not there yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lenvm.playground import MAX_TOKENS, POLICY_FOLDER

ROOT = Path(__file__).parent.parent
_RECIPES = {"action": "playground_action.yaml", "shared": "playground_shared.yaml"}


def playground_models(folder: Path) -> dict[str, Path]:
    """Folders of the trained models: `action` has a backbone of its own, `shared` is a head on the policy.

    Args:
        folder: where they are, or will be: `folder/action/model`, `folder/shared/model`. Making them takes about ten
            minutes on two cores.
    """
    for name, recipe in _RECIPES.items():
        if (folder / name / "model" / "config.json").exists():
            continue
        rollouts = folder / "rollouts.parquet"
        if not rollouts.exists():
            _write_rollouts(rollouts)
        options = {"config": ROOT / "experiments/train" / recipe, "data.train": rollouts}
        options["trainer.default_root_dir"] = folder / name
        _run("fit", *(f"--{key}={value}" for key, value in options.items()), *_resume(folder / name))
    return {name: folder / name / "model" for name in _RECIPES}


def _write_rollouts(path: Path) -> None:
    from lenvm.data.encoding import RolloutEncoder
    from lenvm.data.tokenizer import load_tokenizer
    from lenvm.data.writing import write_rollouts
    from lenvm.decoding.generator import load_generator
    from lenvm.decoding.settings import SamplingSettings
    from lenvm.playground import as_prompt
    from lenvm.playground.corpus import draw_distinct_problems
    from lenvm.rollout import TransformersSampler, sampling_requests, strictly

    print("Sampling 24,000 completions of the playground policy.", file=sys.stderr)
    tokenizer = load_tokenizer(str(POLICY_FOLDER))
    problems = draw_distinct_problems(1500, seed=0, held_out=False)
    requests = sampling_requests([as_prompt(p) for p in problems], RolloutEncoder(tokenizer), range(16))
    settings = SamplingSettings(max_tokens=MAX_TOKENS)
    sampler = TransformersSampler(load_generator(str(POLICY_FOLDER)), tokenizer, settings, 512)
    write_rollouts(strictly(sampler.sample(requests)), path)


def _resume(run: Path) -> list[str]:
    return ["--ckpt_path=last"] if any((run / "checkpoints").glob("*.ckpt")) else []


def _run(*words: str) -> None:
    print("lenvm " + " ".join(words), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "lenvm", *words], check=True, cwd=ROOT, stdout=sys.stderr)
