// SPDX-License-Identifier: MIT
/// @file
/// @brief Layer normalisation over a residual stream. PyTorch equivalent: torch.nn.LayerNorm after an addition.
#pragma once

#include <storylm/nn/norm.hpp>

namespace storylm::nn {

/// y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias with s = residual + dropout(branch), row by row.
/// Ba, Kiros and Hinton, arXiv:1607.06450.
template <class P, Device D>
using LayerNorm = Norm<op::layer_norm, P, D>;
static_assert(Module<LayerNorm<float, Cpu>>);

}  // namespace storylm::nn
