from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lenvm.backbones import PretrainedBackbone, SharedBackbone, shared
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER

IDS = torch.randint(4, 600, (2, 15), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def generator() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(POLICY_FOLDER).eval()


@pytest.fixture
def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(shared, "load_transformer", fail)


@pytest.mark.usefixtures("no_loading")
def test_it_says_what_it_is_without_loading_a_weight() -> None:
    backbone, own = SharedBackbone(str(POLICY_FOLDER)), PretrainedBackbone(str(POLICY_FOLDER))
    for name in ("hidden_size", "vocab_size", "context_length", "source"):
        assert getattr(backbone, name) == getattr(own, name)


def test_it_gives_the_generators_own_hidden_states(generator: PreTrainedModel) -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER))
    with torch.no_grad():
        expected = generator(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(backbone(IDS), expected)


def test_none_of_the_generators_weights_is_its_own() -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER)).train()
    hidden = backbone(IDS)
    assert not hidden.requires_grad
    assert not list(backbone.parameters())
    assert not backbone.state_dict()
    assert not any(
        module.training or p.requires_grad for module in backbone.transformer.modules() for p in module.parameters()
    )


def test_training_mode_does_not_reach_the_generator() -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER))
    backbone(IDS)
    assert not backbone.train().transformer.training


@pytest.mark.usefixtures("no_loading")
def test_an_attached_generator_is_used_as_it_is(generator: PreTrainedModel) -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER))
    backbone.attach(generator)
    assert backbone.transformer is generator.model
    backbone.double().train()
    with torch.no_grad():
        assert torch.equal(backbone(IDS), generator.model(input_ids=IDS).last_hidden_state)
    assert generator.dtype == torch.float32
    assert not generator.training
    assert all(p.requires_grad for p in generator.parameters())
    assert generator.config.use_cache


@pytest.mark.usefixtures("no_loading")
def test_the_body_of_a_generator_can_be_attached_too(generator: PreTrainedModel) -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER))
    backbone.attach(generator.model)
    assert backbone.transformer is generator.model


def test_a_generator_replaces_the_one_that_was_there(generator: PreTrainedModel) -> None:
    backbone = SharedBackbone(str(POLICY_FOLDER))
    backbone(IDS)
    backbone.attach(generator)
    assert backbone.transformer is generator.model


def test_another_generator_is_refused(generator: PreTrainedModel) -> None:
    config = {**generator.config.to_dict(), "vocab_size": 700}
    backbone = SharedBackbone("a/b", config=config)
    with pytest.raises(InputError, match=r"reads the hidden states of 'a/b' .*'vocab_size': 700.* but was given"):
        backbone.attach(generator)


def test_with_a_config_the_generator_is_not_asked_before_it_is_used(generator: PreTrainedModel) -> None:
    backbone = SharedBackbone("no/such-model", config=generator.config.to_dict())
    assert backbone.hidden_size == 128
    assert backbone.options == {
        "generator": "no/such-model",
        "revision": None,
        "dtype": "float32",
        "attention": "sdpa",
    }
    with pytest.raises(InputError, match="could not load the model 'no/such-model'"):
        backbone(IDS)
    backbone.attach(generator)
    assert backbone(IDS).shape == (2, 15, 128)


def test_it_is_loaded_in_the_type_that_was_asked_for() -> None:
    assert SharedBackbone(str(POLICY_FOLDER), dtype="bfloat16")(IDS).dtype == torch.bfloat16


def test_a_generator_that_is_nowhere_is_refused() -> None:
    with pytest.raises(InputError, match="could not read the configuration of the generator 'no/such-model'"):
        SharedBackbone("no/such-model")


@pytest.mark.parametrize(
    ("config", "message"),
    [({"hidden_size": 3}, "needs a `model_type`"), ({"model_type": "no_such"}, "does not know the generator")],
)
def test_a_config_that_transformers_does_not_know_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SharedBackbone("a/b", config=config)


def test_a_folder_that_changed_since_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(POLICY_FOLDER, tmp_path / "policy"))
    config = PretrainedBackbone(str(folder)).config.to_dict()
    backbone = SharedBackbone(str(folder), config={**config, "vocab_size": 700})
    with pytest.raises(InputError, match="use the generator that it was trained on"):
        backbone(IDS)
