"""The precision that horizons are computed in."""

from __future__ import annotations

import torch


def finest_float(device: torch.device) -> torch.dtype:
    """float64 where the device has it: lengths apart by a token have horizons that float32 may not tell apart."""
    return torch.float32 if device.type == "mps" else torch.float64
