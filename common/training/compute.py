"""How the device computes: the encoder's precision, the order of sums, compilation.

Without a flag it is the reference: float32, sums in the order of before, one kernel after the other.
"""

from __future__ import annotations

import torch
from torch import nn

from common.errors import UserError
from common.settings import Training
from common.training.regressor import Regressor

LAYOUTS = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}


def bf16_obstacle(device: torch.device) -> str | None:
    """Return why a device is slow in bf16 or has none; None where it is fast."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
        return None if fast else "this GPU has none (compute capability 8.0 has)"
    if device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return None if fast else "this processor has none (AVX-512 bf16 or AMX)"
    return f"not on {device.type}"


def precision(amp: str, device: torch.device) -> str:
    """Return what `--amp` means on a device: `auto` is bf16 where the device is fast in it."""
    return amp if amp != "auto" else "off" if bf16_obstacle(device) else "bf16"


def check_device(training: Training, device: torch.device) -> None:
    """Raise UserError, naming the flag, where the device cannot compute as asked."""
    obstacle = bf16_obstacle(device) if training.amp == "bf16" else None
    if obstacle:
        raise UserError(f"--amp bf16: {obstacle}; use --amp off, or another --device")
    if training.compile:
        try:
            torch.compile(torch.neg, dynamic=True)(torch.zeros(2, device=device))
        except Exception as error:  # whatever is missing: a compiler, its headers, Triton
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"--compile: nothing can be compiled here ({reason[0]}); install a C++ compiler (on a GPU: Triton), "
                "or drop the flag"
            ) from error


def set_up_compute(regressor: Regressor, training: Training) -> None:
    """Make a complete regressor compute as the flags say."""
    regressor.bf16 = training.amp == "bf16"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = training.tf32
    for module in regressor.encoder.modules():
        layout = next((LAYOUTS[kind] for kind in LAYOUTS if isinstance(module, kind)), None)
        if (
            layout and training.reordered
        ):  # a convolution follows the layout of its weights, whatever its input has
            module.to(memory_format=layout)  # type: ignore[call-overload]  # torch declares it for tensors
        if layout and regressor.bf16:
            keep_small_maps_exact(module)
    if training.compile:
        # One graph for all sizes: which of several is taken would hang on the batches before a kill.
        regressor.encoder.compile(dynamic=True)


def keep_small_maps_exact(convolution: nn.Module) -> None:
    """Make a convolution on a CPU compute in float32 where its input has a side of 1, or of 2 in three dimensions.

    There oneDNN (in torch 2.12, with AVX-512 bf16) leaves parts of the weights' gradient unset, or sums wrong ones.
    """
    plain = convolution.forward

    def forward(maps: torch.Tensor) -> torch.Tensor:
        if maps.is_cuda or min(maps.shape[2:]) >= maps.dim() - 2:
            return plain(maps)
        with torch.autocast("cpu", enabled=False):
            return plain(maps.float())

    convolution.forward = forward
