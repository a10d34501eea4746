# SPDX-License-Identifier: Apache-2.0
"""One rank of test_gather_gradient.py: writes its gradient to `<folder>/rank_<r>.json`."""

import json
import sys
from pathlib import Path

import torch

from icefall_alp.utils import distributed
from icefall_alp.utils.gather_gradient import gather_with_gradient

SIZES = (2, 3, 0)


def uneven_gather(rank: int, world_size: int) -> list[list[float]]:
    """Gradient of a loss in which every process uses every row, (own rows, 2)."""
    rows = torch.arange(10, dtype=torch.float64).view(5, 2)
    start = sum(SIZES[:rank])
    own = rows[start : start + SIZES[rank]].clone().requires_grad_()
    everything = gather_with_gradient(own)
    assert torch.equal(everything.detach(), rows[: sum(SIZES[:world_size])])
    ((rank + 1) * everything.pow(3).sum() + own.sum()).backward()
    return own.grad.tolist()


if __name__ == "__main__":
    ranks = distributed.setup()
    gradient = uneven_gather(ranks.rank, ranks.world_size)
    (Path(sys.argv[1]) / f"rank_{ranks.rank}.json").write_text(json.dumps(gradient))
    distributed.cleanup()
