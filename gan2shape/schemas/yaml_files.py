"""Reading YAML that people wrote or sent: whatever is wrong with it is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gan2shape.schemas.errors import ConfigError

LARGEST_BYTES = 1_000_000
DEEPEST = 50
"""Levels of nesting. Reading recurses, and Python ends a deep recursion with a crash."""
MOST_VALUES = 100_000
"""Values with every alias written out. A few nested aliases can stand for billions."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The 'key: value' lines of a file. Raises `ConfigError` with one sentence."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a YAML file.")
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else None
        text = None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file; name a YAML file in UTF-8.") from error
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = getattr(error, "strerror", None) or "it has no valid name"
        raise ConfigError(f"{str(path)!r} cannot be read: {reason}.") from error
    if text is None:
        raise ConfigError(f"{path} is too large for a file of settings (over a megabyte).")
    return mapping(text, str(path))


def mapping(text: str, source: str) -> dict[str, Any]:
    """The 'key: value' lines of a YAML text; `source` is what messages call it."""
    tree = parse_yaml(text, source)
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{source} must hold settings as 'key: value' lines.")
    return tree


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text. Raises `ConfigError` where it is broken, too deep or too large."""
    try:
        _check_size(text, source)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # dates and long numbers raise ValueError
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}.") from error


def _check_size(text: str, source: str) -> None:
    """Refuse what is nested too deeply or too large, before any of it is built."""
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                anchors[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            # An alias inside its own anchor never ends.
            count += anchors.get(str(event.anchor), MOST_VALUES)
        count += 1
        if len(open_nodes) > DEEPEST:
            raise ConfigError(f"{source} is nested more than {DEEPEST} levels deep.")
        if count > MOST_VALUES:
            raise ConfigError(f"{source} holds more than {MOST_VALUES} values.")
