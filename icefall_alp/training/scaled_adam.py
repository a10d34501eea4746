# SPDX-License-Identifier: Apache-2.0
"""ScaledAdam: Adam whose steps are relative to the size of each parameter, with an explicit update of that size.

The optimizer of Zipformer (Yao et al., "Zipformer: A faster and better encoder for automatic speech recognition",
ICLR 2024, section 3.5). With gradient g after clipping, t completed steps and rms the root mean square of a parameter:

    v  = beta2 v + (1 - beta2) g^2
    d  = -lr max(rms, RMS_MIN) g / (sqrt(v / (1 - beta2^(t+1))) + eps)
    d += p q                     every fourth step; q is an Adam step on the logarithm of the size, from sum(p g)
    m  = beta1 m + (1 - beta1) d
    p += m

A parameter with one element ("scalar") has no size: it moves at 0.1 lr and stays within +-10. Gradients are scaled down
together when their norm, weighted by rms, exceeds a multiple of its recent median; if any is infinite or NaN, all count
as zero in that step.

All parameters of a group live in buffers of rows of equal width, each parameter starting on a new row (the rest of its
last row stays zero). One elementwise operation then serves hundreds of tensors, a sum per parameter is a sum per row
followed by one segmented sum, and a factor per parameter is a factor per row. Long buffers are worked through in chunks
that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from icefall_alp.utils.errors import UserError

ROW_WIDTH = 256  # elements
CPU_CHUNK = 1 << 20  # elements: fits the cache
DEVICE_CHUNK = 1 << 26  # elements: elsewhere few launches matter more
SCALAR_SCALE = 0.1  # of the learning rate: for scalars, and for the size of the others
SCALAR_MAX = 10.0
RMS_MIN = 1e-5
RMS_MAX = 3.0
SIZE_PERIOD = 4  # steps between updates of the size
SIZE_STEP_MAX = 0.1
EARLY_THRESHOLDS = (10, 20, 40)  # steps at which the clipping threshold is first estimated, generously


class ScaledAdam(torch.optim.Optimizer):
    """Multi-tensor ScaledAdam; no step waits for the device except those that estimate the clipping threshold.

    Args:
        params: Parameters or parameter groups, as for any `torch.optim.Optimizer`; see `parameter_groups`. float32,
            bfloat16 or float64; the state is at least float32. A missing gradient counts as zero.
        lr: Relative change of a parameter per step.
        clipping_scale: Gradients whose norm exceeds this multiple of the recent median are scaled down to it.
        betas: Decay of the gradients' first and second moment.
        eps: Keeps the division finite.
        clipping_update_period: Steps over which the median is taken.

    Raises:
        UserError: From `step`, when the median of the gradients' norms is not finite.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.045,
        clipping_scale: float = 2.0,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        clipping_update_period: int = 100,
    ) -> None:
        self._rows: list[_Rows | None] = []
        defaults = {"lr": lr, "clipping_scale": clipping_scale, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "clipping_update_period": clipping_update_period})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; their state is made at their first step."""
        super().add_param_group(param_group)
        self._rows.append(None)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter once from its gradient."""
        for index, group in enumerate(self.param_groups):
            rows = self._rows[index] or self._make_rows(index)
            grads = [zero if p.grad is None else p.grad for p, zero in zip(rows.params, rows.zeros, strict=True)]
            factor = rows.clip_gradients(grads, group)
            if rows.step % SIZE_PERIOD == SIZE_PERIOD - 1:
                rows.measure_size()
            for chunk in rows.chunks:
                rows.update(chunk, grads[chunk.items], factor, group)
            if rows.scalars:
                torch._foreach_clamp_min_(rows.scalars, -SCALAR_MAX)
                torch._foreach_clamp_max_(rows.scalars, SCALAR_MAX)
            rows.step += 1

    def _make_rows(self, index: int) -> _Rows:
        group = self.param_groups[index]
        rows = _Rows(group["params"], group["clipping_update_period"])
        self._rows[index] = rows
        return rows

    def clipping(self) -> dict[str, Tensor]:
        """For the log, without waiting for the device: one value per parameter group.

        Returns:
            `model_norm` and `clip_factor` of the last step, the current `threshold`, and `num_clipped`, the steps
            clipped since the threshold was last estimated; each (num_groups,). Empty before the first step.
        """
        made = [rows for rows in self._rows if rows is not None]
        names = ("model_norm", "clip_factor", "threshold", "num_clipped") if made else ()
        return {name: torch.stack([getattr(rows, name) for rows in made]) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: tensors, numbers and lists of numbers under string keys.

        Returns:
            `param_groups`: per group its options, and `params`, the number of elements of each parameter.
            `state`: per group ("0", "1", ...), once it has made a step, `step` and the tensors `exp_avg_sq` and
            `delta` (all parameters in order, flat), `rms`, `scale_exp_avg_sq` (num_params,),
            `scale_grads` (4, num_params), `model_norms` (clipping_update_period,), `threshold`, `num_clipped`,
            `model_norm` and `clip_factor` (). The tensors are copies.
        """
        groups = [
            {**_options(group), "betas": list(group["betas"]), "params": [p.numel() for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {str(i): rows.state_dict() for i, rows in enumerate(self._rows) if rows is not None}
        return {"param_groups": groups, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, with the same parameters in the same order.

        Raises:
            UserError: When the parameters differ in number or size; nothing is changed then.
        """
        saved_groups = state_dict["param_groups"]
        here = [[p.numel() for p in group["params"]] for group in self.param_groups]
        if [list(group["params"]) for group in saved_groups] != here:
            saved_count = sum(len(group["params"]) for group in saved_groups)
            raise UserError(
                f"optimizer state of {saved_count} parameters in {len(saved_groups)} groups does not fit the model's "
                f"{sum(map(len, here))} in {len(here)}: resume with the configuration that wrote the checkpoint"
            )
        for index, (group, saved) in enumerate(zip(self.param_groups, saved_groups, strict=True)):
            group.update(_options(saved), betas=tuple(saved["betas"]))
            self._rows[index] = None
            if str(index) in state_dict["state"]:
                self._make_rows(index).load_state_dict(state_dict["state"][str(index)])


class _Chunk:
    """Consecutive parameters of a group: their rows, and views shaped like them into buffers of those rows."""

    def __init__(self, rows: _Rows, items: slice, first_row: int) -> None:
        counts = rows.row_counts[items]
        self.items = items
        self.params = rows.params[items]
        self.rows = slice(first_row, first_row + sum(counts))
        self.lengths = torch.tensor(counts, device=rows.device)
        self.row_item = rows.row_item[self.rows] - items.start
        self.grads = rows.grads[: sum(counts)]
        self.values = rows.values[: sum(counts)]
        self.grad_views = _views(self.grads, self.params)
        flat, ends = self.grads.view(-1), accumulate(count * ROW_WIDTH for count in counts)
        gaps = [flat[end - -p.numel() % ROW_WIDTH : end] for p, end in zip(self.params, ends, strict=True)]
        self.grad_gaps = [gap for gap in gaps if gap.numel()]
        self.value_views = _views(self.values, self.params)
        self.exp_avg_sq = rows.exp_avg_sq[self.rows]
        self.delta = rows.delta[self.rows]
        self.delta_views = _views(self.delta, self.params)


class _Rows:
    """State of one parameter group and the arithmetic on it."""

    def __init__(self, params: list[Tensor], clipping_update_period: int) -> None:
        devices = {p.device for p in params}
        if len(devices) > 1:
            raise UserError(f"one parameter group lies on {len(devices)} devices: move the whole model to one first")
        self.device = params[0].device
        dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
        options = {"dtype": dtype, "device": self.device}
        self.params = params
        self.step = 0
        self.row_counts = [_row_count(p) for p in params]
        self.scalars = [p for p in params if p.numel() == 1]
        numels = [p.numel() for p in params]
        self.numels = torch.tensor(numels, **options)
        self.is_scalar = self.numels == 1
        # Views of one array: parameters that the loss does not reach cost no memory.
        no_gradient = torch.zeros(max(numels), **options)
        self.zeros = [no_gradient[: p.numel()].view(p.shape) for p in params]
        self.exp_avg_sq = torch.zeros(sum(self.row_counts), ROW_WIDTH, **options)
        self.delta = torch.zeros_like(self.exp_avg_sq)
        self.scale_exp_avg_sq = torch.zeros(len(params), **options)
        self.scale_grads = torch.zeros(SIZE_PERIOD, len(params), **options)
        self.model_norms = torch.zeros(clipping_update_period, **options)
        self.threshold = torch.tensor(torch.inf, **options)
        self.model_norm = torch.zeros((), **options)
        self.clip_factor = torch.ones((), **options)
        self.num_clipped = torch.zeros((), dtype=torch.int64, device=self.device)
        self.row_item = torch.repeat_interleave(torch.tensor(self.row_counts)).to(self.device)
        self.measure_size()
        self.chunks = self._make_chunks()

    def _make_chunks(self) -> list[_Chunk]:
        limit = (CPU_CHUNK if self.device.type == "cpu" else DEVICE_CHUNK) // ROW_WIDTH
        starts, size = [0], 0
        for item, count in enumerate(self.row_counts):
            if size and size + count > limit:
                starts.append(item)
                size = 0
            size += count
        items = [slice(*ends) for ends in zip(starts, [*starts[1:], len(self.params)], strict=True)]
        sizes = [sum(self.row_counts[item]) for item in items]
        # Work space that all chunks share.
        self.grads = self.exp_avg_sq.new_zeros(max(sizes), ROW_WIDTH)
        self.values = torch.zeros_like(self.grads)
        return [_Chunk(self, item, first_row) for item, first_row in zip(items, _starts(sizes), strict=True)]

    def measure_size(self) -> None:
        """Set `rms` (num_params,) from the parameters; for scalars it is the factor on their learning rate."""
        norms = torch.stack(torch._foreach_norm(self.params, 2, self.exp_avg_sq.dtype))
        self._set_size((norms * self.numels.rsqrt()).masked_fill_(self.is_scalar, SCALAR_SCALE))

    def _set_size(self, rms: Tensor) -> None:
        self.rms = rms
        self.row_inverse_size = rms.clamp(min=RMS_MIN).reciprocal()[self.row_item].unsqueeze(1)

    def clip_gradients(self, grads: list[Tensor], group: dict[str, Any]) -> Tensor | None:
        """Compare the gradients' norm, weighted by the parameters' sizes, with the threshold.

        Returns:
            Factor () in [0, 1] for the gradients, 0 when they are not all finite; None where it is known to be 1.
        """
        norms = torch.stack(torch._foreach_norm(grads, 2, self.exp_avg_sq.dtype))
        self.model_norm = torch.linalg.vector_norm(norms * self.rms)
        period = group["clipping_update_period"]
        if self.step > 0:
            self.model_norms[self.step % period] = self.model_norm
            early = self.step in EARLY_THRESHOLDS and self.step < period
            if early or self.step % period == 0:
                count, leniency = (self.step, 2.0) if early else (period, 1.0)
                self._estimate_threshold(count, leniency * group["clipping_scale"])
        # Before the first estimate the threshold is infinite, and infinity over infinity becomes 0 like every NaN.
        self.clip_factor = (self.threshold / (self.model_norm + 1e-20)).clamp(max=1.0).nan_to_num(nan=0.0)
        self.num_clipped += self.clip_factor < 1.0
        # On a CPU looking costs nothing and saves two passes; on a GPU it would wait for the device.
        return None if self.device.type == "cpu" and self.clip_factor == 1.0 else self.clip_factor

    def _estimate_threshold(self, count: int, scale: float) -> None:
        largest = self.model_norms.sort().values[-count:]
        median = largest[min(count - 1, 2 * (count // 4))]
        if not torch.isfinite(median):
            raise UserError(
                f"gradients were infinite or NaN in half of the last {count} steps (step {self.step}): lower "
                "optim.base_lr, lengthen the warm-up or look for broken features"
            )
        self.threshold = scale * median
        self.num_clipped = torch.zeros_like(self.num_clipped)

    def update(self, chunk: _Chunk, grads: list[Tensor], factor: Tensor | None, group: dict[str, Any]) -> None:
        """One step of one chunk, given its gradients and the clipping factor."""
        beta1, beta2 = group["betas"]
        torch._foreach_copy_(chunk.grad_views, grads)
        if chunk.grad_gaps:  # where the chunk before had its gradients
            torch._foreach_zero_(chunk.grad_gaps)
        if factor is not None:
            chunk.grads.mul_(factor).masked_fill_(factor == 0, 0.0)
        chunk.exp_avg_sq.mul_(beta2).addcmul_(chunk.grads, chunk.grads, value=1 - beta2)
        torch._foreach_copy_(chunk.value_views, chunk.params)
        products = chunk.values.mul_(chunk.grads).sum(1)
        sums = torch.segment_reduce(products, "sum", lengths=chunk.lengths, unsafe=True)
        self.scale_grads[self.step % SIZE_PERIOD, chunk.items] = sums

        correction = 1 - beta2 ** (self.step + 1)
        correction = correction**0.5 if correction < 0.99 else 1.0
        denominator = torch.sqrt(chunk.exp_avg_sq, out=chunk.values).add_(group["eps"] * correction)
        denominator.mul_(self.row_inverse_size[chunk.rows])
        rate = group["lr"] * (1 - beta1) * correction
        chunk.delta.mul_(beta1).addcdiv_(chunk.grads, denominator, value=-rate)
        if self.step % SIZE_PERIOD == SIZE_PERIOD - 1:
            growth = self._growth(chunk, group)[chunk.row_item].unsqueeze(1)
            torch._foreach_copy_(chunk.value_views, chunk.params)
            chunk.delta.addcmul_(chunk.values, growth, value=1 - beta1)
        torch._foreach_add_(chunk.params, chunk.delta_views)

    def _growth(self, chunk: _Chunk, group: dict[str, Any]) -> Tensor:
        """Relative change of size of each parameter of the chunk, (num_params,); 0 for scalars."""
        decay = group["betas"][1] ** SIZE_PERIOD
        sums = self.scale_grads[:, chunk.items]
        rms = self.rms[chunk.items]
        second_moment = self.scale_exp_avg_sq[chunk.items]
        second_moment.mul_(decay).add_(sums.square().mean(0), alpha=1 - decay)
        correction = (1 - decay ** ((self.step + 1) // SIZE_PERIOD)) ** 0.5
        rate = SCALAR_SCALE * group["lr"] * correction
        growth = sums.sum(0) / (second_moment.sqrt() + group["eps"]) * -rate
        growth.masked_fill_(rms < RMS_MIN, 0.0).clamp_(-SIZE_STEP_MAX, SIZE_STEP_MAX)
        return torch.minimum(growth, (RMS_MAX - rms) / rms).masked_fill_(self.is_scalar[chunk.items], 0.0)

    def state_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name).clone() for name in _SMALL_STATE}
        for name in ("exp_avg_sq", "delta"):
            tensors[name] = torch.cat([view.reshape(-1) for view in _views(getattr(self, name), self.params)])
        return {"step": self.step, **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in _SMALL_STATE:
            setattr(self, name, state[name].to(getattr(self, name), copy=True))
        self._set_size(self.rms)
        for name in ("exp_avg_sq", "delta"):
            flat = [view.view(-1) for view in _views(getattr(self, name), self.params)]
            torch._foreach_copy_(flat, list(state[name].to(self.device).split([view.numel() for view in flat])))


_SMALL_STATE = (
    "rms", "scale_exp_avg_sq", "scale_grads", "model_norms", "threshold", "model_norm", "clip_factor", "num_clipped",
)  # fmt: skip


def _views(rows: Tensor, params: list[Tensor]) -> list[Tensor]:
    """Rows (num_rows, ROW_WIDTH) seen as the parameters that lie in them."""
    flat = rows.view(-1)
    starts = _starts([_row_count(p) * ROW_WIDTH for p in params])
    return [flat[start : start + p.numel()].view(p.shape) for start, p in zip(starts, params, strict=True)]


def _row_count(param: Tensor) -> int:
    return -(-param.numel() // ROW_WIDTH)


def _starts(sizes: list[int]) -> list[int]:
    return [0, *accumulate(sizes[:-1])]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def parameter_groups(module: nn.Module, base_lr: float) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning rate.

    A parameter's rate is `base_lr` times every `lr_scale` attribute of the modules on the path from `module` to it.

    Returns:
        One `{"params": [...], "lr": float}` per rate, in the order of first use, for `ScaledAdam`.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            lr = base_lr * getattr(module, "lr_scale", 1.0)
            owner = module
            for part in name.split(".")[:-1]:
                owner = getattr(owner, part)
                lr *= getattr(owner, "lr_scale", 1.0)
            groups.setdefault(lr, []).append(parameter)
    return [{"params": params, "lr": lr} for lr, params in groups.items()]
