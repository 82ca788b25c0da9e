"""`run.yaml`: what a run was made from, and the hash that ties its results to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gan2shape.jobs.run.plan import RunPlan, make_plan
from gan2shape.jobs.run.storage import FileRecord, file_records
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig, plain_digest

FORMAT = 1
"""Of run.yaml, commit records and the layout of the directory."""
LAYOUT = ("shard_size",)
"""Settings that no number depends on."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where there is one: run.yaml is read often."""


class RunError(UserError):
    """A run directory is missing, taken, damaged or in use."""


@dataclass(frozen=True)
class Weights:
    """A file of weights and the SHA-256 that it had when the run was made."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Segment:
    """Images that came into the run together: one file of the manifest."""

    images: int
    shards: int
    files: dict[str, FileRecord]
    """Size and SHA-256 of its manifest, and of its given latents if any, by their names."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run was made from."""

    config: RunConfig
    gan: Weights
    lpips: Weights | None
    latent_size: int
    networks: Weights | None = None
    """Trained networks that every group starts from."""
    segments: tuple[Segment, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    stored: dict[str, Any] | None = field(default=None, compare=False)
    """The settings as run.yaml has them, if they come from there. A setting that was added to the
    program later is not among them, so the run keeps its hash."""

    @property
    def images(self) -> int:
        """Images of all segments."""
        return sum(segment.images for segment in self.segments)

    @property
    def manifest_sha256(self) -> str:
        """SHA-256 of the manifest of each segment, for people."""
        files = [file for segment in self.segments for file in segment.files.items()]
        return ", ".join(file.sha256 for name, file in files if name.endswith(".parquet"))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they are written, or were."""
        return self.config.model_dump(mode="json") if self.stored is None else self.stored

    @property
    def config_hash(self) -> str:
        """SHA-256 over settings and weights.

        With an image and its group they decide the numbers. The images are not in it, so that a
        run can get more of them, and neither is the layout.
        """
        deciding = {key: value for key, value in self.settings.items() if key not in LAYOUT}
        weights = [each.sha256 if each else "" for each in (self.gan, self.lpips, self.networks)]
        return hashlib.sha256("\n".join([plain_digest(deciding), *weights]).encode()).hexdigest()

    @property
    def plan(self) -> RunPlan:
        """Shards and groups of this run."""
        return make_plan(self.images, self.config.shard_size, self.config.group_size)

    def dump(self) -> bytes:
        """The text of run.yaml."""
        tree = asdict(self) | {
            "config": self.settings,
            "segments": list(map(asdict, self.segments)),
        }
        del tree["stored"]
        head = {"format": FORMAT, "config_hash": self.config_hash}
        return yaml.safe_dump(head | tree, sort_keys=False).encode()


def read_record(file: Path) -> RunRecord:
    """Read run.yaml. Raises `RunError` when it is absent, damaged or of another format."""
    try:
        tree = yaml.load(file.read_text(), Loader=_LOADER)
        _check_format(tree, file)
        stored_hash = tree.pop("config_hash")
        record = _from_tree(tree)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{file.parent} is no run directory: it holds no {file.name}.") from None
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{file} is damaged ({reason}); put a copy of it back, or start a new run."
        ) from error
    if record.config_hash != stored_hash:
        raise RunError(
            f"{file} was changed by hand (its hash does not match); start a new run with "
            f"'gan2shape reconstruct' to use other settings."
        )
    return record


def _check_format(tree: Mapping[str, Any], file: Path) -> None:
    found = tree.get("format")
    if found == FORMAT:
        return
    maker = (tree.get("versions") or {}).get("gan2shape", "another version")
    raise RunError(
        f"{file.parent} was made by gan2shape {maker} in a format that this version does not read; "
        f"use that version for it, or start a new run."
    )


def _from_tree(tree: dict[str, Any]) -> RunRecord:
    del tree["format"]
    tree["stored"] = tree["config"]
    tree["config"] = RunConfig.model_validate(tree["config"])
    for name in ("gan", "lpips", "networks"):
        tree[name] = Weights(**tree[name]) if tree[name] else None
    tree["segments"] = tuple(
        Segment(**segment | {"files": file_records(segment["files"])})
        for segment in tree["segments"]
    )
    return RunRecord(**tree)
