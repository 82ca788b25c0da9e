"""Weights files: both formats there and back, and every way in which a file can be wrong."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gan2shape.jobs.weights.files import CheckpointError
from gan2shape.jobs.weights.stylegan2_file import export_rosinality, load_gan, save_gan
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from gan2shape.schemas.errors import UserError

CHANNELS = {4: 12, 8: 10, 16: 8, 32: 6}


def tree(size: int = 32) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "g_ema": dict(Generator(size, 16, 3, CHANNELS).state_dict()),
        "d": dict(Discriminator(size, CHANNELS).state_dict()),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gan.pt"


def same(a: torch.nn.Module | None, state: dict[str, torch.Tensor]) -> bool:
    assert a is not None
    own = a.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in own)


def test_both_formats_there_and_back(file: Path, tmp_path: Path) -> None:
    content = tree()
    content["latent_avg"] = torch.randn(16)
    torch.save(content, file)
    gan = load_gan(file)
    assert (gan.generator.size, gan.generator.style_dim, gan.generator.mapping_depth) == (32, 16, 3)
    assert gan.generator.channels == CHANNELS
    assert gan.generator.num_layers == 8
    assert not any(p.requires_grad for p in gan.generator.parameters())
    own, back = tmp_path / "own.safetensors", tmp_path / "back.pt"
    save_gan(gan, own)
    again = load_gan(own)
    export_rosinality(again, back)
    for other in (gan, again, load_gan(back)):
        assert same(other.generator, content["g_ema"])
        assert same(other.discriminator, content["d"])
        assert other.latent_avg is not None
        assert torch.equal(other.latent_avg, content["latent_avg"])
    raw = torch.load(back, weights_only=True)
    assert set(raw) == {"g_ema", "d", "latent_avg"}


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    gan = load_gan("heads64")
    digests = set()
    for _ in range(3):
        save_gan(gan, tmp_path / "again.safetensors", half=True)
        digests.add(load_gan(tmp_path / "again.safetensors").sha256)
    assert digests == {gan.sha256}


def change(edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = tree()
    return edit(content) or content


def test_training_checkpoints_of_all_kinds_load(file: Path) -> None:
    def drop(content: dict[str, Any], *, noise: bool) -> None:
        state = content["g_ema"]
        for key in [k for k in state if ("noise_" in k) == noise and ("kernel" in k) != noise]:
            del state[key]

    extras = {
        "g": {},
        "g_optim": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(batch=4, lr=0.002),
        "ada_aug_p": 0.1,
    }
    prefixed = tree()
    prefixed["g_ema"] = {f"module.{k}": v for k, v in prefixed["g_ema"].items()}
    no_noise, no_kernel = tree(), tree()
    drop(no_noise, noise=True)
    drop(no_kernel, noise=False)
    assert not any("noise_" in key for key in no_noise["g_ema"])
    assert not any("kernel" in key for key in no_kernel["g_ema"])
    half = tree()
    half["d"] = {k: v.half() for k, v in half["d"].items()}
    plain_g = tree()
    plain_g["g"] = plain_g.pop("g_ema")
    variants = [tree() | extras, prefixed, no_noise, no_kernel, half, plain_g]
    pictures = []
    for content in variants:
        torch.save(content, file)
        gan = load_gan(file)
        pictures.append(gan.generator(torch.ones(1, 16)))
        assert gan.discriminator is not None
        assert gan.discriminator.convs[0][0].weight.dtype == torch.float32
    for picture in pictures[1:]:
        # new noise maps are the constructor's own, which these files hold too
        torch.testing.assert_close(picture, pictures[0])


def test_old_style_files_load(file: Path) -> None:
    torch.save(tree(), file, _use_new_zipfile_serialization=False)
    assert load_gan(file).generator.size == 32


def test_generator_alone(file: Path) -> None:
    content = tree()
    for alone in (content["g_ema"], {"g_ema": content["g_ema"]}, {"g": content["g_ema"]}):
        torch.save(alone, file)
        with pytest.raises(CheckpointError, match="holds no discriminator"):
            load_gan(file)
        gan = load_gan(file, require_discriminator=False)
        assert gan.discriminator is None
        assert same(gan.generator, content["g_ema"])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch pwned",))


def _without(part: str, key: str) -> dict[str, Any]:
    content = tree()
    del content[part][key]
    return content


def _reshaped() -> dict[str, Any]:
    content = tree()
    content["g_ema"]["convs.1.conv.weight"] = torch.zeros(1, 9, 10, 3, 3)
    return content


def _not_finite() -> dict[str, Any]:
    content = tree()
    content["d"]["final_linear.1.bias"] = torch.tensor([float("nan")])
    return content


def _mixed() -> dict[str, Any]:
    return {"g_ema": tree(32)["g_ema"], "d": tree(16)["d"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"g_ema": Evil()}, "could run code"),
        (lambda: torch.nn.Linear(2, 2).state_dict(), "'input.input' is missing"),
        (lambda: {"epoch": 3, "args": "x"}, "no StyleGAN2 generator"),
        (dict, "no StyleGAN2 generator"),
        (lambda: [1, 2], "holds a list"),
        (lambda: torch.zeros(3), "holds a Tensor"),
        (lambda: {"g_ema": {}, "d": {}}, "'input.input' is missing"),
        (lambda: _without("g_ema", "conv1.activate.bias"), "'conv1.activate.bias' is missing"),
        (lambda: _without("g_ema", "style.2.weight"), r"'style\.\d\.\w+' is"),
        (lambda: _without("g_ema", "style.1.weight"), "'style.1.weight' is missing"),
        (lambda: _without("d", "final_conv.0.weight"), "'final_conv.0.weight' is missing"),
        (lambda: _without("d", "convs.0.0.weight"), "'convs.0.0.weight' is missing"),
        (_reshaped, "'convs.1.conv.weight' has shape"),
        (_not_finite, "not finite"),
        (_mixed, "32 px generator with a 16 px discriminator"),
    ],
)
def test_wrong_content_gets_one_sentence(
    content: Callable[[], Any],
    message: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(), file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_gan(file)
    check_sentence(caught.value, file)
    assert not (tmp_path / "pwned").exists()


def _bytes_of(content: Any, path: Path) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["gan.pt", "gan.safetensors"])
@pytest.mark.parametrize("kind", ["empty", "text", "zeros", "cut", "half", "png"])
def test_broken_files_get_one_sentence(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        whole = _bytes_of(tree(), path)
    else:
        torch.save(tree(), tmp_path / "gan.pt")
        save_gan(load_gan(tmp_path / "gan.pt"), path)
        whole = path.read_bytes()
    content = {
        "empty": b"",
        "text": b"not a checkpoint\n" * 20,
        "zeros": bytes(1000),
        "cut": whole[:-100],
        "half": whole[: len(whole) // 2],
        "png": b"\x89PNG\r\n\x1a\n" + bytes(300),
    }[kind]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cut off") as caught:
        load_gan(path)
    check_sentence(caught.value, path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a StyleGAN2 file") as caught:
        load_gan(path)
    check_sentence(caught.value, path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"one of: .*heads64") as caught:
        load_gan(tmp_path / "none.pt")
    check_sentence(caught.value, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder") as caught:
        load_gan(tmp_path)
    check_sentence(caught.value, tmp_path)


def check_sentence(error: Exception, path: Path) -> None:
    text = str(error)
    assert isinstance(error, UserError)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 400 + len(str(path))


def test_shipped_weights_know_where_they_come_from() -> None:
    gan = load_gan("heads64")
    assert isinstance(gan, Gan)
    assert gan.source == "heads64"
    assert len(gan.sha256) == 64
    assert gan.generator.channels == {4: 128, 8: 128, 16: 128, 32: 64, 64: 32}
