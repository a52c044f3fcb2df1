"""learn2learn's models as networks: built by the library, with its initialisation, for any fitting input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from metabench import Invalid, Network, setting
from metabench.engine import drop_running_statistics
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn


class LibraryModel(nn.Module):
    """A model of the library in two parts: its `.features`, and its `.classifier` under the name `.head`.

    Batch norm always uses the batch's own statistics.
    """

    def __init__(self, model: Any, outputs: int | None) -> None:
        super().__init__()
        self.features: nn.Module = model.features
        self.head: nn.Module = nn.Identity() if outputs is None else model.classifier
        drop_running_statistics(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *input] to [n, outputs], or to features without a head."""
        result: Tensor = self.head(self.features(x))
        return result


@dataclass(frozen=True, kw_only=True)
class OmniglotCnn(FromLibrary, Network):
    """`learn2learn.vision.models.OmniglotCNN`: four strided convolution blocks and the mean over places.

    The network of Finn et al. 2017 for Omniglot; inputs of one channel, 28 × 28.
    """

    name: ClassVar[str] = "l2l-omniglot-cnn"

    width: int = setting(64, "channels of each block", at_least=1)
    layers: int = setting(4, "blocks", at_least=1)

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the library's model; raise Invalid for any other input than (1, 28, 28)."""
        if input_shape != (1, 28, 28):
            raise Invalid(f"{self.name} is made for inputs (1, 28, 28); this data has {input_shape}")
        model = learn2learn().vision.models.OmniglotCNN
        return LibraryModel(model(outputs or 1, hidden_size=self.width, layers=self.layers), outputs)


@dataclass(frozen=True, kw_only=True)
class OmniglotFc(FromLibrary, Network):
    """`learn2learn.vision.models.OmniglotFC`: fully connected layers with batch norm; inputs are flattened.

    The network of Santoro et al. 2016.
    """

    name: ClassVar[str] = "l2l-omniglot-fc"

    hidden: tuple[int, ...] = setting((256, 128, 64, 64), "width of each layer", at_least=1)

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the library's model, whose weights it samples from numpy's global RNG.

        That RNG is seeded from torch's for the time of the build, so that the cell's seed decides.
        """
        from metabench_plugins.learn2learn.rng import global_seed, torch_seed

        model = learn2learn().vision.models.OmniglotFC
        with global_seed(torch_seed()):
            module = model(math.prod(input_shape), outputs or 1, sizes=list(self.hidden))
        return LibraryModel(module, outputs)


@dataclass(frozen=True, kw_only=True)
class Cnn4(FromLibrary, Network):
    """`learn2learn.vision.models.CNN4`: convolution blocks with pooling, and all places flattened.

    The network of Ravi and Larochelle 2017 for mini-ImageNet.
    """

    name: ClassVar[str] = "l2l-cnn4"

    width: int = setting(64, "channels of each block", at_least=1)

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the library's model with four blocks, and a head of the width that these inputs need."""
        channels, height, width = _image(self.name, input_shape, smallest=16)
        embedding = self.width * (height // 16) * (width // 16)
        model = learn2learn().vision.models.CNN4(
            outputs or 1, hidden_size=self.width, channels=channels, embedding_size=embedding
        )
        return LibraryModel(model, outputs)


@dataclass(frozen=True, kw_only=True)
class ResNet12(FromLibrary, Network):
    """`learn2learn.vision.models.ResNet12`: the wide residual network of MetaOptNet (Lee et al. 2019).

    Departure from the library's default: DropBlock and dropout are off, since they sample from torch's
    global RNG.
    """

    name: ClassVar[str] = "l2l-resnet12"

    avg_pool: bool = setting(True, "average over 5 × 5 places; off for smaller images")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the library's model, and a head of the width that these inputs need."""
        channels, height, width = _image(self.name, input_shape, smallest=80 if self.avg_pool else 16)
        lost = 4 if self.avg_pool else 0
        model = learn2learn().vision.models.ResNet12(
            outputs or 1,
            hidden_size=640 * (height // 16 - lost) * (width // 16 - lost),
            avg_pool=self.avg_pool,
            dropblock_dropout=0.0,
            channels=channels,
        )
        return LibraryModel(model, outputs)


@dataclass(frozen=True, kw_only=True)
class Wrn28(FromLibrary, Network):
    """`learn2learn.vision.models.WRN28`: the wide residual network 28-10 of Dhillon et al. 2020."""

    name: ClassVar[str] = "l2l-wrn28"

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the library's model, and a head of the width that these inputs need."""
        channels, height, width = _image(self.name, input_shape, smallest=81)
        if channels != 3:
            raise Invalid(f"{self.name} is made for three channels; this data has inputs {input_shape}")
        places = math.prod((side + 3) // 4 // 21 for side in (height, width))
        return LibraryModel(
            learn2learn().vision.models.WRN28(outputs or 1, hidden_size=640 * places), outputs
        )


def _image(name: str, input_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise Invalid(
            f"{name} needs images (channels, height, width) of at least {smallest} × {smallest}; "
            f"this data has inputs {input_shape}"
        )
    channels, height, width = input_shape
    return channels, height, width
