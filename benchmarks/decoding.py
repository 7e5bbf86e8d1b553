"""What guided decoding costs beside plain decoding, and what it achieves: ratios from one run on one machine.

    python benchmarks/decoding.py            # a table
    python benchmarks/decoding.py --json     # one JSON object

Guided runs are timed with a rule that changes nothing (`EqualTo` with an endless spread): every row then writes exactly
what plain decoding writes, while all candidates are scored and the rule is computed. As usual where engines are timed,
the end of text is ignored, so that the batch keeps its size: every row writes 64 tokens.

`limit` is what physics allows: with r = time of one value-model step over one generator step for the same rows, and
c = tokens that the value model reads per row and step (every scored candidate; the drawn token where nothing is left to
choose), guidance cannot cost less than 1 + r c times plain decoding.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sampling import sampling_vs_generate
from task import OPENINGS, STORIES, Task, seconds
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lenvm.backbones import RandomBackbone
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generator import eos_ids, load_generator
from lenvm.decoding.guidance import Guidance
from lenvm.decoding.loop import Row, Written
from lenvm.decoding.prefix import PrefixReader
from lenvm.decoding.rules import EqualTo
from lenvm.decoding.scorers import AbstractScorer, ActionValueScorer, TreeScorer
from lenvm.decoding.settings import SamplingSettings
from lenvm.heads import ActionValueHead
from lenvm.metrics.length_control import length_score
from lenvm.models import LengthValueModel
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.targets import DiscountedReturn
from models import ROOT, playground_models

FIFTEEN = SamplingSettings(top_k=15)
PAPER = SamplingSettings(top_k=15, top_p=0.999)
NO_EFFECT = EqualTo(n=64, spread=1e6)
TIMED_TOKENS = 64


def slowdown(task: Task, guidance: Guidance, repeats: int) -> float:
    """Guided over plain time for the same tokens: best of some runs each, taken in turn."""
    device = task.generator.device
    plain, guided = [], []
    for _ in range(repeats):
        plain.append(seconds(task.write, device))
        guided.append(seconds(lambda: task.write(guidance), device))
    return min(guided) / min(plain)


def step_ratio(task: Task, model: LengthValueModel, repeats: int, steps: int = 32) -> float:
    """Time of one value-model step over one generator step, each with its head, for all rows of the task."""
    place = torch.tensor([row.prompt for row in task.rows], device=task.generator.device)
    tokens = torch.full_like(place, 5)
    times: dict[str, list[float]] = {"generator": [], "value": []}

    def read(reader: PrefixReader, head: Callable[[torch.Tensor], object] | None) -> None:
        for _ in range(steps):
            reader.step(tokens)
            if head is not None:
                head(reader.hidden)

    for _ in range(repeats):
        for name, reads, head in (
            ("generator", task.generator, None),
            ("value", model.backbone.transformer, model.read),
        ):
            with torch.inference_mode():
                reader = PrefixReader(reads, task.prompts, place)
                times[name].append(seconds(partial(read, reader, head), place.device))
    return min(times["value"]) / min(times["generator"])


def tokens_read(task: Task, model: LengthValueModel) -> tuple[float, float]:
    """What the value model reads per row and step with the tree scorer: tokens in all, and candidates that compete."""
    counts = {"read": 0, "scored": 0, "rows": 0, "offered": 0}

    class Counting(EqualTo):
        def wants(self, log_probs: torch.Tensor, mask: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
            wanted = super().wants(log_probs, mask, generated)
            counts["scored"] += int(mask[wanted].sum())
            counts["offered"] += len(mask)
            return wanted

    def read(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) == 1:  # candidates come flat, prompts as a batch
            counts["read"] += inputs[0].numel()

    hook = model.backbone.transformer.get_input_embeddings().register_forward_pre_hook(read)
    guidance = Guidance(model=model, scorer=TreeScorer(), rule=Counting(n=64, spread=1e6))
    counts["rows"] = sum(len(w.ids) for w in task.write(guidance))
    hook.remove()
    return counts["read"] / counts["rows"], counts["scored"] / counts["offered"]


def tree_vs_reencode(task: Task, model: LengthValueModel, prefix: int = 256, rows: int = 16, width: int = 15) -> float:
    """Time of encoding prefix and candidate from scratch over that of scoring on the cached prefix."""
    device = task.generator.device
    torch.manual_seed(0)
    vocabulary = model.backbone.vocab_size
    prefixes = torch.randint(4, vocabulary, (rows, prefix), device=device)
    ids = torch.randint(4, vocabulary, (rows, width), device=device)
    whole = torch.cat([prefixes.repeat_interleave(width, 0), ids.flatten()[:, None]], dim=1)
    owners = torch.arange(rows, device=device).repeat_interleave(width)
    slots = torch.arange(width, device=device).repeat(rows)
    with torch.inference_mode():
        reader = PrefixReader(model.backbone.transformer, prefixes.tolist(), torch.arange(rows, device=device))
        reader.fan_out(ids.flatten(), owners, slots)
        cached = min(seconds(lambda: reader.fan_out(ids.flatten(), owners, slots), device) for _ in range(5))
        scratch = min(seconds(lambda: model.backbone(whole), device) for _ in range(3))
    return scratch / cached


def playground_task(count: int, settings: SamplingSettings, room: int = MAX_TOKENS) -> Task:
    """Held-out problems, one completion each."""
    generator, tokenizer = load_generator(str(POLICY_FOLDER)), load_tokenizer(str(POLICY_FOLDER))
    problems = draw_distinct_problems(count, seed=0, held_out=True)
    prompts = RolloutEncoder(tokenizer).encode_prompts([as_prompt(p).prompt or "" for p in problems])
    prompts.sort(key=len)
    rows = [Row(i, f"benchmark/{i}", room) for i in range(count)]
    return Task(generator, prompts, rows, eos_ids(generator, tokenizer), settings)


def playground(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """All ratios on the playground, and the length scores at 64 tokens."""
    models = {n: LengthValueModel.from_pretrained(p).eval() for n, p in playground_models(folder).items()}
    results: dict[str, Any] = {}
    for name, settings in (("top_k_15", FIFTEEN), ("top_k_15_top_p_0.999", PAPER)):
        task = playground_task(count, settings)
        models["shared"].backbone.attach(task.generator)  # type: ignore[operator]
        results[name] = costs(task, models, repeats)
    task = playground_task(count, FIFTEEN)
    rule = EqualTo(n=64)
    scores = {"plain": score(task.write(), 64)}
    scorers: dict[str, AbstractScorer] = {"tree": TreeScorer(), "action_value": ActionValueScorer()}
    for name, scorer in scorers.items():
        scores[name] = score(task.write(Guidance(model=models["action"], scorer=scorer, rule=rule)), 64)
    shared = Guidance(model=models["shared"], scorer=ActionValueScorer(), rule=rule)
    models["shared"].backbone.attach(task.generator)  # type: ignore[operator]
    scores["shared"] = score(task.write(shared), 64)
    return {
        **results["top_k_15"],
        "filters": results,
        "tree_vs_reencode": tree_vs_reencode(task, models["action"], rows=min(count, 16)),
        "length_score_64": scores,
    }


def costs(task: Task, models: dict[str, LengthValueModel], repeats: int, tokens: int = TIMED_TOKENS) -> dict[str, Any]:
    """Slowdowns and limits of the three ways to score, at a constant batch size."""
    task = replace(task, rows=[row._replace(room=tokens) for row in task.rows], eos=[-1])
    r = step_ratio(task, models["action"], repeats)
    c, competing = tokens_read(task, models["action"])
    ways: dict[str, tuple[LengthValueModel, AbstractScorer]] = {
        "tree": (models["action"], TreeScorer()),
        "action_value": (models["action"], ActionValueScorer()),
    }
    if "shared" in models:
        ways["shared"] = (models["shared"], ActionValueScorer())
    return {
        "slowdown": {
            name: slowdown(task, Guidance(model=model, scorer=scorer, rule=NO_EFFECT), repeats)
            for name, (model, scorer) in ways.items()
        },
        "limit": {"tree": 1 + r * c, "action_value": 1 + r, "shared": 1.0},
        "step_ratio": r,
        "tokens_read_per_row": c,
        "candidates_scored_per_row": competing,
    }


def stories(model: Path, count: int, repeats: int) -> dict[str, Any]:
    """The costs on stories260K with its own value model, by target; length scores are `lenvm evaluate`'s business."""
    generator, tokenizer = load_generator(str(STORIES)), load_tokenizer(str(STORIES))
    prompts = [tokenizer(text).input_ids for text in OPENINGS]
    models = {"action": LengthValueModel.from_pretrained(model).eval()}
    results = {}
    for target in (128, 256, 400):
        rows = [Row(i % len(prompts), f"stories/{i}", target) for i in range(count)]
        task = Task(generator, prompts, rows, eos_ids(generator, tokenizer), PAPER)
        results[str(target)] = costs(task, models, repeats, tokens=target)
    return results


