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

The element-wise work on all parameters of a group is done at once by `kernels/scaled_adam_rows.py` (any device),
`kernels/native_scaled_adam.py` (float32 on a CPU) or `kernels/triton_scaled_adam.py` (float32 elsewhere).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels.native_scaled_adam import ScaledAdamLoops, loops_suit
from icefall_alp.models.kernels.scaled_adam_rows import ScaledAdamRows, kernels_suit
from icefall_alp.utils.errors import UserError

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
        self._states: list[_GroupState | None] = []
        defaults = {"lr": lr, "clipping_scale": clipping_scale, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "clipping_update_period": clipping_update_period})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; their state is made at their first step."""
        super().add_param_group(param_group)
        self._states.append(None)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter once from its gradient."""
        for index, group in enumerate(self.param_groups):
            state = self._states[index] or self._make_state(index)
            state.advance(group)

    def _make_state(self, index: int) -> _GroupState:
        group = self.param_groups[index]
        state = _GroupState(group["params"], group["clipping_update_period"])
        self._states[index] = state
        return state

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which go on by themselves from where this one is."""
        return {**super().__getstate__(), "made": self.state_dict()["state"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy."""
        made = state.pop("made")
        super().__setstate__(state)
        self._states = [None] * len(self.param_groups)
        for index, saved in made.items():
            self._make_state(int(index)).load_state_dict(saved)

    def clipping(self) -> dict[str, Tensor]:
        """For the log, without waiting for the device: one value per parameter group.

        Returns:
            `model_norm` and `clip_factor` of the last step, the current `threshold`, and `num_clipped`, the steps
            clipped since the threshold was last estimated; each (num_groups,). Empty before the first step.
        """
        made = [state for state in self._states if state is not None]
        names = ("model_norm", "clip_factor", "threshold", "num_clipped") if made else ()
        return {name: torch.stack([getattr(state, name) for state in made]) for name in names}

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
        states = {str(i): state.state_dict() for i, state in enumerate(self._states) if state is not None}
        return {"param_groups": groups, "state": states}

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
            self._states[index] = None
            if str(index) in state_dict["state"]:
                self._make_state(index).load_state_dict(state_dict["state"][str(index)])


class _GroupState:
    """State of one parameter group and what is computed once per parameter."""

    def __init__(self, params: list[Tensor], clipping_update_period: int) -> None:
        devices = {p.device for p in params}
        if len(devices) > 1:
            raise UserError(f"one parameter group lies on {len(devices)} devices: move the whole model to one first")
        self.device = params[0].device
        dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
        options = {"dtype": dtype, "device": self.device}
        self.params = params
        self.step = 0
        self.scalars = [p for p in params if p.numel() == 1]
        numels = [p.numel() for p in params]
        self.numels = torch.tensor(numels, **options)
        self.is_scalar = self.numels == 1
        # Views of one array: parameters that the loss does not reach cost no memory.
        no_gradient = torch.zeros(max(numels), **options)
        self.zeros = [no_gradient[: p.numel()].view(p.shape) for p in params]
        self.elements = _elements(params, dtype)
        self.scale_exp_avg_sq = torch.zeros(len(params), **options)
        self.scale_grads = torch.zeros(SIZE_PERIOD, len(params), **options)
        self.model_norms = torch.zeros(clipping_update_period, **options)
        self.threshold = torch.tensor(torch.inf, **options)
        self.model_norm = torch.zeros((), **options)
        self.clip_factor = torch.ones((), **options)
        self.num_clipped = torch.zeros((), dtype=torch.int64, device=self.device)
        self.measure_size()

    def advance(self, group: dict[str, Any]) -> None:
        """Update every parameter once from its gradient."""
        beta1, beta2 = group["betas"]
        changes_size = self.step % SIZE_PERIOD == SIZE_PERIOD - 1
        grads = [zero if p.grad is None else p.grad for p, zero in zip(self.params, self.zeros, strict=True)]
        factor = self.clip_gradients(grads, group)
        if changes_size:
            self.measure_size()
        correction = 1 - beta2 ** (self.step + 1)
        correction = correction**0.5 if correction < 0.99 else 1.0
        rate = group["lr"] * (1 - beta1) * correction
        inverse_size = self.rms.clamp(min=RMS_MIN).reciprocal()
        self.scale_grads[self.step % SIZE_PERIOD] = self.elements.update(
            grads, factor, inverse_size, group["betas"], group["eps"] * correction, rate, move=not changes_size
        )
        if changes_size:
            self.elements.grow(self._growth(group) * (1 - beta1))
        if self.scalars:
            torch._foreach_clamp_min_(self.scalars, -SCALAR_MAX)
            torch._foreach_clamp_max_(self.scalars, SCALAR_MAX)
        self.step += 1

    def measure_size(self) -> None:
        """Set `rms` (num_params,) from the parameters; for scalars it is the factor on their learning rate."""
        norms = torch.stack(torch._foreach_norm(self.params, 2, self.numels.dtype))
        self.rms = (norms * self.numels.clamp(min=1).rsqrt()).masked_fill_(self.is_scalar, SCALAR_SCALE)

    def clip_gradients(self, grads: list[Tensor], group: dict[str, Any]) -> Tensor | None:
        """Compare the gradients' norm, weighted by the parameters' sizes, with the threshold.

        Returns:
            Factor () in [0, 1] for the gradients, 0 when they are not all finite; None where it is known to be 1.
        """
        norms = torch.stack(torch._foreach_norm(grads, 2, self.numels.dtype))
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

    def _growth(self, group: dict[str, Any]) -> Tensor:
        """Relative change of size of each parameter, (num_params,); 0 for scalars."""
        decay = group["betas"][1] ** SIZE_PERIOD
        self.scale_exp_avg_sq.mul_(decay).add_(self.scale_grads.square().mean(0), alpha=1 - decay)
        correction = (1 - decay ** ((self.step + 1) // SIZE_PERIOD)) ** 0.5
        rate = SCALAR_SCALE * group["lr"] * correction
        growth = self.scale_grads.sum(0) / (self.scale_exp_avg_sq.sqrt() + group["eps"]) * -rate
        growth.masked_fill_(self.rms < RMS_MIN, 0.0).clamp_(-SIZE_STEP_MAX, SIZE_STEP_MAX)
        return torch.minimum(growth, (RMS_MAX - self.rms) / self.rms).masked_fill_(self.is_scalar, 0.0)

    def state_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name).clone() for name in _SMALL_STATE}
        for name in ("exp_avg_sq", "delta"):
            tensors[name] = torch.cat([view.reshape(-1) for view in getattr(self.elements, name)])
        return {"step": self.step, **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in _SMALL_STATE:
            setattr(self, name, state[name].to(getattr(self, name), copy=True))
        for name in ("exp_avg_sq", "delta"):
            flat = [view.view(-1) for view in getattr(self.elements, name)]
            torch._foreach_copy_(flat, list(state[name].to(self.device).split([view.numel() for view in flat])))


def _elements(params: list[Tensor], dtype: torch.dtype) -> Any:
    """What does the element-wise work on parameters that lie on one device."""
    if loops_suit(params):
        return ScaledAdamLoops(params)
    if kernels_suit(params):
        from icefall_alp.models.kernels.triton_scaled_adam import ScaledAdamKernels  # Triton need not be installed

        return ScaledAdamKernels(params)
    return ScaledAdamRows(params, dtype)


_SMALL_STATE = (
    "rms", "scale_exp_avg_sq", "scale_grads", "model_norms", "threshold", "model_norm", "clip_factor", "num_clipped",
)  # fmt: skip


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
