"""`lenvm generate`: write completions of a chosen length, and watch what is predicted on the way."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import PromptFormat
from lenvm.data.prompts import read_prompts
from lenvm.data.rollout import Prompt, Rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generate import GUIDED, Completion, ScorerName, stream
from lenvm.decoding.generator import encode, load_generator
from lenvm.decoding.loop import Step
from lenvm.decoding.rules import AbstractRule
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.models import LengthValueModel

_SHOWN_ROWS = 6
_REFRESH_SECONDS = 0.1


def generate(
    generator: str,
    prompts: list[str] | Path,
    value_model: str | None = None,
    rule: AbstractRule | None = None,
    *,
    scorer: ScorerName = "auto",
    sampling: SamplingSettings = GUIDED,
    num_samples: int = 1,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 64,
    output: Path | None = None,
) -> None:
    """Writes completions, steered by a rule, and shows the predicted remaining length while it does.

    Args:
        generator: name on the hub or folder of a causal language model with its tokenizer.
        prompts: a file whose rows have a `prompt`, or a list of texts, such as `'["Count to 3."]'`.
        value_model: name on the hub or folder of the length value model; left out, the generator writes plainly.
        rule: how predicted lengths steer, such as `EqualTo` with `--rule.n 64`, or the class path of a rule of your
            own; `--rule.help EqualTo` explains one; left out, lengths are only shown.
        scorer: `tree` reads every candidate (exact), `action_value` asks the head (cheap); `auto` takes the cheap one
            where the value model has an action-value head.
        sampling: candidate filters, token limit and seed.
        num_samples: completions per prompt.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        batch_size: completions written at a time.
        output: a JSON Lines file for the completions: rollout rows with token ids, and in `metadata` the predictions.
    """
    if output is not None and output.is_dir():
        raise InputError(f"`output` {output} is a folder; give the name of a file, such as {output / 'out.jsonl'}.")
    known = read_prompts(prompts)
    tokenizer = load_tokenizer(generator)
    model = None if value_model is None else LengthValueModel.from_pretrained(value_model)
    ids = encode([row.prompt or "" for row in known], tokenizer, model, prompt_format)
    language_model = load_generator(generator)
    console = Console()
    display = LiveDisplay(tokenizer, len(known) * num_samples)
    done: list[Completion] = []
    start = time.perf_counter()
    with Live(display, console=console, transient=True, auto_refresh=False) as live:
        display.live = live
        for completion in stream(
            language_model,
            tokenizer,
            model,
            ids,
            rule=rule,
            scorer=scorer,
            sampling=sampling,
            num_samples=num_samples,
            batch_size=batch_size,
            listener=display,
        ):
            done.append(completion)
            display.finish(completion.prompt * num_samples + completion.sample)
    seconds, tokens = time.perf_counter() - start, sum(len(completion.ids) for completion in done)
    done.sort(key=lambda c: (c.prompt, c.sample))
    for completion in done:
        _print(console, known[completion.prompt].prompt or "", completion)
    console.print(f"{len(done)} completions, {tokens:,} tokens, {tokens / seconds:,.0f} tokens/s.", style="dim")
    if output is not None:
        _write(output, known, ids, done)
        print(f"Done. The completions are in {output}.")


class LiveDisplay:
    """The rows that are being written: their newest words, what they have and what is predicted to come.

    Args:
        tokenizer: turns ids into text.
        total: number of completions in all.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, total: int) -> None:
        self.live: Live | None = None
        self._tokenizer, self._total, self._finished = tokenizer, total, 0
        self._ids: dict[int, list[int]] = {}
        self._remaining: dict[int, float] = {}
        self._shown_at = 0.0

    def __call__(self, step: Step) -> None:
        """Takes one more token of each row."""
        for i, (row, token) in enumerate(zip(step.rows, step.ids, strict=True)):
            self._ids.setdefault(row, []).append(token)
            if step.remaining is not None:
                self._remaining[row] = step.remaining[i]
        if self.live is not None and time.perf_counter() - self._shown_at > _REFRESH_SECONDS:
            self.live.refresh()
            self._shown_at = time.perf_counter()

    def finish(self, row: int) -> None:
        """Takes a row out of the display."""
        self._finished += 1
        self._ids.pop(row, None)

    def __rich__(self) -> Group:
        """A bar over all completions, and a table of the first rows in flight."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(justify="right", style="bold", no_wrap=True)
        table.add_column(justify="right", style="cyan", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="crop")
        for row, ids in list(self._ids.items())[:_SHOWN_ROWS]:
            ahead = f"{self._remaining[row]:.0f} to come" if row in self._remaining else ""
            text = str(self._tokenizer.decode(ids[-60:])).replace("\n", " ")
            table.add_row(f"{len(ids)} written", ahead, Text(text[-100:]))
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=self._total, completed=self._finished, width=40), f"{self._finished}/{self._total}"
        )
        return Group(bar, table) if self._total > 1 else Group(table)


def _print(console: Console, prompt: Prompt, completion: Completion) -> None:
    shown = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
    end = "ended by itself" if completion.finish_reason == "stop" else "cut by the limit"
    console.print(Text(shown, style="dim"), Text(completion.text), sep="\n")
    console.print(f"[{len(completion.ids)} tokens, {end}]", style="cyan", markup=False)


def _write(output: Path, prompts: list[Rollout], prompt_ids: list[list[int]], completions: list[Completion]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") as file:
        for completion in completions:
            row = vars(prompts[completion.prompt]) | {
                "completion": completion.text,
                "prompt_ids": prompt_ids[completion.prompt],
                "completion_ids": completion.ids,
                "finish_reason": completion.finish_reason,
                "metadata": {"sample": completion.sample, "remaining": completion.remaining},
            }
            known = {name: value for name, value in row.items() if value is not None}
            file.write(json.dumps(known, ensure_ascii=False) + "\n")