def gpu(repeats: int, sizes: Sequence[int] = (1, 4, 16, 64)) -> dict[str, Any]:
    """The same costs for a random pair of 0.5 billion parameters each, by batch size; needs a GPU."""
    config = {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }  # fmt: skip
    torch.manual_seed(0)
    options = {k: v for k, v in config.items() if k != "model_type"}
    generator = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **options), dtype=torch.bfloat16)
    generator = generator.cuda().eval()
    results = {}
    for size in sizes:
        prompts = torch.randint(5, 1000, (size, 256)).tolist()
        rows = [Row(i, f"gpu/{i}", TIMED_TOKENS) for i in range(size)]
        task = Task(generator, prompts, rows, [config["vocab_size"] - 1], FIFTEEN)
        backbone = RandomBackbone(config, dtype="bfloat16")
        head = ActionValueHead(backbone.hidden_size, backbone.vocab_size)
        model = LengthValueModel(backbone, head, DiscountedReturn(gamma=0.997)).cuda().eval()
        shared = LengthValueModel(RandomBackbone(config, dtype="bfloat16"), head, model.target).cuda().eval()
        results[str(size)] = costs(task, {"action": model, "shared": _sharing(shared, generator)}, repeats)
    return results


def score(written: list[Written], target: int) -> float:
    """Mean length score of LIFEBench."""
    return float(length_score(torch.tensor([len(w.ids) for w in written]), target, "equal").mean())


