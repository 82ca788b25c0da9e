"""How fast heads are drawn and written, on one core: `python tests/bench/bench_synth.py [COUNT]`.

Prints images per second with and without start-up (imports, compiled code from its cache, the head
model from its cache), and the share of each part.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

START = time.perf_counter()

import torch  # noqa: E402

from gan2shape.jobs.synthetic import split_seeds, write_heads  # noqa: E402
from gan2shape.jobs.weights.head_model import load_head_model  # noqa: E402
from gan2shape.pipeline.synthetic.mesh import frontal_mesh  # noqa: E402
from gan2shape.pipeline.synthetic.parameters import sample_head  # noqa: E402
from gan2shape.pipeline.synthetic.render import draw_heads  # noqa: E402


def main(count: int) -> None:
    torch.set_num_threads(1)
    seeds = split_seeds("train", count)
    model = load_head_model()
    with tempfile.TemporaryDirectory() as folder:
        write_heads(Path(folder) / "first", seeds[:1], model=model)
        ready = time.perf_counter()
        busy = time.process_time()
        write_heads(Path(folder) / "all", seeds, model=model)
        end, busy = time.perf_counter(), time.process_time() - busy
    sample = timed(lambda: [sample_head(seed, model) for seed in seeds])
    heads = [sample_head(seed, model) for seed in seeds]
    shape = timed(lambda: [frontal_mesh(head, model) for head in heads])
    draw = timed(lambda: list(draw_heads(seeds, model)))
    print(f"{count} heads at 64 px: {end - ready:.2f} s, {busy:.2f} s of processor time")
    print(f"start-up                   {ready - START:8.2f} s")
    print(f"drawn and written          {count / (end - ready):8.1f} images/s")
    print(f"  by processor time        {count / busy:8.1f} images/s")
    print(f"  with start-up            {count / (end - START):8.1f} images/s")
    print(f"sampling                   {1000 * sample / count:8.2f} ms each")
    print(f"shape                      {1000 * shape / count:8.2f} ms each")
    print(f"sampling, shape and pixels {1000 * draw / count:8.2f} ms each")


def timed(work: object) -> float:
    start = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
