from __future__ import annotations

import pytest

from gan2shape.jobs.run.plan import make_plan, shard_of_row


@pytest.mark.parametrize(
    ("images", "shard", "group"), [(1, 4, 2), (8, 4, 2), (9, 4, 2), (11, 6, 3)]
)
def test_every_row_is_in_one_group_of_one_shard(images, shard, group):
    plan = make_plan(images, shard, group)
    rows = []
    for part in plan:
        for start, stop in part.groups:
            assert 0 < stop - start <= group
            rows += [part.start + i for i in range(start, stop)]
        assert all(shard_of_row(row, shard) == part.index for row in range(part.start, part.stop))
    assert rows == list(range(images))


def test_groups_do_not_depend_on_the_shard_size():
    def groups(shard):
        plan = make_plan(22, shard, 4)
        return [(p.start + a, p.start + b) for p in plan for a, b in p.groups]

    assert groups(4) == groups(8) == groups(20)


def test_plans_print_well():
    plan = make_plan(9, 4, 2)
    assert str(plan) == "9 images in 3 shards of up to 4 images, weights shared by up to 2 images"
    one = make_plan(1, 1, 1)
    assert str(one) == "1 image in 1 shard of up to 1 image, weights shared by up to 1 image"
    assert str(plan.shard(0)) == "shard 0: rows 0..3 in groups of 2+2"
    with pytest.raises(IndexError):
        plan.shard(3)
    with pytest.raises(ValueError, match="no plan"):
        make_plan(0, 4, 2)
