"""The command as people meet it: help, mistakes, a whole run, Ctrl-C."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from gan2shape.cli import INTERRUPTED, cli, main
from gan2shape.jobs.run.store import open_run
from gan2shape.jobs.weights.networks_file import networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.schemas.packaged import GAN_FILE, asset_path
from gan2shape.schemas.settings import ORIGIN
from tests.jobs import tiny
from tests.networks import tiny_networks


def call(capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gan2shape", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def command(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


def commands(group: click.Group = cli, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield words
    for name, inner in group.commands.items():
        if isinstance(inner, click.Group):
            yield from commands(inner, *words, name)
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_tells_of_every_option_and_has_examples(command, words):
    code, out, _ = command(*words, "--help")
    assert code == 0
    assert "Usage:" in out
    found = cli
    for word in words:
        found = found.commands[word]
    with click.Context(found) as context:
        options = [each for each in found.get_params(context) if isinstance(each, click.Option)]
    assert [option.name for option in options if not option.help] == []
    if not isinstance(found, click.Group):
        assert "Example" in out


def examples() -> Iterator[str]:
    """The command lines in the help of every command."""
    for words in commands():
        found = cli
        for word in words:
            found = found.commands[word]
        lines = re.sub(r"\\\n\s+", "", found.help or "").splitlines()
        yield from (line.strip() for line in lines if line.strip().startswith("gan2shape "))


@pytest.mark.parametrize("line", sorted(set(examples())))
def test_examples_are_commands(line, monkeypatch, tmp_path):
    """Each is parsed, and not run."""
    for file in ("vgg.pth", "inception-2015-12-05.pt"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(line)
    context, found = click.Context(cli), cli
    while isinstance(found, click.Group) and words[0] in found.commands:
        name, *words = words
        found = found.commands[name]
        context = click.Context(found, context, name)
    found = getattr(found, "whole", found)
    found.make_context(found.name, words, parent=context).close()


def test_version(command):
    code, out, _ = command("--version")
    assert code == 0
    assert out.startswith("gan2shape, version ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("status {tmp}/absent", "no run directory"),
        ("resume {tmp}/absent", "no run directory"),
        ("report {tmp}/absent", "{tmp}/absent"),
        ("reconstruct {tmp}/absent --model heads64 --out {tmp}/r", "no folder"),
        ("reconstruct {tmp} --model heads64 --out {tmp}/r", "no images"),
        ("reconstruct {img} --gan x.pt --category heads --out {tmp}/r", "x.pt"),
        ("reconstruct {img} --model heads64 --out {img}", "not empty"),
        ("reconstruct {img} --model no --out r", "heads64"),
        ("reconstruct {img} --model {img} --out r", "is not a model"),
        ("reconstruct {img} --out r", "Give --model"),
        ("reconstruct {img} --gan heads64 --category face --out r", "nearest is 'faces'"),
        ("reconstruct {img} --model heads64 --out r --recipe foward", "nearest is 'forward'"),
        ("reconstruct {img} --model heads64 --out r --set batch", "KEY=VALUE"),
        ("reconstruct {img} --model heads64 --out r --set a.b=1", "unknown"),
        ("reconstruct {img} --model heads64 --out r --set seed=[", "YAML"),
        ("reconstruct {img} --model heads64 --out r --set seed={deep}", "50 levels deep"),
        ("reconstruct {img} --model heads64 --out r --set group_size=0", "group_size"),
        ("reconstruct {img} --model heads64 --out r --set view_prior.view_scale=.inf", "finite"),
        ("reconstruct {img} --model heads64 --out r --recipe {img}/img0.png", "a text file"),
        ("reconstruct {img} --model heads64 --out r --category {img}", "is a folder"),
        ("reconstruct {img} --model heads64 --out r --networks x.st", "no networks file x.st"),
        ("reconstruct {img} --model heads64 --out r --networks {gan}", "not a networks file"),
        ("reconstruct {img} --model heads64 --out r --priors x.yaml", "no priors 'x.yaml'"),
        (
            "reconstruct {img} --gan heads64 --category heads --recipe forward --out r",
            "--networks",
        ),
        ("train {img} --category heads --out {tmp}/m --set gna.images=3", "nearest is 'gan'"),
        ("train {img} --category heads --out {tmp}/m --set gan=3", "begin with a part"),
        ("train gan {tmp}/absent --out {tmp}/m", "no folder"),
        ("train networks {img} --gan heads64 --out {tmp}/m", "--category"),
        ("train finetune {img} --model heads64 --out {tmp}/m --set mask=given", "no mask files"),
        ("reconstruct {img} --gan heads64 --category faces --out {tmp}/r", "camera.size=64"),
        ("train priors {img} --gan heads64 --category faces --out {tmp}/r", "camera.size=64"),
        ("train networks {img} --gan heads64 --category faces --out {tmp}/r", "camera.size=64"),
        ("model info head64", "nearest is 'heads64'"),
        ("settings optimization.bach", "nearest is 'optimization.batch'"),
        ("synth heads --out {tmp}/h --seeds 5:2", "5:2"),
    ],
)
def test_mistakes_get_one_sentence(command, monkeypatch, tmp_path, arguments, sentence):
    image = tiny.write_images(tmp_path / "img", 1)
    monkeypatch.chdir(tmp_path)
    fill = {"tmp": tmp_path, "img": image, "gan": asset_path("heads64", GAN_FILE)}
    fill["deep"] = "[" * 5000
    code, _, err = command(*(word.format(**fill) for word in arguments.split()))
    assert code == 1
    assert sentence.format(**fill) in err
    assert err.startswith("gan2shape: ")
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct", "folder"],
        ["reconstruct", "folder", "--model", "heads64", "--out", "r", "--seed", "-1"],
        ["reconstruct", "folder", "--model", "heads64", "--out", "r", "--group-size", "9" * 20],
        ["train", "folder"],
        ["train", "folder", "--out", "model", "--category", "heads", "--size", "0"],
        ["train", "gan"],
        ["train", "priors", "folder", "--category", "heads", "--out", "r"],
        ["train", "priors", "folder", "--gan", "heads64", "--out", "r"],
        ["train", "finetune", "folder", "--model", "heads64", "--out", "r", "--mask", "given"],
        ["resume", "run", "--scheduler", "tcp://x:1", "--workers", "2"],
        ["nonsense"],
        ["synth", "heads", "--out", "x"],
        ["synth", "heads", "--out", "x", "--count", "3"],
        ["synth", "heads", "--out", "x", "--seeds", "1:2", "--split", "val"],
    ],
)
def test_wrong_usage(command, arguments):
    code, _, err = command(*arguments)
    assert code == 2
    assert "Error" in err


def test_options_come_from_the_settings(command):
    """Sentence, default and range are those of the fields."""
    code, out, _ = command("train", "gan", "--help")
    text = " ".join(out.split())
    assert code == 0
    assert "Steps from one R1 penalty to the next. [default: 16; 1<=x<=1000000]" in text
    assert "--mirror / --no-mirror Mirror half of the real images." in text
    assert "[auto|float32|bfloat16]" in text


def test_models_are_listed_and_described(command):
    code, out, _ = command("model", "list")
    assert code == 0
    assert "heads64" in out
    code, out, _ = command("model", "info", "heads64")
    assert code == 0
    for words in (
        "heads64",
        "forward",
        "64 pixels",
        "view and light, measured",
        "joint.safetensors",
    ):
        assert words in out


def test_settings_are_printed(command):
    code, out, _ = command("settings", "optimization.decay")
    assert code == 0
    for words in ("optimization.decay", "0.0", "0 to 1"):
        assert words in out
    assert "optimization.batch" not in out
    assert "optimization.batch" in command("settings")[1]


def test_a_run_of_a_model(command, tmp_path):
    """The model brings everything."""
    images = tiny.write_images(tmp_path / "images", 1)
    options = ["--out", tmp_path / "run", "--seed", "3", "--group-size", "6", "--workers", "1"]
    code, _, err = command("reconstruct", images, "--model", "heads64", *options)
    assert (code, err) == (0, "")
    record = open_run(tmp_path / "run").record
    config = record.config
    assert (config.category, config.recipe, config.model) == ("heads", "forward", "heads64")
    assert (config.seed, config.group_size, config.networks.width) == (3, 6, 24)
    assert config.view_prior.std[1] == 0.2302
    assert record.gan.path == "heads64/gan.safetensors"
    assert record.networks is not None
    assert record.networks.path == "heads64/networks.safetensors"


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gan2shape", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would everything that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_run_from_networks_and_priors(command, tmp_path):
    images = tiny.write_images(tmp_path / "images", 1)
    gan = load_gan("heads64")
    networks, priors = tmp_path / "networks.safetensors", tmp_path / "priors.yaml"
    pretrained = tiny_networks(gan.sha256, gan.generator.style_dim, gan.generator.size)
    networks.write_bytes(networks_bytes(pretrained))
    priors.write_text("view_prior: {mean: [0.1, 0, 0, 0, 0, 0]}")
    options = ["--gan", "heads64", "--category", "heads", "--recipe", "forward", "--workers", "1"]
    options += ["--out", tmp_path / "run", "--networks", networks, "--priors", priors]
    options += ["--set", "view_prior.view_scale=2"]
    code, out, err = command("reconstruct", images, *options)
    assert (code, err) == (0, "")
    assert "1 images" in out
    record = open_run(tmp_path / "run").record
    assert (record.config.view_prior.mean[0], record.config.view_prior.view_scale) == (0.1, 2)
    assert record.config.networks == pretrained.networks
    assert record.networks is not None
    assert record.networks.path == str(networks)
    assert record.inputs["priors"] == str(priors)


def test_a_run_stopped_by_ctrl_c_and_resumed(command, tmp_path):
    """As a terminal does it, the signal goes to the command and its workers alike."""
    images = tiny.write_images(tmp_path / "images", 4)
    settings = tiny.settings().model_dump(mode="json", exclude=set(ORIGIN))
    recipe = {"description": "tiny", "settings": settings}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    run = tmp_path / "run"
    options = ["--gan", "heads64", "--category", "heads", "--recipe", tmp_path / "tiny.yaml"]
    options += ["--workers", "1", "--latents", tiny.write_latents(tmp_path, images)]
    process = start("reconstruct", images, *options, "--out", run, "--shard-size", 2)
    try:
        wait_for(lambda: list(run.glob("checkpoints/*/state.ckpt")), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED, err
    expected = f"stopped; nothing committed is lost; go on with gan2shape resume {run}"
    assert err.strip() == expected
    assert "4 images in 2 shards" in out

    process = start("resume", run, "--workers", "1")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    lines = out.strip().splitlines()
    assert Path(lines[-1]) == run / "report" / "index.html"
    assert Path(lines[-1]).is_file()
    assert any("4/4 images done" in line for line in lines)

    code, out, _ = command("status", run)
    assert (code, "complete" in out) == (0, True)
    code, _, err = command("reconstruct", images, *options, "--out", run)
    assert code == 1
    assert f"gan2shape resume {run}" in err


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("waited in vain")
