from __future__ import annotations

import unicodedata
from itertools import islice
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.playground import as_prompt, is_correct
from lenvm.playground.corpus import draw_distinct_problems, draw_problems, draw_texts, is_held_out
from lenvm.playground.domains import ANSWER_MARKER, DOMAINS, Problem, write_solution
from lenvm.playground.domains.base import MANNERS
from lenvm.playground.domains.instruction import ITEMS, InstructionDomain
from lenvm.playground.tokenizer import train_tokenizer

domains = pytest.mark.parametrize("name", sorted(DOMAINS))


def problems(name: str, count: int = 200) -> list[Problem]:
    rng = Random(0)
    return [DOMAINS[name].problem(rng) for _ in range(count)]


def test_the_domains_are_those_of_the_paper() -> None:
    assert set(DOMAINS) == {"math", "code", "instruction"}
    assert all(DOMAINS[name].name == name for name in DOMAINS)


@domains
def test_every_written_solution_is_correct(name: str) -> None:
    rng = Random(1)
    for problem in problems(name):
        solution = write_solution(problem, rng)
        assert DOMAINS[name].grade(solution, problem.reference), (problem.prompt, solution)


@domains
def test_every_manner_and_any_number_of_checks_lead_to_the_answer(name: str) -> None:
    for problem in problems(name, 50):
        for manner in MANNERS:
            text = " ".join([*problem.steps[manner], *[f"Wait: {problem.recheck} Yes."] * 3])
            assert DOMAINS[name].grade(f"{text} {ANSWER_MARKER} {problem.answer}", problem.reference)


def wrong(problem: Problem, others: list[Problem]) -> list[str]:
    """Answers to other questions, answers with a fault, and no answer."""
    parts = problem.answer.split(",")
    answers = ["", "x", problem.answer + "1", problem.answer + ",", "-" + problem.answer, problem.prompt]
    answers += [p.answer for p in others if p.reference != problem.reference and p.domain != "instruction"]
    if len(parts) > 1:
        answers += [",".join(parts[:-1]), ",".join([*parts, parts[0]]), ",".join([parts[0]] * len(parts))]
    return [a for a in answers if a.strip() != problem.answer]


@domains
def test_wrong_answers_are_wrong(name: str) -> None:
    drawn = problems(name, 60)
    for problem in drawn:
        for answer in wrong(problem, drawn):
            assert not DOMAINS[name].grade(f"{ANSWER_MARKER} {answer}", problem.reference), (problem.prompt, answer)


@domains
def test_only_what_stands_behind_the_last_marker_counts(name: str) -> None:
    for problem in problems(name, 20):
        grade, right = DOMAINS[name].grade, f"{ANSWER_MARKER} {problem.answer}"
        assert not grade(problem.answer, problem.reference)
        assert not grade("", problem.reference)
        assert not grade(f"{right} {ANSWER_MARKER} no", problem.reference)
        assert grade(f"{ANSWER_MARKER} no {right}", problem.reference)
        assert grade(f"{right} ", problem.reference)
        assert not grade(f"{right} and more", problem.reference)


def test_math_references_are_what_python_computes() -> None:
    for problem in problems("math"):
        expression = "".join(c for c in problem.prompt.removesuffix(problem.hint) if c in "0123456789+-")
        assert eval(expression) == int(problem.reference)


def test_code_references_are_what_the_programs_print(capsys: pytest.CaptureFixture[str]) -> None:
    for problem in problems("code"):
        program = problem.prompt.removesuffix(problem.hint).partition("\n")[2]
        exec(program, {})
        assert capsys.readouterr().out.strip() == problem.reference


def test_a_list_may_be_in_any_order_but_holds_each_thing_once() -> None:
    grade = DOMAINS["instruction"].grade
    assert grade("Answer: dog,cat,cow", "3 animals")
    for answer in ("dog,cat", "dog,cat,cat", "dog,cat,apple", "dog, cat, cow", "dog,cat,cow,fish", "dog,cat,unicorn"):
        assert not grade(f"Answer: {answer}", "3 animals")


def test_spelling_and_counting_are_in_order() -> None:
    grade = DOMAINS["instruction"].grade
    assert grade("Answer: c,a,t", "c,a,t")
    assert not grade("Answer: t,a,c", "c,a,t")
    assert not grade("Answer: 3,2,1", "1,2,3")


def test_every_thing_belongs_to_one_kind() -> None:
    things = [thing for kind in ITEMS.values() for thing in kind]
    assert len(things) == len(set(things)) == 40


@domains
def test_equal_seeds_give_equal_problems(name: str) -> None:
    assert problems(name, 30) == problems(name, 30)
    assert len({p.prompt for p in problems(name, 30)}) > 15


