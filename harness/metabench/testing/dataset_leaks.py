"""How a data set gives its answers away: labels at a place of the image, copies of training images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.contracts import Episodes

READABLE = 0.99  # of the queries answered from one place
FEW = 0.25  # of the places: where most of an image gives the answer, the answer is what the image shows
ALIKE = 0.99  # correlation of a near copy with its original
COPIES = 0.05  # of the test images: published data sets have some near copies, and are standards
SIDE = 32


def readable_places(episodes: Episodes, ways: int) -> list[str]:
    """Return places of the image from which a query's label can be read, if they are few.

    A place is a pixel of a channel or a block of 4×4 pixels. It is readable if the nearest support example
    by this place alone, or the nearest mean of a label over other tasks, has the query's label.
    """
    support, query = _images(episodes.support.x), _images(episodes.query.x)
    if support.shape[-1] * support.shape[-2] < 4:
        return []
    places = []
    for block in (1, 4):
        if min(support.shape[-2:]) < 2 * block:
            continue
        scores = torch.maximum(
            _by_support(support, episodes.support.y, query, episodes.query.y, block),
            _by_label(query, episodes.query.y, ways, block),
        )
        readable = scores >= READABLE
        if 0 < int(readable.sum()) <= FEW * readable.numel():
            places += [
                f"channel {place[0]}, row {place[1]}, column {place[2]}" if block == 1
                else f"the 4×4 pixels at row {4 * place[1]}, column {4 * place[2]}"
                for place in readable.nonzero().tolist()
            ]  # fmt: skip
    return places


def near_copies(train: Tensor, test: Tensor) -> float:
    """Return the fraction of test images that correlate by 0.99 with a training image.

    train, test: [n, channels, height, width]. Also found are copies moved by one pixel, mirrored, or of
    another brightness or contrast; images of one even colour are passed over.
    """
    originals, _ = _unit(_small(train))
    small = _small(test)
    best = torch.zeros(len(small))
    _, even = _unit(small)
    for mirrored in (small, small.flip(-1)):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                moved, _ = _unit(torch.roll(mirrored, (down, right), (-2, -1)))
                best = torch.maximum(best, (moved @ originals.T).amax(1))
    return float(((best >= ALIKE) & ~even).float().mean())


def _images(x: Tensor) -> Tensor:
    """[T, n, channels, height, width] in float64."""
    x = x.detach().cpu().double()
    return x if x.dim() == 5 else x.unsqueeze(2)


def _pooled(difference: Tensor, block: int) -> Tensor:
    """Squared differences [a, b, c, C, H, W], added up within blocks: [a, b, c, C', H', W']."""
    if block == 1:
        return difference
    flat = difference.sum(-3, keepdim=True).flatten(0, 2)
    pooled = F.avg_pool2d(flat, block)
    return pooled.view(*difference.shape[:3], *pooled.shape[1:])


def _by_support(support: Tensor, labels: Tensor, query: Tensor, target: Tensor, block: int) -> Tensor:
    """The accuracy of the nearest support example, by each place alone."""
    right = []
    for s, y, q, t in zip(support, labels.cpu(), query, target.cpu(), strict=True):
        nearest = _pooled((q[:, None] - s[None])[None] ** 2, block)[0].argmin(1)  # [queries, C, H, W]
        right.append(y[nearest] == t.view(-1, 1, 1, 1))
    return torch.cat(right).double().mean(0)


def _by_label(query: Tensor, target: Tensor, ways: int, block: int) -> Tensor:
    """The accuracy in the second half of the tasks of the nearest mean of each label in the first half."""
    half = len(query) // 2
    x, y = query[:half].flatten(0, 1), target[:half].cpu().flatten()
    means = torch.stack([x[y == way].mean(0) for way in range(ways)])
    right = []
    for q, t in zip(query[half:], target[half:].cpu(), strict=True):
        nearest = _pooled((q[:, None] - means[None])[None] ** 2, block)[0].argmin(1)
        right.append(nearest == t.view(-1, 1, 1, 1))
    return torch.cat(right).double().mean(0)


def _small(images: Tensor) -> Tensor:
    grey = images.detach().cpu().float().mean(1, keepdim=True)
    size = (min(SIDE, grey.shape[-2]), min(SIDE, grey.shape[-1]))
    return F.adaptive_avg_pool2d(grey, size)[:, 0]


def _unit(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images as vectors of mean 0 and norm 1, and which are of one even colour."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp_min(1e-12), norm[:, 0] < 1e-6
