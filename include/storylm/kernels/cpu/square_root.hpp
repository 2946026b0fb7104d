// SPDX-License-Identifier: MIT
/// @file
/// @brief Square roots of whole vectors. std::sqrt may set errno, which keeps loops scalar; vector extensions have
/// none.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <cmath>
#include <concepts>
#include <type_traits>

#include <storylm/kernels/cpu/vector.hpp>

namespace storylm::cpu {

/// The square root of every lane, correctly rounded like std::sqrt.
template <std::floating_point T>
[[gnu::always_inline]] inline void square_root(Vector<T>& v) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {  // masked, for the plain ones of g++ 12 read an uninitialised value
    v = Vector<T>(_mm512_maskz_sqrt_ps(0xFFFF, __m512(v)));
  } else {
    v = Vector<T>(_mm512_maskz_sqrt_pd(0xFF, __m512d(v)));
  }
#elif defined(__AVX__)
  if constexpr (std::is_same_v<T, float>) {
    v = Vector<T>(_mm256_sqrt_ps(__m256(v)));
  } else {
    v = Vector<T>(_mm256_sqrt_pd(__m256d(v)));
  }
#elif defined(__SSE2__)
  if constexpr (std::is_same_v<T, float>) {
    v = Vector<T>(_mm_sqrt_ps(__m128(v)));
  } else {
    v = Vector<T>(_mm_sqrt_pd(__m128d(v)));
  }
#else
  for (int l = 0; l < vector_lanes<T>; ++l) v[l] = std::sqrt(v[l]);
#endif
}

}  // namespace storylm::cpu
