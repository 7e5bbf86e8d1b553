"""`lenvm view`: completions as a page, every token coloured by how it changed the expected length."""

from __future__ import annotations

import time
from pathlib import Path

from transformers import PreTrainedModel

from lenvm.data.encoding import PromptFormat, RolloutEncoder
from lenvm.data.tokenizer import fingerprint, load_tokenizer
from lenvm.decoding.generate import generate
from lenvm.decoding.generator import encode, load_generator
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.models import LengthValueModel
from lenvm.models.value_model import check_tokenizer
from lenvm.view.live import Show, write_live
from lenvm.view.page import content, write_page
from lenvm.view.sources import read_selected, select
from lenvm.view.tokens import read


def view(
    value_model: str,
    rollouts: Path | None = None,
    generator: str | None = None,
    prompt: str | None = None,
    *,
    prompts: int = 8,
    samples: int = 4,
    prompt_id: str | None = None,
    sampling: SamplingSettings = SamplingSettings(),
    tokenizer: str | None = None,
    prompt_format: PromptFormat | None = None,
    output: Path = Path("results/view.html"),
    stream: bool = False,
    port: int = 0,
    wait: float = 30.0,
) -> None:
    """Turns completions into one HTML page that needs no network.

    The page shows the completions of a prompt side by side. Each token is coloured by its horizon shift: did it make
    the answer longer or shorter than expected before it? Under the text, the predicted and the true number of tokens to
    come. Completions come from rollouts, or from a generator that writes them now.

    Args:
        value_model: name on the hub or folder of the length value model.
        rollouts: a file or folder of rollouts, as `lenvm rollout` writes them or as `lenvm fit` reads them.
        generator: instead of rollouts, the name on the hub or folder of a causal language model that answers `prompt`.
        prompt: what the generator is asked; most chat models want `--prompt_format chat` with it.
        prompts: of rollouts, show the first so many prompts.
        samples: completions per prompt, at most.
        prompt_id: of rollouts, show this prompt alone.
        sampling: how the generator writes: candidate filters, token limit and seed.
        tokenizer: name or folder; left out, the generator's, or for rollouts the one in the value model's folder.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        output: the HTML file.
        stream: serve the page while the generator writes: text and curves grow in the browser.
        port: where `stream` serves, on this machine alone; 0 takes any that is free.
        wait: seconds that `stream` waits for a browser before it begins to write.
    """
    _check(rollouts, generator, prompt, prompts, samples, stream, output)
    model = LengthValueModel.from_pretrained(value_model)
    known = load_tokenizer(tokenizer or generator or value_model)
    check_tokenizer(model.tokenizer_fingerprint, fingerprint(known), "the value model")
    name = Path(value_model).resolve().parts[-2:] if Path(value_model).is_dir() else (value_model,)
    show = Show("/".join(name), model, known)
    if rollouts is not None:
        chosen, skipped = select(rollouts, prompts, samples, prompt_id)
        groups = read_selected(chosen, RolloutEncoder(known, prompt_format or model.prompt_format), model)  # type: ignore[arg-type]
        data = content(show.model_name, model, groups)
        if skipped:
            print(f"{skipped} rows could not be used and were skipped.")
    else:
        assert generator is not None
        assert prompt is not None
        ids = encode([prompt], known, model, prompt_format)[0]
        writer = load_generator(generator)
        if stream:
            data = write_live(show, writer, prompt, ids, samples, sampling, port, wait)
        else:
            data = _written(show, writer, prompt, ids, samples, sampling)
    write_page(output, data)
    count = sum(len(group["completions"]) for group in data["prompts"])
    print(f"Done. The page is {output}: {count} completions, prompts: {len(data['prompts'])}.")


def _check(
    rollouts: Path | None,
    generator: str | None,
    prompt: str | None,
    prompts: int,
    samples: int,
    stream: bool,
    output: Path,
) -> None:
    if (rollouts is None) == (generator is None):
        given = "both" if generator is not None else "neither"
        raise InputError(f"expected either `rollouts` or a `generator` with a `prompt`, got {given}; give one of them.")
    if generator is None and (stream or prompt is not None):
        raise InputError(
            f"`{'stream' if stream else 'prompt'}` needs a generator that writes, but rollouts are written already; "
            "give `generator` instead of `rollouts`."
        )
    if generator is not None and not prompt:
        raise InputError("the generator needs something to answer; give a text as `prompt`.")
    if prompts < 1 or samples < 1:
        raise InputError(f"`prompts` and `samples` must be at least 1, got {prompts} and {samples}.")
    if output.is_dir():
        raise InputError(f"`output` {output} is a folder; give the name of a file, such as {output / 'view.html'}.")


def _written(
    show: Show, generator: PreTrainedModel, prompt: str, ids: list[int], samples: int, sampling: SamplingSettings
) -> dict[str, object]:
    """The page's content, with completions that are written now."""
    start = time.perf_counter()
    completions = generate(
        generator, show.tokenizer, show.model, [ids], sampling=sampling, num_samples=samples, scorer="tree"
    )
    print(f"{len(completions)} completions written in {time.perf_counter() - start:.1f} s.")
    readings = [read(ids, c.ids, c.finish_reason == "stop", show.model, show.tokenizer) for c in completions]
    return content(show.model_name, show.model, [({"id": None, "domain": None, "text": prompt}, readings)])
