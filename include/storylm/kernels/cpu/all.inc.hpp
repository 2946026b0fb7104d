// SPDX-License-Identifier: MIT
/// @file
/// @brief All that is compiled once per instruction set, in the order in which it builds on each other: sets.hpp parses
/// this inside the namespace of each.
///
/// So none of these files has includes or a namespace, and none can stand alone. A set's own kernel<Op, T...> is
/// specialised here; dispatch.hpp makes storylm::kernel<Op, Cpu, T...> of it.

template <class Op, class... T>
struct kernel;

#include <storylm/kernels/cpu/vector.inc.hpp>
//
#include <storylm/kernels/cpu/vector_dtypes.inc.hpp>
//
#include <storylm/kernels/cpu/lanes.inc.hpp>
#include <storylm/kernels/cpu/math.inc.hpp>
//
#include <storylm/kernels/cpu/dropout.inc.hpp>
#include <storylm/kernels/cpu/row_dropout.inc.hpp>
//
#include <storylm/kernels/cpu/activation.inc.hpp>
#include <storylm/kernels/cpu/arena_pieces.inc.hpp>
//
#include <storylm/kernels/cpu/adam.inc.hpp>
#include <storylm/kernels/cpu/add.inc.hpp>
#include <storylm/kernels/cpu/clip.inc.hpp>
#include <storylm/kernels/cpu/column_sum.inc.hpp>
#include <storylm/kernels/cpu/cross_entropy.inc.hpp>
#include <storylm/kernels/cpu/embedding.inc.hpp>
#include <storylm/kernels/cpu/rope.inc.hpp>
#include <storylm/kernels/cpu/scale_to_mean.inc.hpp>
#include <storylm/kernels/cpu/sgd.inc.hpp>
#include <storylm/kernels/cpu/sum.inc.hpp>
#include <storylm/kernels/cpu/swiglu.inc.hpp>
//
#include <storylm/kernels/cpu/norm_rows.inc.hpp>
//
#include <storylm/kernels/cpu/layer_norm.inc.hpp>
#include <storylm/kernels/cpu/rms_norm.inc.hpp>
//
#include <storylm/kernels/cpu/matmul_tile.inc.hpp>
//
#include <storylm/kernels/cpu/matmul_pack.inc.hpp>
//
#include <storylm/kernels/cpu/matmul.inc.hpp>
#include <storylm/kernels/cpu/matmul_rows.inc.hpp>
#include <storylm/kernels/cpu/peak_flops.inc.hpp>
//
#include <storylm/kernels/cpu/linear_activation.inc.hpp>
#include <storylm/kernels/cpu/linear_gradient.inc.hpp>
//
#include <storylm/kernels/cpu/attention_tiles.inc.hpp>
//
#include <storylm/kernels/cpu/attention_forward.inc.hpp>
//
#include <storylm/kernels/cpu/attention_backward.inc.hpp>
//
#include <storylm/kernels/cpu/attention.inc.hpp>
#include <storylm/kernels/cpu/attention_cached.inc.hpp>
