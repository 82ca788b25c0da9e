"""Estimate the priors of a folder of images: data, checkpoints, results.

The directory:

    priors.yaml    view_prior and light_prior as settings take them, and where they come from;
                   written last
    priors.html    what the networks see in the images, the Gaussians, the truth where it is known
    rounds.json    the Gaussians after each round
    checkpoints/   all that the estimation goes on from, until the Gaussians are stable
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import only_process, storage_error, write_whole
from gan2shape.jobs.inputs.scan import Scan, scan
from gan2shape.jobs.training.loop import rounded
from gan2shape.jobs.training.priors_page import distributions, page, read_truth, table
from gan2shape.jobs.training.training_set import load_training_set, shared_latents
from gan2shape.pipeline.stylegan2.checkpoint import Gan, load_gan
from gan2shape.pipeline.training.priors import Gaussians, Priors, estimate_priors
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig, plain_digest

RESULT, PAGE, ROUNDS = "priors.yaml", "priors.html", "rounds.json"
CHECKPOINTS, LOCK = "checkpoints", ".lock"

Show = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much it is)."""
Note = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `gan2shape priors` was asked to do."""

    source: str
    gan: str
    out: Path
    config: RunConfig
    masks: str | None = None
    latents: str | None = None
    limit: int | None = None
    rounds: int = 6
    device: str = "cpu"
    threads: int = 1


def priors(request: Request, show: Show, note: Note) -> Path:
    """Estimate the priors, or go on after the last step that is done; returns priors.yaml.

    Interrupted or killed, it loses the step under way. Raises `UserError` for what the user can put
    right: paths, weights, settings that do not fit, a directory that holds other priors.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a directory with --out.")
    found = scan(request.source, masks=request.masks, latents=request.latents, limit=request.limit)
    gan = load_gan(request.gan)
    origin = _origin(request, found, gan)
    try:
        out.mkdir(parents=True, exist_ok=True)
        busy = f"Another process estimates priors in {out}; wait for it, or stop it."
        with only_process(out / LOCK, busy):
            if _finished(out, origin, request.rounds):
                note(f"{out} is finished already")
            else:
                _estimate(request, found, gan, origin, show, note)
    except OSError as error:
        raise storage_error(error, out, "give the same command again") or error from error
    return out / RESULT


def _origin(request: Request, found: Scan, gan: Gan) -> dict[str, Any]:
    """What decides the result but for the rounds, which may be more next time."""
    return {
        "source": request.source,
        "images": len(found),
        "images_sha256": plain_digest(list(found.ids)),
        "masks": request.masks,
        "latents": request.latents,
        "gan": {"source": request.gan, "sha256": gan.sha256},
        "recipe": request.config.recipe,
        "settings_sha256": request.config.digest(),
        "seed": request.config.seed,
        "version": metadata.version("gan2shape"),
    }


def _finished(out: Path, origin: dict[str, Any], rounds: int) -> bool:
    """Whether `out` holds these priors, stable or after so many rounds; `UserError` when it holds
    others.
    """
    try:
        before = yaml.safe_load((out / RESULT).read_text())["provenance"]
        changed = [name for name in origin if before.get(name) != origin[name]]
        enough = before["stable"] or before["rounds"] >= rounds
    except FileNotFoundError:
        return False
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        raise UserError(f"{out / RESULT} is damaged; name another directory with --out.") from None
    if changed:
        raise UserError(
            f"{out} holds priors with other {', '.join(changed)}; name another directory with "
            "--out."
        )
    return bool(enough)


def _estimate(
    request: Request, found: Scan, gan: Gan, origin: dict[str, Any], show: Show, note: Note
) -> None:
    out, config = request.out, request.config
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    checkpoints = Checkpoints(out / CHECKPOINTS, plain_digest(origin))
    checkpoints.sweep()
    gan = gan.to(device)
    rows = found.manifest(len(found)).to_pylist()
    given = shared_latents(found, gan.generator.style_dim)
    targets = load_training_set(rows, gan, config, device, checkpoints, None, given, show, note)
    state = checkpoints.load("state")
    if state is not None:
        note(f"going on after {state['steps']} steps")

    def on_round(fits: Sequence[Gaussians]) -> None:
        _write_json(out / ROUNDS, [{"round": n, **asdict(fit)} for n, fit in enumerate(fits, 1)])
        std, degrees = fits[-1].view_std, 180 / torch.pi
        note(
            f"round {len(fits)}: standard deviation of pitch {std[0] * degrees:.1f}°, yaw "
            f"{std[1] * degrees:.1f}°, roll {std[2] * degrees:.1f}°"
        )

    result = estimate_priors(
        targets,
        gan,
        config,
        request.rounds,
        state=state,
        on_progress=show,
        on_round=on_round,
        on_checkpoint=lambda new: checkpoints.save("state", new),
    )
    _write(request, origin, result, note)
    if result.stable:
        checkpoints.clear()


def _write(request: Request, origin: dict[str, Any], result: Priors, note: Note) -> None:
    out, truth = request.out, read_truth(request.source, result.ids)
    found = distributions(result, truth)
    for line in table(found):
        note(line)
    if not result.stable:
        note(
            f"the Gaussians still changed in round {len(result.rounds)}; take them with care, or "
            "give the same command with more --rounds to go on"
        )
    write_whole(out / PAGE, page(result, found, origin).encode())
    fit = result.rounds[-1]
    figures = {item.component.name: item.figures() for item in found}
    tree = {
        "view_prior": {"mean": list(fit.view_mean), "std": list(fit.view_std)},
        "light_prior": {"mean": list(fit.light_mean), "std": list(fit.light_std)},
        "provenance": origin
        | {"images_used": len(result.ids), "rounds": len(result.rounds), "stable": result.stable}
        | ({} if truth is None else {"against_truth": figures}),
    }
    write_whole(out / RESULT, yaml.safe_dump(rounded(tree), sort_keys=False).encode())


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, (json.dumps(rounded(value), indent=1) + "\n").encode())
