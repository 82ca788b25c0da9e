"""Seconds of the StyleGAN2 networks and of the inversion, on one CPU thread.

    OMP_NUM_THREADS=1 python tests/bench/bench_stylegan2.py [--images FOLDER]

Times are the process's own CPU time (for the networks the minimum of several runs), which other
work disturbs least. With a folder of 64 px images the inversion's error is that on them,
without one that on pictures of the generator itself, which are easy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.perceptual.feature_distance import feature_distance
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.stylegan2 import Gan
from gan2shape.schemas.settings import InversionConfig

BATCH = 16


def seconds(work: Callable[[], object], repeats: int = 6) -> float:
    work()
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def networks(gan: Gan) -> None:
    generator, discriminator = gan.generator, gan.discriminator
    assert discriminator is not None
    latents = generator.sample_latents(BATCH, seed=0)
    weights = torch.ones(BATCH, generator.size, generator.size)
    with torch.no_grad():
        targets = discriminator.features(generator(generator.sample_latents(BATCH, seed=1)), 4)

    def forward() -> None:
        with torch.no_grad():
            generator(latents)

    def both() -> None:
        w = latents.clone().requires_grad_()
        maps = discriminator.features(generator(w), 4)
        feature_distance(maps, targets, weights).sum().backward()

    for name, enabled in (("float32", False), ("bfloat16", True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            print(
                f"{name}: {BATCH} images: generator {seconds(forward) * 1e3:.0f} ms, generator + "
                f"4 feature maps, forward and backward {seconds(both) * 1e3:.0f} ms"
            )


def inversion(gan: Gan, images: Tensor) -> None:
    for iterations in (100, 200, 400):
        config = InversionConfig(
            iterations=iterations, batch=BATCH, learning_rate=0.3, perceptual_weight=1.0
        )
        start = time.process_time()
        found = invert(gan, images, config)
        each = (time.process_time() - start) / len(images)
        print(
            f"inversion, {iterations} iterations: L1 {found.l1.mean():.4f} (worst "
            f"{found.l1.max():.4f}), {each:.2f} s/image"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    folder = parser.parse_args().images
    torch.set_num_threads(1)
    gan = load_gan("heads64")
    networks(gan)
    if folder is None:
        with torch.no_grad():
            images = gan.generator(gan.generator.sample_latents(BATCH, seed=9)).clamp(-1, 1)
    else:
        files = sorted(folder.glob("*.png"))[:BATCH]
        arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    inversion(gan, images.contiguous())


if __name__ == "__main__":
    main()
