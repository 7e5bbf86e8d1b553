"""The playground's value models for the benchmarks: made by the committed recipes where they are not there yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
        rollouts = folder / "rollouts"
        # a run that is complete does nothing
        _run("rollout", f"--config={ROOT / 'experiments/rollout/playground.yaml'}", f"--output={rollouts}")
        options = {"config": ROOT / "experiments/train" / recipe, "data.train": rollouts}
        options["trainer.default_root_dir"] = folder / name
        _run("fit", *(f"--{key}={value}" for key, value in options.items()), *_resume(folder / name))
    return {name: folder / name / "model" for name in _RECIPES}


def _resume(run: Path) -> list[str]:
    return ["--ckpt_path=last"] if any((run / "checkpoints").glob("*.ckpt")) else []


def _run(*words: str) -> None:
    print("lenvm " + " ".join(words), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "lenvm", *words], check=True, cwd=ROOT, stdout=sys.stderr)
