"""What people are told of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from gan2shape.jobs.weights.model import FILES, open_model
from gan2shape.schemas.packaged import asset_names


def model_table(name_or_path: str) -> Table:
    """What a model is, a row for each fact. Raises what `open_model` raises."""
    model = open_model(name_or_path)
    about = model.about
    priors = {"view": about.view_prior, "light": about.light_prior}
    measured = [name for name, prior in priors.items() if prior is not None]
    rows = [
        ("name", about.name),
        ("folder", str(model.folder)),
        ("category", about.category),
        ("recipe", f"{about.recipe} unless --recipe names another"),
        ("size", f"{about.size} pixels"),
        ("priors", f"{' and '.join(measured)}, measured" if measured else "the category's"),
    ]
    for name, digest in about.files.items():
        size = (model.folder / name).stat().st_size / 1e6
        rows.append((name, f"{FILES[name]}, {size:.1f} MB, SHA-256 {digest[:12]}"))
    rows += [(f"provenance, {key}", value) for key, value in _leaves(about.provenance)]
    rows += [(f"figures, {key}", value) for key, value in _leaves(about.figures)]
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def models_table() -> Table:
    """The packaged models."""
    table = Table("model", "category", "recipe", "size", "files")
    for name in asset_names():
        about = open_model(name).about
        files = ", ".join(FILES[file] for file in about.files)
        table.add_row(name, about.category, about.recipe, f"{about.size} px", files)
    return table


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted names and values, with the innermost mappings on one line."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
            yield from ((f"{key}, {inner}", text) for inner, text in _leaves(value))
        elif isinstance(value, Mapping):
            known = {name: each for name, each in value.items() if each not in (None, "")}
            yield key, ", ".join(f"{name} {each}" for name, each in known.items())
        elif value is not None:
            yield key, str(value)
