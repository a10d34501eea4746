# SPDX-License-Identifier: Apache-2.0
"""Steps recorded once and replayed: an encoder's forward and backward as a graph each, for every shape of a batch.

A GPU that is told some thousand small operations one by one may wait for the host more than it computes. Batches come
in few shapes: lengths are padded to multiples, and clips of like length make batches of one size. A shape that is seen
again is recorded; from then on a step copies its features to where the recording reads them and asks for a replay. What
changes from step to step without depending on data is read from a `Panel`.

All recordings share memory: only one batch can be between its forward and its backward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from icefall_alp.models.audio_encoder import AudioEncoder
from icefall_alp.models.zipformer.panel import Panel
from icefall_alp.models.zipformer.positions import RelativePositions
from icefall_alp.models.zipformer.regularizers import Whiten
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import preserved_rng

Record: TypeAlias = Callable[[Callable[[], None]], Callable[[], Any]]  # of a function without arguments its replay

MOST = 64  # recordings: each takes host memory and, for its launches, some of the device's
HEADROOM = 1.25  # batches of one duration differ a little in size


def record_steps(encoder: nn.Module, record: Record | None = None) -> None:
    """From now on, replay the encoder in training wherever gradients are on.

    Args:
        encoder: on its device, an `AudioEncoder` that is trained.
        record: how; None makes CUDA graphs.

    Raises:
        UserError: the encoder or the device cannot.
    """
    if not isinstance(encoder, AudioEncoder) or not any(p.requires_grad for p in encoder.parameters()):
        raise UserError("training.encoder_steps=record: there is no audio encoder to train; use run")
    if encoder.config.causal:
        raise UserError("training.encoder_steps=record: a causal encoder draws chunks anew in every step; use run")
    encoder.encode = RecordedEncode(encoder, record or graphs_on(next(encoder.parameters()).device))


def graphs_on(device: torch.device) -> Record:
    """What makes CUDA graphs on a device, all in one pool of memory."""
    library = torch.get_device_module(device)
    if not hasattr(library, "CUDAGraph"):
        raise UserError(f"training.encoder_steps=record: {device} records no graphs; use run")
    pool = library.graph_pool_handle()

    def record(function: Callable[[], None]) -> Callable[[], Any]:
        graph = library.CUDAGraph()
        # threads that load data or watch over NCCL call CUDA meanwhile
        with library.graph(graph, pool=pool, capture_error_mode="thread_local"):
            function()
        return graph.replay

    return record


class RecordedEncode:
    """Stands in for `AudioEncoder.encode`."""

    def __init__(self, encoder: AudioEncoder, record: Record) -> None:
        self._encoder, self._plain, self._record = encoder, encoder.encode, record
        self._shared = _Shared()
        self._seen: set[tuple[object, ...]] = set()
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self._parameters = [p for p in encoder.parameters() if p.requires_grad]

    def __call__(self, features: Tensor, lens: Tensor, padded: bool) -> Tensor:
        """As `AudioEncoder.encode`; a shape that is new is run, and a step whose operations are counted."""
        if not (self._encoder.training and torch.is_grad_enabled()) or is_in_torch_dispatch_mode():
            return self._plain(features, lens, padded)
        kind = features.device.type
        key = (*features.shape, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        if key not in self._recordings:
            if key not in self._seen or len(self._recordings) == MOST:
                self._seen.add(key)
                return self._plain(features, lens, padded)
            self._recordings[key] = self._recorded(features, lens)
        return _Replay.apply(self._recordings[key], features, lens, *self._parameters)

    def _recorded(self, features: Tensor, lens: Tensor) -> _Recording:
        try:
            return _Recording(_Step(self._encoder, self._plain), features, lens, self._record, self._shared)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            raise UserError(
                "training.encoder_steps=record: no memory for a recording, which takes as much as a step besides; "
                "lower data.max_duration or use run"
            ) from error


def lacks_memory(error: RuntimeError) -> bool:
    """Whether a device has too little: PyTorch's own, or the driver's, of which graphs and libraries take some."""
    return isinstance(error, torch.OutOfMemoryError) or bool(re.search("out of memory|ALLOC_FAILED", str(error)))


class _Step(nn.Module):
    """The encoder as a function of its parameters, for `functional_call`."""

    def __init__(self, encoder: AudioEncoder, encode: Callable[[Tensor, Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.encoder, self._encode = encoder, encode

    def forward(self, features: Tensor, lens: Tensor) -> Tensor:
        return self._encode(features, lens, True)


class _Shared:
    """Memory that the recordings of an encoder use in turn.

    Attributes:
        turn: counts batches.
        gradients: of all parameters, one after the other, and the part of each.
    """

    def __init__(self) -> None:
        self.turn = 0
        self.gradients: tuple[Tensor, Sequence[Tensor]] | None = None
        self._flat: dict[str, Tensor] = {}

    def like(self, name: str, x: Tensor) -> Tensor:
        """A tensor of the size and type of x in the memory of that name; what has it already keeps it."""
        flat = self._flat.get(name)
        if flat is None or flat.dtype != x.dtype or len(flat) < x.numel():
            flat = self._flat[name] = torch.zeros(int(HEADROOM * x.numel()), dtype=x.dtype, device=x.device)
        return flat[: x.numel()].view(x.shape)

    def places(self, parameters: list[Tensor]) -> Sequence[Tensor]:
        """Where the gradient of each parameter is written, as a row of numbers."""
        if self.gradients is None:
            flat = parameters[0].new_zeros(sum(p.numel() for p in parameters))
            self.gradients = flat, flat.split([p.numel() for p in parameters])
        return self.gradients[1]


def _shaped(flat: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    parts = flat.split([p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


class _Recording:
    """Forward and backward for one shape.

    Args:
        step: what is recorded.
        features: (N, T, F) and lens (N,) of a batch of the shape, to rehearse with: kernels are compiled by that and
            libraries begin their work, which cannot be recorded.
        record: how.
        shared: memory.
    """

    def __init__(self, step: _Step, features: Tensor, lens: Tensor, record: Record, shared: _Shared) -> None:
        self._step, self._clock, self._shared = step, step.encoder.clock, shared
        self._whitens = [module for module in step.modules() if isinstance(module, Whiten)]
        self._panel, self._loss_scale = Panel(features.device), torch.ones((), device=features.device)
        self._features, self._lens = shared.like("features", features), torch.empty_like(lens)
        with preserved_rng():
            self._take(features, lens)
            self._forward()
            self._backward()
            self._replay_forward, self._replay_backward = record(self._forward), record(self._backward)
        # Longer clips make longer tables; this recording reads the present ones.
        self._tables = [module.table for module in step.modules() if isinstance(module, RelativePositions)]

    def _take(self, features: Tensor, lens: Tensor) -> None:
        self._features.copy_(features)
        self._lens.copy_(lens)
        self._panel.refresh()

    def _forward(self) -> None:
        # Leaves of their own: those of the model hang on streams and hooks that a recording must not touch.
        leaves = {name: p.detach().requires_grad_(p.requires_grad) for name, p in self._step.named_parameters()}
        self._wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
        kind = self._features.device.type
        self._panel.restart()
        self._clock.panel = self._panel
        # autocast's cache would keep copies of parameters beyond the recording
        as_now = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
        try:
            with torch.enable_grad(), torch.autocast(kind, **as_now, cache_enabled=False):
                self._graph = torch.func.functional_call(self._step, leaves, (self._features, self._lens))
        finally:
            self._clock.panel = None
        self._out = self._shared.like("out", self._graph)
        self._out.copy_(self._graph.detach())

    def _backward(self) -> None:
        self._grad = self._shared.like("grad", self._graph)
        scale, verdicts = self._clock.loss_scale, [(module, module.violated) for module in self._whitens]
        self._clock.loss_scale = self._loss_scale
        for module in self._whitens:
            module.violated = None
        with torch.autocast(self._features.device.type, enabled=False):  # as a backward is called
            found = torch.autograd.grad(self._graph, self._wanted, self._grad, allow_unused=True)
        self._clock.loss_scale, self._graph = scale, None
        self._used = [grad is not None for grad in found]
        places = [place for place, used in zip(self._shared.places(self._wanted), self._used, strict=True) if used]
        torch._foreach_copy_(places, [grad.reshape(-1) for grad in found if grad is not None])  # rows: in one kernel
        self._judging = [module for module in self._whitens if module.violated is not None]
        self._verdicts = [module.violated for module in self._judging]
        for module, violated in verdicts:
            module.violated = violated

    def forward(self, features: Tensor, lens: Tensor) -> tuple[Tensor, int]:
        """Frames (N, T', output_dim), in memory that the next batch writes to; and the number of the batch."""
        self._take(features, lens)
        self._replay_forward()
        self._shared.turn += 1
        return self._out.detach(), self._shared.turn

    def backward(self, grad: Tensor, turn: int) -> list[Tensor | None]:
        """Gradients of the parameters, once; leaves the verdicts of those Whitens that looked."""
        if turn != self._shared.turn:
            raise RuntimeError("what this backward needs is gone: another batch was encoded, or it was called before")
        self._grad.copy_(grad)
        scale = self._clock.loss_scale
        self._loss_scale.copy_(scale) if isinstance(scale, Tensor) else self._loss_scale.fill_(scale)
        self._replay_backward()
        self._shared.turn += 1
        for module, violated in zip(self._judging, self._verdicts, strict=True):
            module.violated = violated.clone() if module.looks else module.violated
        grads = _shaped(self._shared.gradients[0].clone(), self._wanted)
        return [grad if used else None for grad, used in zip(grads, self._used, strict=True)]


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recording: _Recording, features: Tensor, lens: Tensor, *parameters: Tensor) -> Tensor:
        out, ctx.turn = recording.forward(features, lens)
        ctx.recording = recording
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *ctx.recording.backward(grad, ctx.turn)
