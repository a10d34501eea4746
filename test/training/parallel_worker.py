# SPDX-License-Identifier: Apache-2.0
"""One rank of test_parallel.py: `parallel_worker.py <scenario> <folder>`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from training_toys import CONFIG, ToyBatch, ToyObjective, ToyStream, make_batch, make_trainer

from icefall_alp.objectives.base import LossOutput
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import clean_exit


class Separate(ToyObjective):
    """Unlike InfoNCE, a bad clip of one process does not reach the loss of the others."""

    def forward(self, batch: ToyBatch) -> LossOutput:
        total = self.audio_encoder(batch.features).sum() + self.tied_encoder(batch.targets).sum()
        return LossOutput(total, torch.tensor(len(batch.targets)))


class Exploding(Separate):
    """Batch 3 has a finite loss and an infinite gradient."""

    def forward(self, batch: ToyBatch) -> LossOutput:
        output = super().forward(batch)
        if batch.cut_ids[0].startswith("cut_3_"):
            output.total.register_hook(lambda gradient: gradient * torch.inf)
        return output


class Skipping(ToyObjective):
    """Every other batch leaves a parameter out, as attention now and then leaves out its position term."""

    def __init__(self, noise: bool) -> None:
        super().__init__(noise)
        self.sometimes = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch: ToyBatch) -> LossOutput:
        output = super().forward(batch)
        if int(batch.cut_ids[0].split("_")[1]) // 2 % 2 == 0:
            output.total = output.total * self.sometimes
        return output


def gradients(folder: Path) -> None:
    """What one step leaves in the gradients, with uneven batches (2 and 3 items), and what validation says."""
    trainer = make_trainer(None, noise=False)
    sums = trainer.gradients.backward([make_batch(distributed.rank())]).sums
    found = {name: parameter.grad for name, parameter in trainer.objective.named_parameters()}
    save_file({**found, "mean": sums[:1] / sums[1]}, folder / f"gradients_{distributed.rank()}.safetensors")
    (folder / f"valid_{distributed.rank()}.json").write_text(json.dumps(trainer.validate()))


def interrupted(folder: Path) -> None:
    """The unbroken run; and one broken off after step 7 and started again, in the same processes."""
    make_trainer(folder / "unbroken").fit()
    try:
        make_trainer(folder / "broken", stream=ToyStream(fail_at=9)).fit()
    except KeyboardInterrupt:
        torch.manual_seed(99)
    make_trainer(folder / "broken").fit()


def skipping(folder: Path) -> None:
    """Steps with and without one of the parameters."""
    trainer = make_trainer(None, replace(CONFIG, num_steps=6), kind=Skipping)
    trainer.fit()
    save_file(dict(trainer.objective.named_parameters()), folder / f"skipping_{distributed.rank()}.safetensors")


def poisoned(folder: Path) -> None:
    """One bad batch on the second process only, then nothing but bad ones on it."""
    trainer = make_trainer(folder / "poisoned", replace(CONFIG, num_steps=3), stream=ToyStream(damage=range(3, 4)))
    trainer.fit()
    save_file(trainer.objective.audio_encoder.state_dict(), folder / f"poisoned_{distributed.rank()}.safetensors")
    damaged = ToyStream(damage=range(3, 99, 2))
    make_trainer(None, replace(CONFIG, num_steps=40), stream=damaged, kind=Separate).fit()


def exploding(folder: Path) -> None:
    """An infinite gradient on the second process only."""
    trainer = make_trainer(folder / "exploding", replace(CONFIG, num_steps=3), kind=Exploding)
    trainer.fit()
    save_file(trainer.objective.audio_encoder.state_dict(), folder / f"exploding_{distributed.rank()}.safetensors")


SCENARIOS = (gradients, interrupted, skipping, exploding, poisoned)


@clean_exit
def main() -> None:
    distributed.setup()
    scenario = {function.__name__: function for function in SCENARIOS}
    for name in sys.argv[2:]:
        scenario[name](Path(sys.argv[1]))
    distributed.cleanup()


if __name__ == "__main__":
    main()
