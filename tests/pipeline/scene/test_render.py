from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan2shape.pipeline.scene.camera import Camera, check_view
from gan2shape.pipeline.scene.render import numba_backend, render_depth, resample, warp
from gan2shape.pipeline.scene.render.mesh import depth_from_faces, grid_faces, screen_vertices
from gan2shape.pipeline.scene.render.sample import sample_texture, sampling_positions
from tests.pipeline import render_reference as reference
from tests.pipeline.shapes import KINDS, depth_map, textures, views

SMALL = Camera(16)


def gradients(outputs, inputs, seed=0):
    """Gradients of one random weighting of all outputs."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs]
    return torch.autograd.grad(
        list(outputs), inputs, [w.to(o) for w, o in zip(weights, outputs, strict=True)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_match_the_reference(kind):
    inputs = [
        t.requires_grad_()
        for t in (textures(SMALL, 3), depth_map(kind, SMALL, 3), views(3, seed=KINDS.index(kind)))
    ]
    ours = warp(*inputs, SMALL)
    image, depth, mask = reference.render(*inputs, SMALL)
    assert 0.3 < mask.mean() < 1
    torch.testing.assert_close(ours.mask, mask, rtol=0, atol=0)
    torch.testing.assert_close(ours.depth, depth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.image, image, rtol=1e-7, atol=1e-7)
    for name, a, b in zip(
        ("texture", "depth", "view"),
        gradients((ours.image, ours.depth), inputs),
        gradients((image, depth), inputs),
        strict=True,
    ):
        scale = b.abs().max()
        assert scale > 0.1, name
        torch.testing.assert_close(a / scale, b / scale, rtol=1e-6, atol=1e-9, msg=name)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    scale=st.floats(0.05, 3),
    fov=st.sampled_from([10.0, 60.0]),
)
def test_any_view_matches_the_reference_in_value(seed, kind, scale, fov):
    camera = Camera(10, fov_degrees=fov)
    inputs = textures(camera, 1, 2, seed), depth_map(kind, camera, 1, seed), views(1, seed, scale)
    ours = warp(*inputs, camera)
    image, depth, mask = reference.render(*inputs, camera)
    # A triangle seen edge-on may count as hit on one side only: let single pixels go.
    same = ours.mask == mask
    assert (~same).sum() <= 1
    close = (ours.depth - depth).abs() < 1e-6
    assert (same & ~close).sum() <= 1
    assert ((ours.image - image).abs().amax(1)[close] < 1e-4).all()


@pytest.mark.parametrize("kind", ["plane", "rough", "folded"])
def test_gradients_match_finite_differences(kind):
    camera = Camera(8)
    depth, view = depth_map(kind, camera, 1), views(1, seed=3, scale=0.5)
    # Visibility must not change under the probe, so take a direction and a tiny step.
    texture = textures(camera, 1, 2)
    start = [texture, depth, view]

    def value(parts):
        seen = warp(*parts, camera)
        return (seen.image * texture.cos()).sum() + (seen.depth * depth.sin()).sum() * 100

    leaves = [t.clone().requires_grad_() for t in start]
    grads = torch.autograd.grad(value(leaves), leaves)
    for which in range(3):
        generator = torch.Generator().manual_seed(which)
        way = torch.randn(start[which].shape, generator=generator, dtype=torch.float64)
        probes = []
        for step in (1e-8, -1e-8):
            moved = list(start)
            moved[which] = moved[which] + step * way
            probes.append(value(moved))
        numeric = (probes[0] - probes[1]) / 2e-8
        exact = (grads[which] * way).sum()
        assert numeric.item() == pytest.approx(exact.item(), rel=1e-4)


def test_gradcheck_in_float64():
    camera = Camera(5, fov_degrees=30.0)
    depth, view = depth_map("bump", camera, 2), views(2, seed=5, scale=0.3)

    def function(texture, depth, view):
        seen = warp(texture, depth, view, camera)
        return seen.image, seen.depth

    inputs = [t.requires_grad_() for t in (textures(camera, 2, 2), depth, view)]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-7, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_view_is_exact(kind, dtype):
    camera = Camera(64)
    depth, texture = depth_map(kind, camera, 2).to(dtype), textures(camera, 2).to(dtype)
    seen = warp(texture, depth, torch.zeros(2, 6, dtype=dtype), camera)
    assert seen.mask.min() == 1
    tight = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(seen.depth, depth, rtol=0, atol=tight)
    torch.testing.assert_close(seen.image, texture, rtol=0, atol=20 * tight)


def test_shift_of_a_plane_by_whole_pixels_moves_the_picture():
    camera = Camera(32)
    depth = torch.ones(1, 32, 32)
    texture = textures(camera, 1).float()
    view = torch.tensor([[0, 0, 0, 3 / camera.focal, -2 / camera.focal, 0]])
    seen = warp(texture, depth, view, camera)
    torch.testing.assert_close(seen.image[:, :, :-2, 3:], texture[:, :, 2:, :-3], atol=1e-4, rtol=0)
    assert seen.mask[:, :-2, 3:].min() == 1
    assert seen.mask[:, -2:].max() == 0
    assert seen.mask[:, :, :3].max() == 0
    assert (seen.depth[seen.mask == 0] == torch.tensor(camera.upper_clamp)).all()


def test_the_nearer_surface_hides_the_farther_one():
    camera = Camera(64)
    depth = torch.full((1, 64, 64), 1.08)
    depth[:, 20:44, 28:36] = 0.92  # a wall in front of a plane
    texture = torch.where(depth < 1, 1.0, -1.0)[:, None]
    view = torch.tensor([[0, 0.35, 0, 0, 0, 0.0]])
    seen = warp(texture, depth, view, camera)
    behind = (seen.depth > 1.05) & (seen.image[:, 0] > 0.99) & (seen.mask > 0)
    assert not behind.any()
    # The wall's front is about as wide as 8 pixels and 0.16 in front of the plane: it shifts.
    row = seen.depth[0, 32]
    assert row.argmin() != 31
    assert 0.9 < row.min() < 0.95


def test_depth_is_held_in_the_clamped_range():
    camera = Camera(32)
    depth = depth_map("bump", camera, 2)
    far = torch.zeros(2, 6, dtype=torch.float64)
    far[0, 5], far[1, 5] = 0.5, -0.5
    depth.requires_grad_()
    rendered, _ = render_depth(depth, far, camera)
    assert rendered[0].min() == rendered[0].max() == camera.upper_clamp
    assert (rendered[1] == camera.lower_clamp).any()
    (grad,) = torch.autograd.grad(rendered.sum(), depth)
    assert (grad == 0).all()


def test_triangles_behind_the_camera_are_left_out():
    camera = Camera(16)
    depth = depth_map("bump", camera, 1).requires_grad_()
    behind = torch.tensor([[0, 0, 0, 0, 0, -2.0]], dtype=torch.float64, requires_grad=True)
    seen = warp(textures(camera, 1), depth, behind, camera)
    assert seen.mask.max() == 0
    assert seen.image.isfinite().all()
    for grad in gradients((seen.image, seen.depth), (depth, behind)):
        assert grad.isfinite().all()
    crossing = torch.tensor([[0, 0, 0, 0, 0, -1.0]], dtype=torch.float64)
    assert warp(textures(camera, 1), depth, crossing, camera).depth.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_broken_image_leaves_the_others_alone(bad):
    camera = Camera(16)
    texture, depth, view = textures(camera, 3), depth_map("rough", camera, 3), views(3)
    whole = warp(texture, depth, view, camera)
    depth[1], view[1] = bad, bad
    depth.requires_grad_()
    mixed = warp(texture, depth, view, camera)
    for image in (0, 2):
        torch.testing.assert_close(mixed.image[image], whole.image[image], rtol=0, atol=0)
        torch.testing.assert_close(mixed.depth[image], whole.depth[image], rtol=0, atol=0)
    assert mixed.mask[1].max() == 0
    assert mixed.image[1].isnan().all()
    (grad,) = torch.autograd.grad(mixed.image[[0, 2]].sum(), depth)
    assert grad[[0, 2]].isfinite().all()


def test_float32_agrees_with_float64():
    camera = Camera(64)
    inputs = textures(camera, 2), depth_map("bump", camera, 2), views(2, seed=1)
    exact = warp(*inputs, camera)
    single = warp(*(t.float() for t in inputs), camera)
    assert single.image.dtype == single.depth.dtype == single.mask.dtype == torch.float32
    assert (single.mask != exact.mask).sum() <= 2
    close = (single.depth - exact.depth).abs() < 1e-4
    assert close.double().mean() > 0.999


def test_half_precision_is_rendered_in_float32():
    camera = Camera(16)
    half = (textures(camera, 2), depth_map("bump", camera, 2), views(2))
    texture, depth, view = (t.bfloat16().requires_grad_() for t in half)
    with torch.autocast("cpu", torch.bfloat16):
        seen = warp(texture, depth, view, camera)
    expected = warp(texture.float(), depth.float(), view.float(), camera)
    assert torch.equal(seen.image, expected.image)
    assert torch.equal(seen.depth, expected.depth)
    grads = torch.autograd.grad(seen.image.sum() + seen.depth.sum(), (texture, depth, view))
    assert [g.dtype for g in grads] == [torch.bfloat16] * 3


def test_autocast_does_not_touch_the_torch_path():
    camera = Camera(16)
    depth, view = depth_map("bump", camera, 2).float(), views(2).float()
    plain = screen_vertices(depth, view, camera)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(screen_vertices(depth, view, camera), plain)


def test_torch_path_matches_the_fused_one():
    camera = Camera(32)
    inputs = [
        t.requires_grad_()
        for t in (textures(camera, 2), depth_map("rough", camera, 2), views(2, seed=2))
    ]
    fused = warp(*inputs, camera)
    screen = screen_vertices(*inputs[1:], camera)
    faces = numba_backend.visible_faces(screen, camera)
    depth = depth_from_faces(screen, faces, camera)
    image = sample_texture(inputs[0], sampling_positions(depth, inputs[2], camera))
    torch.testing.assert_close(fused.depth, depth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fused.image, image, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(fused.mask > 0, faces >= 0)
    for a, b in zip(
        gradients((fused.image, fused.depth), inputs),
        gradients((image, depth), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), rtol=1e-6, atol=1e-9)


def test_one_shape_is_shared_by_many_views():
    camera = Camera(16)
    texture, depth, view = textures(camera, 1), depth_map("bump", camera, 1), views(4)
    texture.requires_grad_()
    depth.requires_grad_()
    shared = warp(texture, depth, view, camera)
    single = [warp(texture, depth, one[None], camera) for one in view]
    torch.testing.assert_close(shared.image, torch.cat([s.image for s in single]))
    together = gradients((shared.image,), (texture, depth))
    weights = torch.randn(
        shared.image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    apart = torch.autograd.grad(
        [s.image for s in single], (texture, depth), [w[None] for w in weights]
    )
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b)


def test_thread_count_changes_nothing():
    camera = Camera(32)
    inputs = textures(camera, 5), depth_map("rough", camera, 5), views(5)
    before = torch.get_num_threads()
    seen = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in inputs]
            result = warp(*leaves, camera)
            seen.append([result.image, *gradients((result.image, result.depth), leaves)])
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        for a, b in zip(seen[0], other, strict=True):
            assert torch.equal(a, b)


def test_two_threads_may_render_at_once():
    camera = Camera(32)
    inputs = textures(camera, 4), depth_map("rough", camera, 4), views(4)
    expected = warp(*inputs, camera).image
    wrong = []

    def work():
        for _ in range(20):
            if not torch.equal(warp(*inputs, camera).image, expected):
                wrong.append(1)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert not wrong


def test_channels_last_and_strided_inputs_are_read_rightly():
    camera = Camera(16)
    texture, depth, view = textures(camera, 2), depth_map("bump", camera, 2), views(2)
    plain = warp(texture, depth, view, camera)
    strided = warp(
        texture.contiguous(memory_format=torch.channels_last),
        depth.flip(2).contiguous().flip(2),
        view,
        camera,
    )
    assert torch.equal(plain.image, strided.image)
    flipped = warp(texture, depth.mT.contiguous().mT, view, camera)
    assert torch.equal(plain.image, flipped.image)


def test_faces_cover_the_grid_once():
    faces = grid_faces(4)
    assert faces.shape == (18, 3)
    assert faces[0].tolist() == [0, 1, 4]
    assert faces[1].tolist() == [1, 5, 4]
    assert faces.unique().numel() == 16


@pytest.mark.parametrize(
    ("texture", "depth", "view", "message"),
    [
        ((2, 3, 16, 16), (2, 16, 15), (2, 6), "depth must be"),
        ((2, 3, 16, 16), (2, 16, 16), (2, 5), "view must be"),
        ((2, 3, 8, 8), (2, 16, 16), (2, 6), "texture must be"),
        ((3, 3, 16, 16), (2, 16, 16), (2, 6), "texture has 3 images for 2 views"),
        ((2, 3, 16, 16), (3, 16, 16), (2, 6), "depth has 3 images for 2 views"),
    ],
)
def test_wrong_shapes_are_refused(texture, depth, view, message):
    with pytest.raises(ValueError, match=message):
        warp(torch.zeros(texture), torch.ones(depth), torch.zeros(view), SMALL)


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="auto, numba or pytorch3d"):
        warp(torch.zeros(1, 3, 16, 16), torch.ones(1, 16, 16), torch.zeros(1, 6), SMALL, "gl")


def test_resample_reads_the_border_beyond_the_image():
    camera = replace(SMALL, size=16)
    texture = textures(camera, 1)
    view = torch.zeros(1, 6, dtype=torch.float64)
    view[0, 3] = 100 / camera.focal
    check_view(view)
    flat = torch.ones(1, 16, 16, dtype=torch.float64)
    image = resample(texture, flat, view, camera)
    torch.testing.assert_close(image, texture[..., :1].expand_as(texture))
