"""The depth model of NYUD2-DIR: encoder, decoder, multi-scale fusion and refinement (Hu et al., 2019).

Modules are called E, D, MFF and R, and their children as in the published checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import nn

from common.cli import ROOT
from common.errors import UserError
from common.training import checkpoint

IMAGENET = {"resnet50": "resnet50-0676ba61.pth", "resnet18": "resnet18-f37072fd.pth"}  # IMAGENET1K_V1
FUSED = 16  # channels that each block contributes to the multi-scale fusion


class UpProjection(nn.Module):
    """Resizes to `size`, then a residual pair of branches: `(n, C_in, h, w)` -> `(n, C_out, *size)`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv1_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn1_2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        main = self.bn1_2(self.conv1_2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(main + self.bn2(self.conv2(x)))


class Blocks(nn.Module):
    """E: the outputs of the four stages of a torchvision ResNet."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision import models  # takes as long as torch, and a --help builds no model

        resnet = models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        width = resnet.fc.in_features
        self.channels = (width // 8, width // 4, width // 2, width)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x, blocks = self.maxpool(self.relu(self.bn1(self.conv1(images)))), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            blocks.append(x)
        return blocks


class Decoder(nn.Module):
    """D: from the last block up to twice the size of the first, `width` / 32 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(width // 2)
        self.up1 = UpProjection(width // 2, width // 4)
        self.up2 = UpProjection(width // 4, width // 8)
        self.up3 = UpProjection(width // 8, width // 16)
        self.up4 = UpProjection(width // 16, width // 32)

    def forward(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        sizes = [tuple(block.shape[-2:]) for block in blocks]
        x = F.relu(self.bn(self.conv(blocks[3])))
        x = self.up3(self.up2(self.up1(x, sizes[2]), sizes[1]), sizes[0])
        return self.up4(x, (2 * sizes[0][0], 2 * sizes[0][1]))


class Fusion(nn.Module):
    """MFF: all four blocks at one size, 64 channels."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        for number, in_channels in enumerate(channels, 1):
            self.add_module(f"up{number}", UpProjection(in_channels, FUSED))
        fused = FUSED * len(channels)
        self.conv = nn.Conv2d(fused, fused, 5, padding=2, bias=False)
        self.bn = nn.BatchNorm2d(fused)

    def forward(self, blocks: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        ups = [getattr(self, f"up{number}") for number in range(1, len(blocks) + 1)]
        x = torch.cat([up(block, size) for up, block in zip(ups, blocks, strict=True)], dim=1)
        return F.relu(self.bn(self.conv(x)))


class Refinement(nn.Module):
    """R without its last layer, which is the regressor's head; FDS acts between the two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, bias=False)
        self.bn0 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn0(self.conv0(x)))
        return F.relu(self.bn1(self.conv1(x)))


class DepthEncoder(nn.Module):
    """Images `(n, 3, H, W)` -> feature maps `(n, feature_dim, H / 2, W / 2)`; 128 channels with ResNet-50."""

    def __init__(self, name: str = "resnet50") -> None:
        super().__init__()
        self.E = Blocks(name)
        width = self.E.channels[-1]
        self.D, self.MFF = Decoder(width), Fusion(self.E.channels)
        self.feature_dim = width // 32 + FUSED * len(self.E.channels)
        self.R = Refinement(self.feature_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blocks = self.E(images)
        decoded = self.D(blocks)
        fused = self.MFF(blocks, tuple(decoded.shape[-2:]))
        return self.R(torch.cat([decoded, fused], dim=1))


def depth_head(channels: int) -> nn.Conv2d:
    """The last layer of R: features to depth in metres, `(n, 1, H / 2, W / 2)`."""
    return nn.Conv2d(channels, 1, 5, padding=2)


def imagenet_file(name: str, folder: Path = ROOT / "data" / "imagenet") -> Path:
    """The file of torchvision's ImageNet weights of a ResNet: in `folder`, or in torch's cache.

    Fetched into the cache if it is in neither; raises UserError, with where to put it, if that fails.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for file in (folder / IMAGENET[name], cache / IMAGENET[name]):
        if file.is_file():
            return file
    from torchvision import models  # takes as long as torch

    file, url = cache / IMAGENET[name], models.get_model_weights(name).IMAGENET1K_V1.url
    try:
        cache.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem[-8:])
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"--pretrained_encoder imagenet: {url} cannot be fetched ({error}); put {file.name} into "
            f"{folder}, or start from --pretrained_encoder none"
        ) from error
    return file


def load_blocks(blocks: Blocks, file: Path) -> None:
    """Load torchvision's weights of a ResNet but for its last layer; raises UserError if they do not fit."""
    state = checkpoint.state_of(checkpoint.load(file), file)
    ours = blocks.state_dict()
    # Old files lack the counters of batch norm, which begin at 0.
    theirs = {key: value for key, value in ours.items() if key.endswith("num_batches_tracked")}
    theirs |= {key: value for key, value in state.items() if not key.startswith("fc.")}
    wrong = sorted(ours.keys() ^ theirs.keys()) or [k for k in ours if ours[k].shape != theirs[k].shape]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(f"{file}: is no encoder of this --model ({wrong[0]}{more})")
    blocks.load_state_dict(theirs)
