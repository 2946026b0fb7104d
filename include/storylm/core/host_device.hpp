// SPDX-License-Identifier: MIT
/// @file
/// @brief STORYLM_HOST_DEVICE: marks the few functions that kernels and host code share.
#pragma once

#if defined(__CUDACC__)
#define STORYLM_HOST_DEVICE __host__ __device__
#else
#define STORYLM_HOST_DEVICE
#endif
