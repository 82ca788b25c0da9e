"""What a reader should know before trusting the numbers of a report."""

from __future__ import annotations

from collections.abc import Sequence

from gan2shape.jobs.report.results import RunResults

RELIEF_RANGE = (0.8, 1.25)
"""Best relief scales outside of this range are pointed out."""
YAW_RATIO = 0.6
"""Spreads of the predicted yaw below this share of the sampled one are pointed out."""
FEWEST = 8
"""Of fewer images the spread of the yaw is not judged."""


def notes(runs: Sequence[RunResults]) -> list[str]:
    """One sentence or two each."""
    found = []
    for results in runs:
        name = f"{results.label}: " if len(runs) > 1 else ""
        found += [name + text for text in (*_data_notes(results), *_shape_notes(results))]
    return found


def _data_notes(results: RunResults) -> list[str]:
    found = []
    if results.left:
        found.append(
            f"{results.left} of {results.images} images are not done yet; 'gan2shape resume "
            f"{results.run.path}' goes on with them."
        )
    if results.references_note:
        found.append(
            "The reference rows are missing, because the ground truth cannot be read any more: "
            + results.references_note
        )
    unscored = results.unscored
    if len(unscored):
        found.append(
            f"{len(unscored)} reconstructed images have no scores, because their ground truth "
            f"could not be used; the first: {unscored['error'].iloc[0]}"
        )
    return found


def _shape_notes(results: RunResults) -> list[str]:
    found = []
    relief = results.statistics["median"]["relief_scale"]
    if relief <= 0:
        found.append("The relief does not follow the truth: where it is near, the truth is far.")
    elif relief < RELIEF_RANGE[0] or relief > RELIEF_RANGE[1]:
        verb = "too deep" if relief < 1 else "too shallow"
        found.append(
            f"The relief is {verb}: scaled by {relief:.2f}, the typical shape fits the truth best."
        )
    yaw = results.yaw
    shallow = relief >= 1  # where there are scores, they know better
    if not shallow and len(results.done) >= FEWEST and yaw["ratio"] < YAW_RATIO:
        found.append(
            f"The predicted yaw spreads by {yaw['predicted']:.1f}°, the pseudo views by "
            f"{yaw['sampled']:.1f}°. Unless the images really turn so little, the shapes explain "
            "by relief what is rotation, and are too deep."
        )
    return found
