"""Writing before the reader's eyes: what the listener of the decoding loop hears goes to the browser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.decoding.generate import Completion, stream
from lenvm.decoding.loop import Step
from lenvm.decoding.settings import SamplingSettings
from lenvm.models import LengthValueModel
from lenvm.view.page import content, page
from lenvm.view.pieces import PieceReader
from lenvm.view.server import EventServer
from lenvm.view.tokens import Reading, read, shifts


@dataclass(frozen=True)
class Show:
    """Who reads.

    Attributes:
        model_name: what to call the value model.
        model: the length value model.
        tokenizer: the generator's.
    """

    model_name: str
    model: LengthValueModel
    tokenizer: PreTrainedTokenizerBase


class Growth:
    """A listener that tells the browser of each new token, and of the predicted length after it.

    Args:
        show: who reads.
        prompt_ids: token ids of the prompt.
        server: takes the news.
    """

    def __init__(self, show: Show, prompt_ids: list[int], server: EventServer) -> None:
        self._show, self._prompt_ids, self._server = show, prompt_ids, server
        self._readers: dict[int, PieceReader] = {}
        self._horizon: dict[int, float] = {}
        self._start: Reading | None = None

    def __call__(self, step: Step) -> None:
        """Takes one more token of each row."""
        if self._start is None:
            # not before the first step: a shared model has no backbone until decoding lends it the generator's
            self._start = read(self._prompt_ids, [], False, self._show.model, self._show.tokenizer)
            self._server.publish("begin", {"predicted": self._start.predicted[0], "horizon": self._start.horizon[0]})
        gamma, news = self._show.model.gamma, []
        assert step.remaining is not None
        for row, token, remaining in zip(step.rows, step.ids, step.remaining, strict=True):
            reader = self._readers.setdefault(row, PieceReader(self._show.tokenizer, self._prompt_ids))
            before = self._horizon.get(row, self._start.horizon[0])
            horizon = self._horizon[row] = -math.expm1(remaining * math.log(gamma))
            written = [[p.text, p.tokens, int(p.special)] for p in reader.push(token)]
            shift = shifts([before, horizon], gamma)[0]
            news.append({"row": row, "id": token, "predicted": remaining, "horizon": horizon, "shift": shift,
                         "pieces": written})  # fmt: skip
        self._server.publish("tokens", news)

    def end(self, completion: Completion) -> None:
        """Says that a completion is complete, so that its true curve can be drawn while others grow."""
        finished = completion.finish_reason == "stop"
        left = [[p.text, p.tokens, int(p.special)] for p in self._readers[completion.sample].flush()]
        self._server.publish("end", {"row": completion.sample, "finished": finished, "pieces": left})


def write_live(
    show: Show,
    generator: PreTrainedModel,
    prompt: str,
    ids: list[int],
    samples: int,
    sampling: SamplingSettings,
    port: int,
    wait: float,
) -> dict[str, Any]:
    """Writes completions while a browser looks on, and returns the finished page's content.

    Args:
        show: who reads.
        generator: writes.
        prompt: what it is asked.
        ids: token ids of that.
        samples: how many completions.
        sampling: how it writes.
        port: where the page is served; 0 takes any that is free.
        wait: seconds to wait for the browser.

    Raises:
        InputError: if the port is taken.
    """
    shown = {"id": None, "domain": None, "text": prompt}
    start = content(show.model_name, show.model, [(shown, [])], live={"samples": samples})
    with EventServer(page(start), port) as server:
        print(f"Open {server.url} in a browser; writing begins when it is there, or after {wait:.0f} s.", flush=True)
        server.wait_for_reader(wait)
        growth, done = Growth(show, ids, server), []
        for completion in stream(
            generator,
            show.tokenizer,
            show.model,
            [ids],
            sampling=sampling,
            num_samples=samples,
            scorer="tree",
            listener=growth,
        ):
            growth.end(completion)
            done.append(completion)
        done.sort(key=lambda c: c.sample)
        readings = [read(ids, c.ids, c.finish_reason == "stop", show.model, show.tokenizer) for c in done]
        data = content(show.model_name, show.model, [(shown, readings)])
        server.publish("done", data)
    return data
