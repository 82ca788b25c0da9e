"""An experiment from its heads to its table: part by part, each kept until all are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan2shape.benchmark.manipulation.heads import Subjects
from gan2shape.benchmark.manipulation.identity import Identity, IdentityBudget, load_identity
from gan2shape.benchmark.manipulation.picture import SHOWN, write_picture
from gan2shape.benchmark.manipulation.table import (
    METHODS,
    Views,
    read_views,
    score_table,
    write_views,
)
from gan2shape.benchmark.manipulation.tools import Show, Tools
from gan2shape.pipeline.evaluation.identity import distance, embed
from gan2shape.pipeline.evaluation.similarity import l1, ssim
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.synthetic.parameters import RECIPE_VERSION
from gan2shape.pipeline.synthetic.variations import Sitter
from gan2shape.schemas.settings import plain_digest

VERSION = 2
"""Of what the methods do and how they are scored."""
PART = 8
"""Heads from one point to go on from to the next."""

Edit = Callable[[Tools, Subjects, Tensor, Show], dict[str, Tensor]]
"""Images (B, K, 3, S, S) in [-1, 1] of heads under all K changes, by method, given latents (B, D)
of the heads."""


@dataclass(frozen=True)
class Experiment:
    """What is done to heads, and how."""

    name: str
    changes: tuple[str, ...]
    """Names of the K changes, as the table has them."""
    titles: tuple[str, ...]
    """Names of the K changes above the columns of the picture."""
    meaning: str
    """What the names of the changes say, for the table's description."""
    inputs_at: int
    """The picture shows the input before this change."""
    settings: Any
    """Plain values that decide the scores, besides the tools."""
    change: Callable[[Sitter, int], Sitter]
    """A head after change k."""
    edit: Edit


def run_experiment(
    experiment: Experiment,
    tools: Tools,
    budget: IdentityBudget,
    cache: Path | None,
    show: Show,
) -> Views:
    """The experiment's results, from its files where it is finished."""
    name, heads = experiment.name, tools.heads
    table_file, picture = result_files(tools.out, name)
    key = plain_digest([VERSION, RECIPE_VERSION, experiment.settings, tools.sources, budget.key])
    finished = read_views(table_file, picture, key)
    if finished is not None:
        return finished
    tools.out.mkdir(parents=True, exist_ok=True)
    checkpoints = tools.checkpoints(key)
    checkpoints.sweep()
    identity = load_identity(budget, cache, show)
    numbers = list(range(len(heads)))
    parts = [numbers[start : start + PART] for start in range(0, len(numbers), PART)]
    results = []
    for part in parts:
        result = checkpoints.load(f"{name}-{part[0]}")
        if result is None:
            result = _score_part(experiment, tools, identity, part, show)
            checkpoints.save(f"{name}-{part[0]}", result)
        results.append(result)
        show(name, part[-1] + 1, len(heads))
    write_picture(picture, experiment.titles, experiment.inputs_at, _pictures(results))
    scores = {
        method: torch.cat([result["scores"][method] for result in results]).numpy()
        for method in results[0]["scores"]
    }
    table = score_table(scores, experiment.changes, experiment.meaning)
    views = Views(
        table=table,
        heads=len(heads),
        left_out=heads.left_out,
        run=tools.run.path.name,
        verification=identity.verification,
        table_file=table_file,
        picture=picture,
    )
    write_views(views, key)
    for part in parts:
        checkpoints.drop(f"{name}-{part[0]}")
    return views


def result_files(out: Path, name: str) -> tuple[Path, Path]:
    """Where an experiment leaves its table and its picture in `out`."""
    return out / f"{name}.parquet", out / f"{name}.png"


def _score_part(
    experiment: Experiment, tools: Tools, identity: Identity, part: Sequence[int], show: Show
) -> dict[str, Any]:
    """Scores (B, K, `SCORES`) by method of some heads; of the first heads also all pictures."""
    subjects = tools.heads.subjects(part)
    latents = tools.latents(subjects, [tools.heads.ids[number] for number in part], show)
    images = experiment.edit(tools, subjects, latents, show)
    truth, masks = _true_renderings(experiment, tools, subjects.sitters)
    images |= {
        "truth": truth,
        "unchanged": subjects.images[:, None].expand_as(truth),
        "other": _others(experiment, tools, subjects),
    }
    scores = {
        method: _scores(found, truth, masks, identity, tools.lpips)
        for method, found in images.items()
    }
    shown = sum(number < SHOWN for number in part)
    pixels = {
        method: _pixels(found[:shown])
        for method, found in images.items()
        if method not in ("unchanged", "other")
    }
    inputs = _pixels(subjects.images[:shown])
    return {"scores": scores, "pictures": pixels, "inputs": inputs}


def _pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8."""
    return images.add(1).mul(127.5).round().to(torch.uint8)


def _true_renderings(
    experiment: Experiment, tools: Tools, sitters: Sequence[Sitter]
) -> tuple[Tensor, Tensor]:
    """Images (B, K, 3, S, S) and masks (B, K, S, S) of heads after every change."""
    drawn = [
        tools.heads.draw(experiment.change(sitter, change))
        for sitter in sitters
        for change in range(len(experiment.changes))
    ]
    images, masks = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    shape = (len(sitters), len(experiment.changes))
    return images.unflatten(0, shape), masks.unflatten(0, shape)


def _others(experiment: Experiment, tools: Tools, subjects: Subjects) -> Tensor:
    """Other heads (B, K, 3, S, S), in the place of each and under its changed view and light."""
    posing = [
        other.posing(own.parameters.view, own.parameters.light)
        for own, other in zip(subjects.sitters, subjects.others, strict=True)
    ]
    return _true_renderings(experiment, tools, posing)[0]


@torch.no_grad()
def _scores(
    images: Tensor, truth: Tensor, masks: Tensor, identity: Identity, lpips: Lpips | None
) -> Tensor:
    """(B, K, `SCORES`) float64 of images (B, K, 3, S, S); LPIPS is NaN without its weights."""
    shape = images.shape[:2]
    found, wanted = images.flatten(0, 1), truth.flatten(0, 1)
    far = distance(embed(identity.network, found), embed(identity.network, wanted))
    columns = [
        l1(found, wanted, masks.flatten(0, 1)),
        l1(found, wanted),
        ssim(found, wanted),
        far,
        torch.full_like(far, torch.nan) if lpips is None else lpips(found, wanted),
    ]
    return torch.stack(columns, dim=-1).double().unflatten(0, shape)


def _pictures(results: Sequence[dict[str, Any]]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Input (3, S, S) and pictures (K, 3, S, S) by method, uint8, of the heads that are shown."""
    return [
        (
            result["inputs"][place],
            {
                title: result["pictures"][method][place]
                for method, title in METHODS.items()
                if method in result["pictures"]
            },
        )
        for result in results
        for place in range(len(result["inputs"]))
    ]
