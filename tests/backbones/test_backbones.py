from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lenvm.backbones import AbstractBackbone, PretrainedBackbone, RandomBackbone
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER


def frozen(backbone: AbstractBackbone) -> list[str]:
    """Which parts have no trainable weight."""
    parts: dict[str, nn.Module] = {"embeddings": backbone.transformer.get_input_embeddings()}
    parts |= {f"layer {i}": layer for i, layer in enumerate(backbone.transformer.layers)}
    parts["norm"] = backbone.transformer.norm
    states = {name: {p.requires_grad for p in part.parameters()} for name, part in parts.items()}
    assert all(len(state) == 1 for state in states.values()), "a part is frozen as a whole or not at all"
    return [name for name, state in states.items() if state == {False}]


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("none", []),
        (0, ["embeddings"]),
        (1, ["embeddings", "layer 0"]),
        (2, ["embeddings", "layer 0", "layer 1"]),
        ("backbone", ["embeddings", "layer 0", "layer 1", "norm"]),
    ],
)
def test_freezing_leaves_exactly_the_rest_trainable(
    tiny_backbone_config: dict[str, Any], freeze: Any, expected: list[str]
) -> None:
    backbone = RandomBackbone(tiny_backbone_config, freeze=freeze)
    assert frozen(backbone) == expected
    backbone.train()
    hidden = backbone(torch.tensor([[4, 5, 6]]))
    assert hidden.requires_grad == (freeze != "backbone")
    if freeze != "backbone":
        hidden.square().sum().backward()
        assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("freeze", [3, -1, "head", 1.5])
def test_freezing_what_is_not_there_is_refused(tiny_backbone_config: dict[str, Any], freeze: Any) -> None:
    with pytest.raises(InputError, match="`freeze` must be `none`, `backbone` or a number of layers from 0 to 2, got"):
        RandomBackbone(tiny_backbone_config, freeze=freeze)


@pytest.mark.parametrize(("freeze", "repeats"), [("backbone", True), ("none", False)])
def test_a_frozen_backbone_has_no_dropout_in_training(
    tiny_backbone_config: dict[str, Any], freeze: Any, repeats: bool
) -> None:
    config = {**tiny_backbone_config, "attention_dropout": 0.5}
    backbone = RandomBackbone(config, freeze=freeze, attention="eager")
    ids = torch.randint(0, 67, (2, 20))
    backbone.eval()
    assert torch.equal(backbone(ids), backbone(ids))
    backbone.train()
    assert torch.equal(backbone(ids), backbone(ids)) == repeats


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_causal_so_no_state_sees_what_follows(
    tiny_backbone_config: dict[str, Any], attention: str
) -> None:
    backbone = RandomBackbone(tiny_backbone_config, attention=attention).eval()
    ids = torch.randint(0, 67, (3, 12))
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 67
    before, after = backbone(ids), backbone(changed)
    torch.testing.assert_close(after[:, :7], before[:, :7], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after[:, 7:], before[:, 7:], rtol=1e-2, atol=1e-2)


def test_no_vocabulary_sized_tensor_is_ever_made(tiny_backbone_config: dict[str, Any]) -> None:
    backbone = RandomBackbone(tiny_backbone_config)
    sizes: set[int] = set()

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        tensors = [output] if isinstance(output, Tensor) else list(getattr(output, "values", lambda: output)())
        sizes.update(size for t in tensors if isinstance(t, Tensor) for size in t.shape)

    for module in backbone.modules():
        module.register_forward_hook(record)
    assert backbone(torch.randint(0, 67, (2, 9))).shape == (2, 9, 32)
    assert {2, 9, 32, 48} <= sizes
    assert 67 not in sizes
    assert not any("lm_head" in name for name, _ in backbone.named_modules())


def test_a_backbone_says_what_it_is(tiny_backbone_config: dict[str, Any]) -> None:
    backbone = RandomBackbone(tiny_backbone_config)
    assert (backbone.hidden_size, backbone.vocab_size, backbone.context_length, backbone.source) == (32, 67, 128, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": None}, "needs a `model_type`, such as `qwen2`"),
        ({"model_type": "no_such_architecture"}, "transformers cannot build a 'no_such_architecture' backbone"),
    ],
)
def test_a_config_that_transformers_cannot_build_is_refused(
    tiny_backbone_config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        RandomBackbone({**tiny_backbone_config, **change})


def test_an_unknown_attention_is_refused(tiny_backbone_config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match='attn_implementation="no_such_kernel"'):
        RandomBackbone(tiny_backbone_config, attention="no_such_kernel")


def test_an_unknown_activation_is_refused(tiny_backbone_config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no_such_activation"):
        RandomBackbone({**tiny_backbone_config, "hidden_act": "no_such_activation"})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_weights_have_the_type_that_was_asked_for(tiny_backbone_config: dict[str, Any], dtype: Any) -> None:
    for backbone in (RandomBackbone(tiny_backbone_config, dtype), PretrainedBackbone(str(POLICY_FOLDER), dtype=dtype)):
        assert {p.dtype for p in backbone.parameters()} == {getattr(torch, dtype)}


def test_a_pretrained_backbone_gives_the_generators_own_hidden_states() -> None:
    generator = AutoModelForCausalLM.from_pretrained(POLICY_FOLDER).eval()
    backbone = PretrainedBackbone(str(POLICY_FOLDER)).eval()
    ids = torch.randint(4, 600, (2, 15))
    with torch.no_grad():
        expected = generator(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(backbone(ids), expected)
    assert backbone.source == str(POLICY_FOLDER)
    names = {name.removeprefix("transformer.") for name, _ in backbone.named_parameters()}
    assert names == {n.removeprefix("model.") for n, _ in generator.named_parameters()} - {"lm_head.weight"}


def test_a_pretrained_backbone_is_trained_in_training_mode() -> None:
    # transformers hands it over in evaluation mode
    assert all(module.training for module in PretrainedBackbone(str(POLICY_FOLDER)).modules())
    assert not any(module.training for module in PretrainedBackbone(str(POLICY_FOLDER), freeze="backbone").modules())


@pytest.fixture
def policy_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLICY_FOLDER, tmp_path / "policy"))


def test_a_folder_without_safetensors_is_refused_and_nothing_is_unpickled(policy_copy: Path) -> None:
    (policy_copy / "model.safetensors").unlink()
    (policy_copy / "pytorch_model.bin").write_bytes(b"a pickle that would be executed")
    with pytest.raises(InputError, match=r"expected a model folder with \*\.safetensors, but .*never unpickled"):
        PretrainedBackbone(str(policy_copy))


def test_a_folder_without_a_config_is_refused(policy_copy: Path) -> None:
    (policy_copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"could not load the model .*Check the name or folder"):
        PretrainedBackbone(str(policy_copy))


def test_a_name_that_the_hub_does_not_give_is_refused() -> None:
    with pytest.raises(InputError, match="could not load the model 'no/such-model'"):
        PretrainedBackbone("no/such-model")


def test_damaged_weights_are_refused(policy_copy: Path) -> None:
    path = policy_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match="could not load the model"):
        PretrainedBackbone(str(policy_copy))