def _sharing(model: LengthValueModel, generator: PreTrainedModel) -> LengthValueModel:
    from lenvm.backbones import SharedBackbone

    backbone = SharedBackbone("random", config=generator.config.to_dict())
    backbone.attach(generator)
    return LengthValueModel(backbone, model.head, model.target).eval()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def _print(results: dict[str, Any]) -> None:
    for filters, found in results["filters"].items():
        print(f"\n{filters}: r = {found['step_ratio']:.2f}, c = {found['tokens_read_per_row']:.2f}")
        for name, cost in found["slowdown"].items():
            limit = found["limit"][name]
            print(f"  {name:<13} {cost:6.2f} x plain   limit {limit:6.2f}   {cost / limit:5.2f} of the limit")
    for target, found in results.get("stories260K", {}).items():
        shown = ", ".join(f"{n} {cost:.2f} (limit {found['limit'][n]:.2f})" for n, cost in found["slowdown"].items())
        print(f"\nstories260K, {target} tokens: {shown}")
    print(f"\nre-encoding takes {results['tree_vs_reencode']:.1f} times as long as the tree at 256 tokens of prefix")
    print("length score at 64 tokens: " + ", ".join(f"{n} {s:.1f}" for n, s in results["length_score_64"].items()))
    sampling = results["sampling"]
    print(
        f"plain greedy writing: {sampling['tokens_per_second']:,.0f} tokens/s, {sampling['prompt_by_prompt']:.1f} x "
        f"`generate` one by one, {sampling['same_batch']:.1f} times `generate` on the same batch; identical: "
        f"{sampling['identical']}"
    )


def main() -> None:
    """Runs everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--models", type=Path, default=ROOT / "results/playground", help="where the value models are")
    stories_model = ROOT / "results/stories260k/action/model"
    parser.add_argument(
        "--stories", type=Path, default=stories_model, help="value model of stories260K, if there is one"
    )
    parser.add_argument("--rows", type=int, default=256, help="completions, written in one batch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    results = playground(given.models, given.rows, given.repeats)
    results["sampling"] = sampling_vs_generate(given.rows)
    if STORIES.exists() and (given.stories / "config.json").exists():
        results["stories260K"] = stories(given.stories, given.rows, repeats=1)
    results["sampling_vs_generate"] = results["sampling"]["prompt_by_prompt"]
    if torch.cuda.is_available():
        results["gpu"] = gpu(given.repeats)
    if given.json:
        print(json.dumps(_rounded(results)))
    else:
        _print(results)


if __name__ == "__main__":
    main()
