"""Which arithmetic the networks run in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware; elsewhere float32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(known.get(name) for name in ("amx_bf16", "avx512_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Context in which convolutions run in `precision` ("auto", "float32", "bfloat16").

    Parameters, losses and all geometry stay in float32.
    """
    enabled = precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
