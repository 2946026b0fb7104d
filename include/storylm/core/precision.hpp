// SPDX-License-Identifier: MIT
/// @file
/// @brief Mixed precision as types: which dtype weights, activations, the residual stream and the KV cache have.
#pragma once

#include <storylm/core/dtype.hpp>

namespace storylm {

/// Four dtypes under one name; the template argument P of layers and models. A plain dtype means all four.
/// Gradients and masters are always accumulator_t<Weights>.
template <FloatDtype Weights, FloatDtype Activations = Weights, FloatDtype Residual = Activations,
          FloatDtype Kv = Activations>
struct Precision {
  using weights = Weights;          ///< of parameters
  using activations = Activations;  ///< between layers
  using residual = Residual;        ///< of the residual stream
  using kv = Kv;                    ///< of cached keys and values
};

namespace detail {
template <class P>
struct precision_of {
  using type = Precision<P>;
};
template <class W, class A, class R, class K>
struct precision_of<Precision<W, A, R, K>> {
  using type = Precision<W, A, R, K>;
};
}  // namespace detail

template <class P>
using weight_t = typename detail::precision_of<P>::type::weights;  ///< dtype of a parameter's value
template <class P>
using activation_t = typename detail::precision_of<P>::type::activations;  ///< dtype between layers
template <class P>
using residual_t = typename detail::precision_of<P>::type::residual;  ///< dtype of the residual stream
template <class P>
using kv_t = typename detail::precision_of<P>::type::kv;  ///< dtype of cached keys and values
template <class P>
using gradient_t = accumulator_t<weight_t<P>>;  ///< dtype of gradients, masters and moments

}  // namespace storylm
