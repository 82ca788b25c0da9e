"""Find the images of a run, and what belongs to them, by listing folders and nothing slower."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from gan2shape.jobs.run.plan import shard_of_row
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.manifest import MANIFEST_SCHEMA

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif", ".ico", ".pcx", ".sgi"}
)
TRUTH_SUFFIXES = frozenset({".tiff", ".tif", ".npy", ".png"})
LATENT_SUFFIXES = frozenset({".pt", ".pth"})
IMAGE_FOLDERS = ("image", "images")


class ScanError(UserError):
    """There is nothing to work on at the place the user named."""


@dataclass(frozen=True)
class Found:
    """One file of a listing; `path` is absolute, or a URL."""

    path: str
    size: int | None

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


@dataclass(frozen=True)
class Scan:
    """The images in their order; every tuple has one entry for each image."""

    ids: tuple[str, ...]
    images: tuple[Found, ...]
    truths: tuple[str | None, ...]
    masks: tuple[str | None, ...]
    latents: tuple[str | None, ...]
    skipped: int
    """Files that are no images by their name."""
    shared_latents: str | None = None
    """One source of all latents (a file, a Zarr array, a run), in place of a file per image."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids_sha256(self) -> str:
        """Tells whether a listing has the same images as another, wherever they are."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()

    def manifest(self, shard_size: int) -> pa.Table:
        """The rows of the manifest, cut into shards of `shard_size` consecutive images."""
        count = len(self)
        columns = {
            "image_id": self.ids,
            "uri": [found.path for found in self.images],
            "size_bytes": [found.size for found in self.images],
            "content_sha256": (None,) * count,
            "truth_uri": self.truths,
            "mask_uri": self.masks,
            "latent_uri": self.latents,
            "shard": [shard_of_row(row, shard_size) for row in range(count)],
            "row": range(count),
        }
        return pa.table(
            [pa.array(columns[field.name], field.type) for field in MANIFEST_SCHEMA],
            schema=MANIFEST_SCHEMA,
        )


def scan(
    source: str,
    *,
    truth: str | None = None,
    masks: str | None = None,
    latents: str | None = None,
    limit: int | None = None,
) -> Scan:
    """List the images of `source`: a folder, one file, a glob, or an fsspec URL of these.

    A folder that holds `image/` or `images/` is a data set: ground truth, masks and latents are
    taken from `depth/`, `mask/` (or `masks/`) and `latent/` beside it. Explicit folders win.
    `latents` may also be one file, a Zarr array or a run directory for all images.
    Files belong together when their stems agree (`_image`, `_depth`, `_mask` and `_latent` at the
    end do not count).

    Ids are stems, made unique where stems repeat; the order is natural (`2.png` before `10.png`).
    Raises `ScanError` when a place does not exist or holds no images.
    """
    place = source.rstrip("/") or "/"
    siblings: dict[str, str] = {}
    if _is_glob(place):
        listing = _glob(place)
        images = listing
        if not images:
            raise ScanError(f"No file matches {source!r}; check the pattern and quote it.")
    elif _is_file(place):
        listing = images = [Found(_absolute(place), _file_size(place))]
    else:
        folders = {path.rsplit("/", 1)[-1]: path for path in _folders(place)}
        inner = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
        if inner:
            siblings = folders
        listing = _files(inner or place)
        images = [found for found in listing if found.suffix in IMAGE_SUFFIXES]
        if not images:
            deeper = "/**/*.png"
            raise ScanError(
                f"There are no images in {inner or source}; for images in sub-folders give a "
                f"pattern such as '{place}{deeper}'."
            )
    images.sort(key=lambda found: _natural(found.path))
    skipped = len(listing) - len(images)
    if limit is not None:
        images = images[:limit]

    def first(*names: str) -> str | None:
        return next((siblings[name] for name in names if name in siblings), None)

    keys = [_key(found.stem) for found in images]
    shared = latents if latents is not None and _is_shared(latents) else None
    return Scan(
        ids=tuple(unique_ids([found.path for found in images])),
        images=tuple(images),
        truths=_matched(keys, truth or first("depth"), TRUTH_SUFFIXES, truth, "--truth"),
        masks=_matched(keys, masks or first("mask", "masks"), IMAGE_SUFFIXES, masks, "--masks"),
        latents=(_absolute(shared),) * len(keys)
        if shared
        else _matched(
            keys, latents or first("latent", "latents"), LATENT_SUFFIXES, latents, "--latents"
        ),
        skipped=skipped,
        shared_latents=shared,
    )


def unique_ids(paths: Sequence[str]) -> list[str]:
    """A short unique name for every path: its stem, or as much more of it as that takes."""
    names = [path.rsplit("/", 1)[-1] for path in paths]
    stems = [name.rsplit(".", 1)[0] or name for name in names]
    places = [path.split("://", 1)[-1] for path in paths]
    shared = len(posixpath.commonpath(places)) if len(places) > 1 else 0
    relative = [place[shared:].lstrip("/").replace("/", "--") for place in places]
    ids = list(stems)
    for fuller in (names, relative):
        repeated = Counter(ids)
        if len(repeated) == len(ids):
            return ids
        ids = [fuller[i] if repeated[name] > 1 else name for i, name in enumerate(ids)]
    taken = set(ids)
    seen: set[str] = set()
    for i, name in enumerate(ids):
        number = 2
        while ids[i] in seen:
            candidate = f"{name}-{number}"
            if candidate not in taken:
                ids[i] = candidate
            number += 1
        seen.add(ids[i])
        taken.add(ids[i])
    return ids


def _matched(
    keys: Sequence[str],
    folder: str | None,
    suffixes: frozenset[str],
    explicit: str | None,
    flag: str,
) -> tuple[str | None, ...]:
    if folder is None:
        return (None,) * len(keys)
    by_key: dict[str, str] = {}
    for found in sorted(_files(folder), key=lambda found: found.path):
        if found.suffix in suffixes:
            by_key.setdefault(_key(found.stem), found.path)
    matched = tuple(by_key.get(key) for key in keys)
    counts = Counter(key for key in keys if key in by_key)
    shared = next((key for key, count in counts.items() if count > 1), None)
    if shared is not None:
        raise ScanError(
            f"{by_key[shared]} has the name of {counts[shared]} images, {shared}; give the images "
            f"names of their own, or take them folder by folder."
        )
    if explicit is not None and not any(matched):
        raise ScanError(
            f"No file in {folder} ({flag}) has the name of an image; it should hold, for "
            f"example, {keys[0]}{min(suffixes)}."
        )
    return matched


def _is_shared(latents: str) -> bool:
    markers = ("run.yaml", "zarr.json", ".zarray", ".zgroup")
    return _is_file(latents) or any(
        os.path.exists(os.path.join(latents, marker)) for marker in markers
    )


def _key(stem: str) -> str:
    return re.sub(r"_(image|depth|mask|latent)$", "", stem)


def _natural(path: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path)
    return [(0, int(part), part) if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


# The rest asks the file system. Local folders go through `os`, which lists a million files in
# seconds; everything else through fsspec.


def _is_url(place: str) -> bool:
    return "://" in place


def _is_glob(place: str) -> bool:
    return any(mark in place for mark in "*?[") and (_is_url(place) or not os.path.exists(place))


def _absolute(place: str) -> str:
    if _is_url(place):
        return place
    return os.path.abspath(os.path.expanduser(place)).replace(os.sep, "/")


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise ScanError(f"{url} needs a package that is not installed: {error}.") from error
    except ValueError as error:
        raise ScanError(f"{url} cannot be opened: {error}.") from error


def _remote(url: str, entries: Iterable[dict[str, Any]], kind: str) -> list[Found]:
    system, _ = _filesystem(url)
    return [
        Found(system.unstrip_protocol(entry["name"].rstrip("/")), entry.get("size"))
        for entry in entries
        if entry.get("type", "file") == kind
    ]


def _list(place: str, kind: str) -> list[Found]:
    missing = ScanError(f"There is no folder {place!r}; check the path.")
    if _is_url(place):
        system, path = _filesystem(place)
        try:
            entries = system.ls(path, detail=True)
        except FileNotFoundError:
            raise missing from None
        except Exception as error:  # every object store has its own exceptions
            raise ScanError(f"{place} cannot be listed: {_one_line(error)}.") from error
        found = _remote(place, entries, kind)
    else:
        try:
            with os.scandir(_absolute(place)) as entries:
                found = [
                    Found(entry.path.replace(os.sep, "/"), _entry_size(entry, kind))
                    for entry in entries
                    if (entry.is_file() if kind == "file" else entry.is_dir())
                ]
        except FileNotFoundError:
            raise missing from None
        except OSError as error:
            raise ScanError(f"{place} cannot be listed: {error.strerror}.") from error
    return [item for item in found if not item.name.startswith(".")]


def _entry_size(entry: os.DirEntry[str], kind: str) -> int | None:
    return entry.stat().st_size if kind == "file" else None


def _files(folder: str) -> list[Found]:
    return _list(folder, "file")


def _folders(folder: str) -> list[str]:
    return [found.path for found in _list(folder, "directory")]


def _glob(pattern: str) -> list[Found]:
    if _is_url(pattern):
        system, path = _filesystem(pattern)
        try:
            entries = system.glob(path, detail=True).values()
        except Exception as error:  # every object store has its own exceptions
            raise ScanError(f"{pattern} cannot be listed: {_one_line(error)}.") from error
        return _remote(pattern, entries, "file")
    import glob

    paths = glob.glob(os.path.expanduser(pattern), recursive=True)
    return [Found(_absolute(path), os.path.getsize(path)) for path in paths if os.path.isfile(path)]


def _is_file(place: str) -> bool:
    if not _is_url(place):
        return os.path.isfile(os.path.expanduser(place))
    system, path = _filesystem(place)
    try:
        return bool(system.isfile(path))
    except Exception as error:
        raise ScanError(f"{place} cannot be reached: {_one_line(error)}.") from error


def _file_size(place: str) -> int | None:
    return None if _is_url(place) else os.path.getsize(os.path.expanduser(place))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
