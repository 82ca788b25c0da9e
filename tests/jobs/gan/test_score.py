"""Measuring weights against a folder: which images are compared, and what is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from gan2shape.jobs.gan.score import score, score_table
from gan2shape.jobs.training.arrays import others, read_images, subset
from gan2shape.jobs.training.gan_quality import PART
from gan2shape.jobs.training.workdir import Cache
from gan2shape.jobs.weights.stylegan2_file import load_gan, save_gan
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.schemas.errors import UserError
from tests.inception import TinyInception, write_script

WIDTHS = {4: 8, 8: 8, 16: 8}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "gan.safetensors"
    torch.manual_seed(0)
    generator, discriminator = Generator(16, 8, 2, WIDTHS), Discriminator(16, WIDTHS)
    save_gan(Gan(generator.eval(), discriminator, "", ""), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_script(tmp_path / "net.pt", TinyInception(1))


def write(folder: Path, images: Tensor) -> Path:
    """`images` (N, 3, S, S) in [-1, 1] as files."""
    folder.mkdir()
    pixels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    for number, image in enumerate(pixels.contiguous().numpy()):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def samples(weights: Path, count: int, seed: int) -> Tensor:
    generator = load_gan(weights).generator
    return torch.cat([generator(w) for w in generator.sample_latents(count, seed).split(PART)])


def noise(count: int) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_gan_s_own_samples_score_like_real_images_and_noise_does_not(weights, net, tmp_path):
    own = write(tmp_path / "own", samples(weights, 120, seed=7))
    like = score(str(weights), str(own), net, 60)
    assert (like.images, like.fid_images) == (60, 60)
    assert like.wasserstein_of_real is not None
    assert like.fid is not None
    assert like.fid_of_real is not None
    assert like.wasserstein.keys() == like.wasserstein_of_real.keys() == {"16", "layout", "mean"}
    unlike = score(str(weights), str(write(tmp_path / "noise", noise(120))), net, 60)
    assert unlike.fid is not None
    assert unlike.wasserstein["mean"] > 5 * like.wasserstein["mean"]
    assert unlike.fid > 5 * like.fid
    for found, real in (
        (like.wasserstein["mean"], like.wasserstein_of_real["mean"]),
        (like.fid, like.fid_of_real),
    ):
        assert found < 3 * real


def test_the_very_samples_score_zero(weights, net, tmp_path):
    same = write(tmp_path / "same", samples(weights, 20, seed=0))
    found = score(str(weights), str(same), net)
    assert found.images == found.fid_images == 20
    assert found.wasserstein["layout"] < 5  # rounding to bytes
    assert found.fid == pytest.approx(0, abs=0.1)
    assert found.wasserstein_of_real is None
    assert found.fid_of_real is None


def test_other_images_are_others():
    for count, most in ((40, 20), (100, 7)):
        first, second = subset(count, most), others(count, most)
        assert len({*first} | {*second}) == 2 * most
        for rows in (first, second):
            assert list(rows) == sorted(rows)
            assert rows[0] >= 0
            assert rows[-1] < count
        assert np.array_equal(others(count, most), second)


def test_a_random_choice_of_a_large_folder_is_read(tmp_path):
    folder = write(tmp_path / "images", noise(30))

    def read(name: str, most: int | None) -> np.ndarray:
        cache = Cache(tmp_path / name)
        return read_images(str(folder), 16, cache, lambda text: None, most).values

    data = read("a", 12)
    assert data.shape == (12, 16, 16, 3)
    assert len(np.unique(data.reshape(12, -1), axis=0)) == 12
    assert np.array_equal(data, read("b", 12))
    assert len(read("a", None)) == 30  # not taken for all images


def test_the_table(weights, net, tmp_path, capsys):
    folder = write(tmp_path / "images", noise(20))
    for inception, lines in ((None, 5), (net, 6)):
        Console(width=100).print(score_table(score(str(weights), str(folder), inception, 8)))
        printed = capsys.readouterr().out
        assert "8 samples against 8 images" in printed
        assert len(printed.splitlines()) == lines
        assert ("FID" in printed) == (inception is not None)


def test_an_empty_folder_is_one_sentence(weights, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        score(str(weights), str(tmp_path / "empty"))
