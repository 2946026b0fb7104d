// EXPECT: storylm: GradScaler is for half only, the other dtypes have the range of float
// SPDX-License-Identifier: MIT
#include <storylm/optim/grad_scaler.hpp>

void make(storylm::nn::ParameterStore<float, storylm::Cpu>& store) { const storylm::optim::GradScaler scaler(store); }
