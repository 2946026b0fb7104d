// SPDX-License-Identifier: MIT
/// @file
/// @brief Root-mean-square normalisation over a residual stream. PyTorch equivalent: torch.nn.RMSNorm after an
/// addition.
#pragma once

#include <storylm/nn/norm.hpp>

namespace storylm::nn {

/// y = s / sqrt(mean(s^2) + eps) * weight with s = residual + dropout(branch), row by row.
/// Zhang and Sennrich, arXiv:1910.07467.
template <class P, Device D>
using RmsNorm = Norm<op::rms_norm, P, D>;
static_assert(Module<RmsNorm<float, Cpu>>);

}  // namespace storylm::nn
