"""`lenvm rollout`: completions of given prompts by a generator, as a rollout file that `lenvm fit` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lenvm.data.encoding import PromptFormat, RolloutEncoder
from lenvm.data.prompts import read_prompts
from lenvm.data.rollout import BadRowError
from lenvm.data.tokenizer import load_tokenizer
from lenvm.data.writing import write_rollouts
from lenvm.decoding.generator import load_generator
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.rollout.engines import SamplingRequest, TransformersSampler, strictly


def rollout(
    generator: str,
    prompts: Path | list[str],
    output: Path,
    *,
    num_samples: int = 8,
    sampling: SamplingSettings = SamplingSettings(),
    prompt_format: PromptFormat = "auto",
    batch_size: int = 256,
) -> None:
    """Samples completions and writes them to one Parquet file.

    Args:
        generator: name on the hub or folder of a causal language model with its tokenizer.
        prompts: a file whose rows have a `prompt` (and perhaps prompt_id, domain, reference), or a list of texts.
        output: the Parquet file to write.
        num_samples: completions per prompt.
        sampling: temperature, filters, token limit and seed.
        prompt_format: `auto` sends messages through the chat template and takes texts as they are; `chat` makes a text
            the user's message; `plain` joins the contents of messages.
        batch_size: completions written at a time.
    """
    if num_samples < 1:
        raise InputError(f"`num_samples` must be at least 1, got {num_samples}.")
    known = read_prompts(prompts)
    tokenizer = load_tokenizer(generator)
    encoder = RolloutEncoder(tokenizer, prompt_format)
    try:
        ids = encoder.encode_prompts([row.prompt or "" for row in known])
    except BadRowError as error:
        raise InputError(f"{prompts}: {error}.") from error
    requests = [SamplingRequest(i, row, tuple(range(num_samples))) for i, row in zip(ids, known, strict=True)]
    sampler = TransformersSampler(load_generator(generator), tokenizer, sampling, batch_size)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    counts = {"stop": 0, "length": 0, "tokens": 0}

    with Progress(*columns) as progress:
        total = len(requests) * num_samples

        def counted() -> Any:
            for row in progress.track(strictly(sampler.sample(requests)), total=total, description="Sampling"):
                counts[row.finish_reason] += 1
                counts["tokens"] += len(row.completion_ids or [])
                yield row

        write_rollouts(counted(), output)
    share = counts["length"] / total
    print(f"Done. {total:,} completions, {counts['tokens']:,} tokens, {share:.1%} cut by the limit, are in {output}.")
