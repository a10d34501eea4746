# SPDX-License-Identifier: Apache-2.0
"""The element-wise chains between Zipformer's matrix products.

`plain` defines each chain as its formula reads, differentiated by autograd. `closed` has the same functions in fewer
passes over memory with their gradients in closed form, for any device. `native` has them as loops in C for a CPU, where
there is a compiler, `triton_forms` the chains that a GPU wins most from as one kernel each. `chains` picks one by the
device of the tensor, `plain` with ICEFALL_ALP_FUSED=0. In the same way `scaled_adam_rows`, `native_scaled_adam` and
`triton_scaled_adam` do the optimizer's work on every element. `cross_entropy` is the contrastive loss in rows.
"""
