"""How fast tasks are drawn and data sets are loaded, and how much memory that takes.

    python benchmarks/sampling.py            all figures, some minutes
    python benchmarks/sampling.py --quick    the same code on small sizes, seconds

Sampling is compared with learn2learn's TaskDataset where that is installed (both on one thread, in turn,
on the same 20,000 images of 1,000 classes). Sizes are those of Omniglot and mini-ImageNet, generated.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from tabulate import tabulate

from metabench import Protocol
from metabench.data import ClassIndex, TensorSource
from metabench.device import Device

TASKS = 32
PROTOCOLS = {"5-way 1-shot": (5, 1), "5-way 5-shot": (5, 5), "20-way 1-shot": (20, 1)}


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look in seconds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.quick)
        return
    torch.set_num_threads(1)
    sampling(classes=100 if options.quick else 1000, rounds=3 if options.quick else 15)
    loading(options.quick)


def sampling(classes: int, rounds: int) -> None:
    """Microseconds a task, and the ratio to learn2learn."""
    images, images_per_class = torch.rand(classes * 20, 1, 28, 28), 20
    pixels = (images * 255).to(torch.uint8).numpy()
    index = ClassIndex.of_counts([str(n) for n in range(classes)], [images_per_class] * classes)
    source = TensorSource("benchmark", pixels, {"train": index}, Device())
    other = _learn2learn(images, classes, images_per_class)
    rows = []
    for title, (ways, shots) in PROTOCOLS.items():
        protocol = Protocol(ways, shots, shots)
        step = 0

        def ours(protocol: Protocol = protocol) -> None:
            nonlocal step
            source.episodes("train", protocol, range(step * TASKS, (step + 1) * TASKS), 0)
            step += 1

        theirs = other(ways, shots) if other else None
        mine, their = [], []
        for _ in range(rounds):
            mine.append(_seconds(ours, 20) / TASKS)
            if theirs:
                their.append(_seconds(theirs, TASKS))
        ratios = [b / a for a, b in zip(mine, their, strict=False)]
        rows.append([title, _microseconds(mine), _microseconds(their), _spread(ratios)])
    heads = [f"{classes} classes of {images_per_class}", "metabench µs/task", "learn2learn µs/task", "ratio"]
    print(tabulate(rows, heads))
    if other is None:
        print("learn2learn is not installed: no ratio (pip install 'metabench[learn2learn]')")
    print()


def loading(quick: bool) -> None:
    """Zip to cached tensor, cache to tensor, and the peak memory of each, in processes of their own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(METABENCH_DATA=f"{folder}/data", METABENCH_CACHE=f"{folder}/cache")
        _write_omniglot(Path(folder) / "data")
        for part in ("omniglot-zip", "omniglot-cache", "mini-make", "mini-cache", "mini-map"):
            command = [sys.executable, __file__, "--child", part, *(["--quick"] if quick else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            rows.append(done.stdout.strip().split("|"))
    print(tabulate(rows, ["what", "seconds", "tensor MiB", "memory above the bare process, × tensor"]))


def _child(part: str, quick: bool) -> None:
    """One measurement, printed as a row: in a process of its own, so that its peak memory is its own."""
    from metabench.data import cached, tensor_source
    from metabench_plugins.datasets.omniglot import Omniglot

    torch.rand(8, 8) @ torch.rand(8, 8)  # what torch allocates at first use is part of the bare process
    base = _anonymous_bytes()
    with _peak() as peak:
        start = time.perf_counter()
        if part.startswith("omniglot"):
            source: Any = Omniglot(size=105, rotations=False).load(Device())
        else:
            count = 600 if quick else 60_000
            index = ClassIndex.of_counts([str(n) for n in range(count // 600)], [600] * (count // 600))
            if part == "mini-map":
                tensor_source.MEMORY_FRACTION = 0.0  # as on a machine with less memory than the data
            pixels = cached("mini", (count, 3, 84, 84), _noise)
            source = TensorSource(
                "mini", pixels, {"train": index}, Device(), mean=(0.5,) * 3, std=(0.25,) * 3
            )
        seconds = time.perf_counter() - start
        for step in range(20):
            ways = min(5, len(source.splits["train"]))
            source.episodes("train", Protocol(ways, 1, 15), range(step * 4, step * 4 + 4), 0)
    size = source.examples.numel()
    images = f"{size // source.examples[0].numel():,} × {' × '.join(map(str, source.examples.shape[1:]))}"
    titles = {
        "omniglot-zip": "from zip to cached tensor",
        "omniglot-cache": "from the cache",
        "mini-make": "made into the cache, sampled",
        "mini-cache": "from the cache, sampled",
        "mini-map": "as a memory map, sampled",
    }
    above = (max(peak) - base) / size
    print(f"{images} {titles[part]}|{seconds:.2f}|{size / 2**20:.0f}|{above:.2f}")


@contextlib.contextmanager
def _peak() -> Iterator[list[int]]:
    """Anonymous bytes of this process every 10 ms, gathered by a thread."""
    seen, ended = [_anonymous_bytes()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            seen.append(_anonymous_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _anonymous_bytes() -> int:
    """Memory of this process that is no file's: the kernel may drop pages of a mapped cache file."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def _noise(out: np.ndarray[Any, Any]) -> None:
    block = np.random.default_rng(0).integers(0, 256, (600, *out.shape[1:]), dtype=np.uint8)
    for first in range(0, len(out), 600):
        out[first : first + 600] = block


def _write_omniglot(folder: Path) -> None:
    """Archives with upstream's names and 32,460 drawings: strokes on 105×105 1-bit PNG."""
    from PIL import Image, ImageDraw

    from metabench_plugins.datasets.omniglot import lake

    drawings = []
    random = np.random.default_rng(0)
    for _ in range(200):
        picture = Image.new("1", (105, 105), 1)
        points = [tuple(p) for p in random.integers(10, 95, (6, 2)).tolist()]
        ImageDraw.Draw(picture).line(points, fill=0, width=2)
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        drawings.append(buffer.getvalue())
    (folder / "omniglot").mkdir(parents=True)
    parts = {"images_background": ("train", "validation"), "images_evaluation": ("test",)}
    for name, splits in parts.items():
        with zipfile.ZipFile(folder / "omniglot" / f"{name}.zip", "w") as archive:
            for character in (c for split in splits for c in lake()[split]):
                for drawer in range(1, 21):
                    content = drawings[int(random.integers(len(drawings)))]
                    archive.writestr(f"{name}/{character}/0001_{drawer:02d}.png", content)


def _learn2learn(
    images: torch.Tensor, classes: int, images_per_class: int
) -> Callable[[int, int], Callable[[], Any]] | None:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            import learn2learn as l2l
            from learn2learn.data.transforms import ConsecutiveLabels, KShots, LoadData, NWays, RemapLabels
    except ImportError:
        return None
    labels = torch.arange(classes).repeat_interleave(images_per_class).tolist()

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, place: int) -> Any:
            return images[place], labels[place]

    data = l2l.data.MetaDataset(Images())

    def tasks(ways: int, shots: int) -> Callable[[], Any]:
        steps = [NWays(data, ways), KShots(data, 2 * shots), LoadData(data), RemapLabels(data)]
        sampler = l2l.data.TaskDataset(data, [*steps, ConsecutiveLabels(data)])
        return sampler.sample  # type: ignore[no-any-return]

    return tasks


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _microseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.1f}" if seconds else "–"


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
