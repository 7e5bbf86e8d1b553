from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lenvm.errors import InputError
from lenvm.models import LengthValueModel
from lenvm.returns import discounted_returns
from lenvm.view.page import content, page, write_page
from lenvm.view.tokens import Reading, read, shifts

PROMPT = [5, 6, 7]


@pytest.fixture
def completion(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [*torch.randint(10, 300, (40,)).tolist(), tokenizer.eos_token_id]


def test_numbers_are_the_models_own(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase, completion: list[int]
) -> None:
    reading = read(PROMPT, completion, True, model, tokenizer)
    back = json.loads(json.dumps(reading.to_dict()))
    inputs, states = torch.tensor([PROMPT + completion]), slice(len(PROMPT) - 1, -1)
    with torch.inference_mode():
        remaining, value = model.remaining(inputs)[0, states], model.value(inputs)[0, states]
    assert len(back["predicted"]) == len(back["horizon"]) == len(back["remaining"]) == len(completion) + 1
    assert back["predicted"][:-1] == pytest.approx(remaining.tolist(), rel=1e-6)
    assert back["horizon"][:-1] == pytest.approx((-value).tolist(), abs=1e-6)
    assert back["predicted"][-1] == back["horizon"][-1] == 0.0
    assert back["remaining"] == [len(completion) - t for t in range(len(completion) + 1)]
    assert back["ids"] == completion


def test_shifts_are_td_residuals_and_positive_means_longer(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase, completion: list[int]
) -> None:
    reading, gamma = read(PROMPT, completion, True, model, tokenizer), model.gamma
    u = reading.horizon
    expected = [gamma * u[t + 1] - u[t] + (1 - gamma) for t in range(len(completion))]
    assert reading.shift == pytest.approx(expected, abs=1e-8)
    assert shifts([0.3, 0.6], 0.9)[0] > 0 > shifts([0.6, 0.3], 0.9)[0]


def test_a_value_that_is_true_does_not_shift() -> None:
    horizon = (-discounted_returns(torch.arange(20, -1, -1, dtype=torch.float64), 0.95)).tolist()
    assert shifts(horizon, 0.95) == pytest.approx([0.0] * 20, abs=1e-9)


def test_a_completion_that_was_cut_has_no_true_length_but_a_prediction_at_its_last_token(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase, completion: list[int]
) -> None:
    reading = read(PROMPT, completion[:-1], False, model, tokenizer)
    assert reading.remaining is None
    assert len(reading.predicted) == len(completion)
    assert reading.predicted[-1] > 0
    assert len(reading.shift) == len(completion) - 1


def test_what_lies_beyond_the_models_context_has_no_numbers(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    reading = read(PROMPT, [*[20] * 600, tokenizer.eos_token_id], True, model, tokenizer)
    assert len(reading.predicted) == 512 - len(PROMPT) + 1
    assert reading.predicted[-1] > 0
    assert len(reading.shift) == len(reading.predicted) - 1
    assert len(reading.ids) == 601
    with pytest.raises(InputError, match="a prompt has 513 tokens, more than the model's context of 512; choose"):
        read([20] * 513, [20], True, model, tokenizer)


def test_tokens_that_the_model_does_not_know_are_one_sentence(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(
        InputError, match=r"knows the token ids 0 to \d+, but a completion has 99999; use a value model"
    ):
        read(PROMPT, [99999], True, model, tokenizer)


def test_a_page_is_replaced_as_a_whole(model: LengthValueModel, tmp_path: Path) -> None:
    reading = Reading(ids=[1], pieces=[], finished=False, predicted=[], horizon=[], remaining=None, shift=[])
    data = content("m", model, [({"id": "a", "domain": None, "text": "x\ud800"}, [reading])])
    output = tmp_path / "deep" / "page.html"
    write_page(output, data)
    write_page(output, data)
    assert [p.name for p in output.parent.iterdir()] == ["page.html"]
    assert output.read_text(encoding="utf-8") == page(data)
