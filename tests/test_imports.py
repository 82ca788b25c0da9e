"""Imports go one way, pipeline opens no file, and jobs does no tensor maths."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gan2shape

ROOT = Path(gan2shape.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PIPELINE = sorted((ROOT / "pipeline").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").rglob("*.py"))

ALLOWED = {
    "schemas": {"schemas"},
    "pipeline": {"schemas", "pipeline"},
    "jobs": {"schemas", "pipeline", "jobs"},
    "benchmark": {"schemas", "pipeline", "jobs", "benchmark"},
    "assets": set(),
    "cli": {"schemas", "jobs", "benchmark", "cli"},
    "__main__": {"cli"},
    "__init__": {"schemas", "pipeline", "jobs", "cli"},
}
"""What each part of the package may import of it; `jobs` may use `assets` as data only."""

BASE = {"precision", "process_group", "seeds"}
LAYERS = {
    "scene": BASE,
    "stylegan2": BASE,
    "networks": BASE | {"scene", "stylegan2"},
}
LAYERS["perceptual"] = LAYERS["networks"] | {"networks"}
LAYERS["method"] = LAYERS["perceptual"] | {"perceptual"}
LAYERS["extensions"] = LAYERS["method"] | {"method"}
LAYERS["reconstruct"] = LAYERS["extensions"] | {"extensions"}
LAYERS["evaluation"] = LAYERS["method"] | {"method"}
LAYERS["synthetic"] = BASE | {"scene"}
LAYERS["training"] = LAYERS["reconstruct"] | {"reconstruct", "evaluation", "synthetic"}
"""What each part of pipeline may import of the others. `training` sees all; `evaluation` and
`synthetic` are leaves that no other part of pipeline sees."""

FOREIGN_TO_PIPELINE = {"dask", "distributed", "fsspec", "zarr", "xarray", "pyarrow"}
"""Pure compute knows of no cluster and no storage."""

FILE_MODULES = {
    *("gzip", "importlib.resources", "io", "json", "pathlib", "pickle", "PIL", "safetensors"),
    *("shutil", "tempfile", "yaml", "zipfile"),
}
"""Modules whose use is files."""
FILE_CALLS = {
    *(
        "open",
        "os.open",
        "os.replace",
        "os.makedirs",
        "torch.load",
        "torch.save",
        "torch.jit.load",
        "torch.hub.load",
    ),
    *("np.load", "np.save", "np.savez", "np.savez_compressed", "np.fromfile", "np.loadtxt"),
}
FILE_METHODS = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "tofile"}

TENSOR_MATHS = {
    *("torch.nn", "torch.optim", "torch.autograd", "torch.linalg", "torch.fft"),
    *("torch.einsum", "torch.matmul", "torch.bmm", "torch.mm", "torch.conv2d"),
}
"""Jobs makes, joins, reads, writes and moves tensors, and calls the pipeline with them. It has no
layers, losses, optimisers, gradients or matrix products."""

TRAINERS = ("pipeline.training", "pipeline.stylegan2.training", "jobs.training")


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that the file imports, anywhere in it."""
    return names_in(path.read_text(), ["gan2shape", *path.relative_to(ROOT).parent.parts])


def names_in(text: str, package: list[str]) -> Iterator[str]:
    """Full names of all modules that the text of a module in `package` imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            yield ".".join(module)
            yield from (".".join([*module, name.name]) for name in node.names)


def part_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "gan2shape" or len(parts) < 2:
        return None
    known = parts[1] in ALLOWED or (ROOT / parts[1]).exists()
    return parts[1] if known else None


def layer_of(name: str) -> str | None:
    """The part of pipeline that a full name belongs to."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["gan2shape", "pipeline"] and len(parts) > 2 else None


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression; empty for any other."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return node.id if isinstance(node, ast.Name) else ""