@domains
def test_length_is_decided_by_the_manner_and_by_the_prompt(name: str) -> None:
    for problem in problems(name, 50):
        terse, normal, verbose = (len(" ".join(problem.steps[manner])) for manner in MANNERS)
        assert terse < normal < verbose
    lengths = {len(" ".join(p.steps["verbose"])) for p in problems(name)}
    assert max(lengths) > 2 * min(lengths)


def test_held_out_and_training_prompts_never_overlap() -> None:
    held_out = {p.prompt for p in islice(draw_problems(seed=0, held_out=True), 900)}
    training = {p.prompt for p in islice(draw_problems(seed=0, held_out=False), 900)}
    written = {prompt for prompt, _ in islice(draw_texts(seed=1), 900)}
    assert not held_out & (training | written)
    assert all(map(is_held_out, held_out))
    assert not any(map(is_held_out, training | written))


def test_a_tenth_of_the_prompts_is_held_out() -> None:
    drawn = {p.prompt for name in DOMAINS for p in problems(name, 2000)}
    assert sum(map(is_held_out, drawn)) / len(drawn) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("held_out", [True, False])
def test_distinct_problems_are_distinct_and_shared_out_among_the_domains(held_out: bool) -> None:
    drawn = draw_distinct_problems(90, seed=5, held_out=held_out)
    assert len({p.prompt for p in drawn}) == 90
    counts = [sum(p.domain == name for p in drawn) for name in DOMAINS]
    assert min(counts) >= 20
    assert drawn == draw_distinct_problems(90, seed=5, held_out=held_out)
    assert {p.prompt for p in drawn} != {p.prompt for p in draw_distinct_problems(90, seed=6, held_out=held_out)}


def test_more_prompts_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, "instruction", InstructionDomain(max_items=2))
    with pytest.raises(InputError, match=r"the instruction domain has only \d+ different prompts"):
        draw_distinct_problems(400, seed=0, held_out=False, domains=("instruction",))


def test_training_texts_are_correct_solutions_of_their_prompts() -> None:
    references = {p.prompt: p for p in islice(draw_problems(seed=2, held_out=False), 300)}
    for prompt, text in islice(draw_texts(seed=2), 300):
        problem = references[prompt]
        assert DOMAINS[problem.domain].grade(text, problem.reference)


def test_prompts_ask_in_chat_format_and_carry_the_gold_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    encoder = RolloutEncoder(tokenizer)
    for problem in draw_distinct_problems(6, seed=0, held_out=True):
        asked = as_prompt(problem)
        assert asked.prompt == [{"role": "user", "content": problem.prompt}]
        assert tokenizer.decode(encoder.encode_prompts([asked.prompt])[0]) == f"<|user|>{problem.prompt}<|assistant|>"
        assert asked.prompt_id == prompt_hash(asked.prompt)
        assert (asked.domain, asked.reference) == (problem.domain, problem.reference)


def test_a_completion_is_correct_if_it_ended_and_is_right() -> None:
    row = {"prompt": "x", "prompt_id": "1", "domain": "math", "reference": "7"}
    assert is_correct(Rollout(**row, completion="3+4=7. Answer: 7"))
    assert not is_correct(Rollout(**row, completion="3+4=8. Answer: 8"))
    assert not is_correct(Rollout(**row, completion="3+4=7. Answer: 7", finish_reason="length"))


def composed(text: str) -> str:
    """Equal characters written in one way: the tokenizer's Qwen2 class composes them (NFC) before it splits."""
    return unicodedata.normalize("NFC", text)


@given(text=st.text(max_size=60).map(composed))
@example(text="中文也可以、标点「」。\n\n换行\t制表")
@example(text="emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 and\r\nline ends\r")
@example(text="  leading, trailing and double  spaces  ")
@example(text="naïve café Ω ß ﬁ 123 4567 <|user|> \x00 \ufeff")
def test_the_tokenizer_gives_any_text_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert all(0 <= i < len(tokenizer) for i in ids)


def test_a_digit_is_a_token(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer("31415926535").input_ids) == 11


def test_a_tokenizer_learns_the_words_of_its_texts_within_its_size() -> None:
    texts = ["the horse jumps over the fence"] * 50
    small, large = (train_tokenizer(texts, vocab_size=size) for size in (262, 300))
    assert len(small) <= 262 < len(large) <= 300
    assert len(large(texts[0]).input_ids) < len(small(texts[0]).input_ids)
    assert large.eos_token == "<|end|>"
    assert large.decode(large("语言 🙂 horse").input_ids) == "语言 🙂 horse"
