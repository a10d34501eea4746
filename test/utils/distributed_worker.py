# SPDX-License-Identifier: Apache-2.0
"""One rank of test_distributed.py: writes what it sees to `<folder>/rank_<r>.json`."""

import json
import sys
from pathlib import Path

import torch

from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError


def refusal() -> str:
    def refuse() -> None:
        raise UserError("no")

    try:
        distributed.on_main(refuse)
    except UserError as error:
        return f"UserError {error}"
    except SystemExit as leaving:
        return f"SystemExit {leaving.code}"
    return "nothing"


if __name__ == "__main__":
    ranks = distributed.setup()
    with distributed.single_process():
        alone = [distributed.rank(), distributed.world_size(), float(distributed.all_reduce_sum(torch.tensor(5.0)))]
    report = {
        "ranks": [ranks.rank, ranks.local_rank, ranks.world_size],
        "main": distributed.is_main(),
        "sum": float(distributed.all_reduce_sum(torch.tensor(float(ranks.rank + 1)))),
        "json": distributed.gather_json({"name": "ä" * ranks.rank}),
        "from_main": distributed.on_main(lambda: [ranks.rank, "said"]),
        "refusal": refusal(),
        "alone": alone,
    }
    (Path(sys.argv[1]) / f"rank_{ranks.rank}.json").write_text(json.dumps(report))
    distributed.cleanup()