def file_uses(text: str) -> set[str]:
    """What a module's text does with files."""
    found = {
        name
        for name in names_in(text, ["gan2shape"])
        if any(name == module or name.startswith(f"{module}.") for module in FILE_MODULES)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in FILE_CALLS or method in FILE_METHODS:
                found.add(name or method)
    return found


def maths_uses(text: str) -> set[str]:
    """What a module's text does of the tensor maths that jobs leaves to the pipeline."""
    names = set(names_in(text, ["gan2shape"]))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            names.add(dotted(node))
            if node.attr == "backward":
                names.add("torch.autograd.backward")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            names.add("torch.matmul")
    return {
        name
        for name in names
        if any(name == maths or name.startswith(f"{maths}.") for maths in TENSOR_MATHS)
    }


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_direction(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in ALLOWED, f"{part} is new: say here what it may import"
    wrong = {
        name for name in imported(path) if (found := part_of(name)) and found not in ALLOWED[part]
    }
    assert not wrong


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PIPELINE, ids=ids)
def test_pipeline_knows_no_cluster_and_no_storage(path):
    assert not {name.split(".")[0] for name in imported(path)} & FOREIGN_TO_PIPELINE


@pytest.mark.parametrize("path", PIPELINE, ids=ids)
def test_layers_of_the_pipeline(path):
    layer = layer_of(".".join(["gan2shape", *path.relative_to(ROOT).with_suffix("").parts]))
    if layer in BASE or layer == "__init__":
        allowed = BASE
    else:
        assert layer in LAYERS, f"{layer} is new: say here what it may import"
        allowed = LAYERS[layer] | {layer}
    wrong = {name for name in imported(path) if (found := layer_of(name)) and found not in allowed}
    assert not wrong


@pytest.mark.parametrize("path", PIPELINE, ids=ids)
def test_only_trainings_see_the_training_of_gans(path):
    parts = path.relative_to(ROOT / "pipeline").parts
    if "training" not in parts:
        assert not [name for name in imported(path) if "stylegan2.training" in name]


@pytest.mark.parametrize("path", PIPELINE, ids=ids)
def test_pipeline_opens_no_file(path):
    assert not file_uses(path.read_text())


@pytest.mark.parametrize("path", JOBS, ids=ids)
def test_jobs_does_no_tensor_maths(path):
    assert not maths_uses(path.read_text())


@cache
def imports_of(module: str) -> frozenset[str]:
    """The package's own modules that a module imports, anywhere in it, with their packages."""
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for name in imported(file) if file.is_file() else ():
        parts = name.split(".")
        for length in range(2, len(parts) + 1):
            place = ROOT.joinpath(*parts[1:length])
            if parts[0] == "gan2shape" and (place.is_dir() or place.with_suffix(".py").is_file()):
                found.add(".".join(parts[:length]))
    return frozenset(found)


def reached(module: str) -> dict[str, str]:
    """All modules that one leads to, each with the module that imports it."""
    ways, left = {module: ""}, [module]
    while left:
        here = left.pop()
        for name in imports_of(here) - ways.keys():
            ways[name] = here
            left.append(name)
    return ways


@pytest.mark.parametrize(
    "module",
    ["gan2shape.pipeline.reconstruct"]
    + [
        ".".join(["gan2shape", *path.relative_to(ROOT).with_suffix("").parts])
        for path in sorted((ROOT / "jobs" / "run").glob("*.py"))
    ],
)
def test_reconstruction_imports_no_trainer(module):
    ways = reached(module)
    trainers = [name for name in ways if name.removeprefix("gan2shape.").startswith(TRAINERS)]
    assert not {name: ways[name] for name in trainers}


EXTENSION_SETTINGS = {
    *("view_iterations", "background_weight", "single_image_passes", "relief_factor"),
    *("pseudo_albedo", "turn_calibration_iterations", "calibrate_yaw", "symmetry_sides"),
    *("decay", "gradient_limit", "perceptual_share"),
    *("colour_symmetry", "colour_evenness", "view_weight"),
}
"""Settings of what is not in the paper."""


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline" / "method").glob("*.py")), ids=ids)
def test_the_method_reads_no_setting_of_an_extension(path):
    names = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert not names & EXTENSION_SETTINGS


def test_the_checks_read_every_kind_of_import_and_use():
    text = (
        "from gan2shape.jobs import store\nfrom ..jobs.plan import make_plan\nimport dask.array\n"
    )
    names = set(names_in(text, ["gan2shape", "pipeline"]))
    assert {
        "gan2shape.jobs",
        "gan2shape.jobs.store",
        "gan2shape.jobs.plan",
        "dask.array",
    } <= names
    assert part_of("gan2shape.jobs.run.plan") == "jobs"
    assert part_of("gan2shape") is part_of("torch.nn") is None
    assert layer_of("gan2shape.pipeline.method.steps") == "method"
    for use in (
        "open('x')",
        "from pathlib import Path\nPath('x').read_bytes()",
        "np.load('x')",
        "torch.save(x, 'y')",
        "import json",
        "from PIL import Image",
        "from safetensors.torch import load_file",
    ):
        assert file_uses(use), use
    for use in (
        "from torch import nn",
        "from torch.nn import functional",
        "torch.optim.Adam([])",
        "x.mean().backward()",
        "a @ b",
        "torch.einsum('i,i', a, b)",
    ):
        assert maths_uses(use), use
    assert not maths_uses("with torch.no_grad():\n    torch.cat([torch.zeros(3)])")


HEAVY = {"torch", "numba", "dask", "pyarrow", "scipy", "pandas", "zarr", "plotly"}


@pytest.mark.parametrize(
    ("command", "text", "heavy"),
    # Options come from the settings, which Pydantic checks: only commands that have some load it.
    [([], "reconstruct", {*HEAVY, "pydantic", "yaml", "rich"}), (["reconstruct"], "--gan", HEAVY)],
)
def test_help_loads_nothing_heavy(command, text, heavy):
    code = (
        f"import sys; from gan2shape.cli import cli; cli({[*command, '--help']}, "
        f"standalone_mode=False); sys.exit(' '.join({heavy} & set(sys.modules)) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert text in ended.stdout
    assert ended.returncode == 0, f"--help imports {ended.stderr}"
