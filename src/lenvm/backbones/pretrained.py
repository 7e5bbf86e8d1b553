"""A backbone with the weights of a published or local model."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel

from lenvm.backbones.base import AbstractOwnBackbone, DType, Freezing, torch_dtype
from lenvm.errors import InputError


class PretrainedBackbone(AbstractOwnBackbone):
    """Loads a transformer by hub name or folder; its language-model head, if it has one, is left out.

    Args:
        name: a model's name on the hub, such as `Qwen/Qwen2.5-0.5B-Instruct`, or a folder with safetensors.
        revision: branch, tag or commit on the hub.
        dtype: type of the weights. Keep `float32` for training and set the trainer's precision to `bf16-mixed`.
        attention: attention implementation of transformers: `sdpa`, `eager`, `flash_attention_2`, ...
        freeze: `none`; `backbone` trains the head alone; a number k freezes the embeddings and the first k layers.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        dtype: DType = "float32",
        attention: str = "sdpa",
        freeze: Freezing = "none",
        gradient_checkpointing: bool = False,
    ) -> None:
        transformer = load_transformer(name, revision, dtype, attention)
        if gradient_checkpointing:
            # transformers 5.2x renames it, and warns about the older name
            enable = getattr(transformer, "activation_checkpointing_enable", None)
            (enable or transformer.gradient_checkpointing_enable)()
        super().__init__(transformer, freeze)


def load_transformer(name: str, revision: str | None, dtype: DType, attention: str) -> PreTrainedModel:
    """The model of this name or folder, without a head.

    Raises:
        InputError: if there is none, or if its weights would have to be unpickled.
    """
    folder = Path(name)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"expected a model folder with *.safetensors, but {folder} has none; weights are never unpickled: "
            "convert the model with `save_pretrained` first."
        )
    try:
        model: PreTrainedModel = AutoModel.from_pretrained(
            name,
            revision=revision,
            dtype=torch_dtype(dtype),
            attn_implementation=attention,
            use_safetensors=True,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"could not load the model {name!r}: {reason} Check the name or folder.") from error
    return model
