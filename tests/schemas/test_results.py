from __future__ import annotations

import math

from gan2shape.schemas.manifest import MANIFEST_SCHEMA
from gan2shape.schemas.results import MASK_MISSING, METRICS_SCHEMA, array_specs


def test_arrays_start_with_the_image_and_say_what_they_are():
    specs = array_specs(size=64, latent_size=512)
    assert len({spec.name for spec in specs}) == len(specs) == 8
    extents: dict[str, int] = {}
    for spec in specs:
        assert spec.dims[0] == "image"
        assert len(spec.dims) == len(spec.shape) + 1
        assert spec.units
        assert spec.long_name
        for dim, extent in zip(spec.dims[1:], spec.shape, strict=True):
            assert extents.setdefault(dim, extent) == extent  # one group, one extent per name


def test_what_is_missing_can_be_told_from_what_is_there():
    for spec in array_specs(64, 512):
        missing = spec.missing
        assert missing == MASK_MISSING if spec.name == "mask" else math.isnan(missing)


def test_numbers_carry_units():
    for field in METRICS_SCHEMA:
        assert field.name == field.name.lower()
        if str(field.type) in ("double", "map<string, double>"):
            assert field.metadata[b"units"], field.name
        assert field.metadata[b"description"]
    assert all(field.metadata[b"description"] for field in MANIFEST_SCHEMA)
