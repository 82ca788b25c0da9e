from __future__ import annotations

import numpy as np

from gan2shape.pipeline.synthetic.mesh import blend, frontal_mesh, shape_weights
from gan2shape.pipeline.synthetic.model import EYE_LEFT, AnnyHead, HeadModel
from gan2shape.pipeline.synthetic.parameters import sample_head


def test_shapes_agree_with_annys_own(model: HeadModel, anny_head: AnnyHead) -> None:
    anny = anny_head.model
    for seed in (0, 1, 2):
        head = sample_head(seed, model)
        local = {k: v for k, v in head.controls.items() if k in anny.local_change_labels}
        actions = {k: v for k, v in head.controls.items() if k in anny.facial_action_labels}
        assert len(local) + len(actions) == len(head.controls)
        out = anny(
            phenotype_kwargs=head.phenotypes, local_changes_kwargs=local, facial_actions=actions
        )
        theirs = out["rest_vertices"][0].numpy()
        theirs = np.stack([theirs[:, 0], -theirs[:, 2], theirs[:, 1]], -1)
        ours = blend(
            model.template,
            model.shape_start,
            model.shape_vertex,
            model.shape_offset,
            shape_weights(head, model),
        )[: len(theirs)]
        # The origin differs; anything else must not.
        shift = (ours - theirs).mean(0)
        np.testing.assert_allclose(ours - shift, theirs, atol=2e-6)


def test_frontal_head_is_centred_and_faces_the_camera(model: HeadModel) -> None:
    points = frontal_mesh(sample_head(5, model), model)
    left, right = (points[rim].mean(0) for rim in model.eye_rims)
    assert left[0] > 0.02  # the subject's left is on the right of the image
    assert right[0] < -0.02
    assert points[:, 2].argmin() in np.flatnonzero(abs(model.template[:, 0]) < 0.01)  # the nose
    distance = np.linalg.norm(left - right)
    middle = (left + right) / 2
    np.testing.assert_allclose(middle[1], -0.55 * distance, rtol=1e-3)
    np.testing.assert_allclose(1 - middle[2], 0.7 * distance, rtol=1e-3)
    assert (model.material == EYE_LEFT).sum() > 50


def test_the_neck_is_closed_below_the_frame(model: HeadModel) -> None:
    edges = np.concatenate([model.faces[:, [0, 1]], model.faces[:, [1, 2]], model.faces[:, [2, 0]]])
    pairs, count = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
    rim = np.unique(pairs[count == 1])
    low = rim[model.template[rim, 1] > 0.07]
    assert len(low) > 20
    points = frontal_mesh(sample_head(7, model), model)
    assert (points[low, 1] / points[low, 2]).min() > np.tan(np.radians(5))
