"""`lenvm demo`: sample the playground policy, fit a value model, judge it on prompts it never saw, write a report."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers.utils import logging as transformers_logging

from lenvm.cli.lightning import LenvmCLI, command_line
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.data.writing import write_rollouts
from lenvm.demo.held_out import HeldOut, judge
from lenvm.demo.page import write_page
from lenvm.errors import InputError
from lenvm.models import LengthValueModel
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout import SamplingSettings, TransformersSampler, load_generator, sampling_requests, strictly

_FIT_CONFIG = Path(__file__).parent / "fit.yaml"


def demo(
    output: Path = Path("results/demo"),
    *,
    train_prompts: int = 1500,
    train_samples: int = 6,
    test_prompts: int = 150,
    test_samples: int = 64,
    epochs: int = 3,
    seed: int = 0,
) -> None:
    """Runs the whole job with the built-in playground: sample, train, predict, report. No GPU, no download.

    Args:
        output: folder for everything that is written.
        train_prompts: prompts to sample training completions of.
        train_samples: completions per training prompt.
        test_prompts: held-out prompts, which neither policy nor value model was trained on.
        test_samples: completions per held-out prompt.
        epochs: passes over the training completions.
        seed: decides prompts, completions and the order of training.
    """
    if min(train_prompts, train_samples, test_prompts, test_samples, epochs) < 1:
        raise InputError("numbers of prompts, samples and epochs must be at least 1.")
    _clear(output)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    console, seconds = Console(), dict[str, float]()
    console.rule("lenvm demo")
    with _timed("sample", seconds):
        counts = {"train": (train_prompts, train_samples), "test": (test_prompts, test_samples)}
        sampled = {name: _sample(name, *count, seed) for name, count in counts.items()}
        files = {
            name: write_rollouts(rollouts, output / "rollouts" / f"{name}.parquet")
            for name, rollouts in sampled.items()
        }
        tokens = sum(len(r.completion_ids or []) for rollouts in sampled.values() for r in rollouts)
    console.print(f"Sampled {tokens:,} tokens at {tokens / seconds['sample']:,.0f} tokens/s.")
    with _timed("fit", seconds):
        cli = _fit(output, files, epochs, seed)
    with _timed("evaluate", seconds):
        errors = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
        model = LengthValueModel.from_pretrained(output / "model")
        held_out = judge(model, sampled["test"])
    with _timed("report", seconds):
        summary = _summary(held_out, errors, model.gamma, tokens / seconds["sample"])
        summary["seconds"] = seconds
        write_page(output, summary, held_out, model, sampled["test"], load_tokenizer(str(output / "model")))
    summary["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print(console, summary)
    print(f"Done. Everything is under {output}: open report.html, or run `tensorboard --logdir {output}`.")


def _clear(output: Path) -> None:
    """Removes what an earlier demo left; anything else in the folder is somebody's work and stops the demo."""
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / "rollouts" / "test.parquet").exists():
        raise InputError(f"{output} holds something that is not a demo; choose another folder with `--output`.")
    for name in ("checkpoints", "tensorboard", "model", "figures", "cache"):
        shutil.rmtree(output / name, ignore_errors=True)


def _sample(name: str, num_prompts: int, num_samples: int, seed: int) -> list[Rollout]:
    held_out = name == "test"
    tokenizer = load_tokenizer(str(POLICY_FOLDER))
    settings = SamplingSettings(max_tokens=MAX_TOKENS, seed=seed)
    sampler = TransformersSampler(load_generator(str(POLICY_FOLDER)), tokenizer, settings)
    problems = draw_distinct_problems(num_prompts, seed=seed, held_out=held_out)
    requests = sampling_requests([as_prompt(p) for p in problems], RolloutEncoder(tokenizer), range(num_samples))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        description = "Sampling held-out prompts" if held_out else "Sampling training prompts"
        return list(
            progress.track(
                strictly(sampler.sample(requests)), total=len(requests) * num_samples, description=description
            )
        )


def _fit(output: Path, files: dict[str, Path], epochs: int, seed: int) -> LenvmCLI:
    options: dict[str, Any] = {
        "seed_everything": seed,
        "model.backbone.init_args.name": POLICY_FOLDER,
        "data.train": files["train"],
        "data.test": files["test"],
        "data.cache_dir": output / "cache",
        "data.seed": seed,
        "trainer.default_root_dir": output,
        "trainer.max_epochs": epochs,
    }
    with command_line("fit", ["--config", str(_FIT_CONFIG), *(f"--{k}={v}" for k, v in options.items())]):
        return LenvmCLI()


def _summary(held_out: HeldOut, errors: Mapping[str, float], gamma: float, speed: float) -> dict[str, Any]:
    at = ("0", "25", "50", "75")
    return {
        "generator": {**held_out.generator, "tokens_per_second": round(speed)},
        "length_prediction": held_out.length_prediction,
        "length_mae": {q: errors[f"test/length_mae_p{q}"] for q in at},
        "value_mse": errors["test/value_mse"],
        "gamma": gamma,
    }


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _print(console: Console, summary: dict[str, Any]) -> None:
    prediction, mae = summary["length_prediction"], summary["length_mae"]
    console.print(
        f"Length before the first token: MRE {prediction['mre']:.1%} (best constant {prediction['constant_mre']:.1%}), "
        f"Kendall tau {prediction['kendall_tau']:.2f}."
    )
    console.print("MAE in tokens at 0, 25, 50, 75 %: " + ", ".join(f"{mae[q]:.1f}" for q in mae) + ".")
