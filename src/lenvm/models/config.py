"""What config.json of a trained length value model says (DESIGN section 7)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lenvm.errors import InputError
from lenvm.returns import check_gamma

FORMAT_VERSION = 1
_JSON_NAMES = {dict: "object", int: "number", str: "string"}
_OPTIONAL = {"shared_backbone": dict, "shortest_length": int, "longest_length": int, "training_prompts": str}
_TYPES: dict[str, type] = {"backbone": dict, "head": dict, "target": dict, "format_version": int, **_OPTIONAL}


@dataclass(frozen=True, kw_only=True)
class LengthValueConfig:
    """Everything besides the weights that is needed to use a length value model.

    Args:
        backbone: the transformers configuration of the backbone, with its `model_type`.
        head: class path and arguments of the head.
        target: class path and arguments of the target.
        gamma: discount factor of values and horizons.
        generator: name of the model whose completions were learned; None if unknown.
        tokenizer_fingerprint: hash of the vocabulary (`lenvm.data.tokenizer.fingerprint`); None if unknown.
        prompt_format: how text prompts became tokens: `auto`, `chat` or `plain`.
        shared_backbone: arguments of the `SharedBackbone`, where the model is a head on the generator's hidden states;
            the generator's weights are then not in the folder. None where the backbone is the model's own.
        shortest_length: tokens of the shortest training completion; None if unknown.
        longest_length: tokens of the longest training completion; None if unknown.
        training_prompts: the prompts it was trained on (`lenvm.data.prompt_set.PromptSet`); None if unknown.
        lenvm_version: version that wrote the file.
        format_version: version of this schema.
    """

    backbone: dict[str, Any]
    head: dict[str, Any]
    target: dict[str, Any]
    gamma: float
    generator: str | None = None
    tokenizer_fingerprint: str | None = None
    prompt_format: str = "auto"
    shared_backbone: dict[str, Any] | None = None
    shortest_length: int | None = None
    longest_length: int | None = None
    training_prompts: str | None = None
    lenvm_version: str | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> str:
        """The text of config.json."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_dict(data: dict[str, Any], origin: str) -> LengthValueConfig:
        """Reads what `to_json` or a checkpoint holds; `origin` names it in errors."""
        if not isinstance(data, dict):
            raise InputError(f"{origin} does not describe a length value model: expected a JSON object, got {data!r}.")
        known = {f.name for f in fields(LengthValueConfig)}
        missing = {"backbone", "head", "target", "gamma"} - set(data)
        if missing or set(data) - known:
            raise InputError(
                f"{origin} does not describe a length value model: missing {sorted(missing)}, "
                f"unknown {sorted(set(data) - known)}; expected what `lenvm export` writes."
            )
        for name, wanted in _TYPES.items():
            if name in data and not isinstance(data[name], wanted) and not (name in _OPTIONAL and data[name] is None):
                raise InputError(f"{origin}: `{name}` must be a JSON {_JSON_NAMES[wanted]}, got {data[name]!r}.")
        if data.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
            raise InputError(f"{origin} was written by a newer lenvm ({data.get('lenvm_version')}); update lenvm.")
        check_gamma(data["gamma"])
        return LengthValueConfig(**data)

    @staticmethod
    def from_file(path: Path) -> LengthValueConfig:
        """Reads a config.json."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"expected a config.json of a length value model at {path}, found none.") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not valid JSON: {error}") from error
        return LengthValueConfig.from_dict(data, str(path))
