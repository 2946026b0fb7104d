// SPDX-License-Identifier: MIT
/// @file
/// @brief Loops along one row that vectorise without -ffast-math and give the same bits at every alignment.
///
/// In sums element i belongs to lane i % 16, and lanes are combined in a fixed tree.

inline constexpr index_t lane_count = 16;

/// The sum of f(0) ... f(n - 1), carried in A.
template <class A, class F>
[[nodiscard]] inline A lane_sum(index_t n, const F& f) {
  A lanes[lane_count] = {};
  const index_t whole = n / lane_count * lane_count;
#if defined(__clang__)
#pragma clang loop vectorize(disable) interleave(disable)  // vectors within the group, not across groups
#endif
  for (index_t i = 0; i < whole; i += lane_count) {
    for (index_t l = 0; l < lane_count; ++l) lanes[l] += static_cast<A>(f(i + l));
  }
  for (index_t i = whole; i < n; ++i) lanes[i - whole] += static_cast<A>(f(i));
  for (index_t half = lane_count / 2; half > 0; half /= 2) {
    for (index_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

/// The largest of x[0] ... x[n - 1]; NaNs are passed over, unless x[0] is one. @pre n > 0
template <class T>
[[nodiscard]] inline T lane_max(index_t n, const T* x) {
  constexpr index_t lanes = vector_lanes<T>;
  T largest = x[0];
  index_t i = 0;
  if (n >= lanes) {  // in vectors, because g++ makes no vector code of a loop with ?: over lanes
    Vector<T> best = broadcast(x[0]);
    for (; i + lanes <= n; i += lanes) {
      const Vector<T> next = load(x + i);
      best = best < next ? next : best;
    }
    for (index_t l = 0; l < lanes; ++l) largest = largest < best[l] ? best[l] : largest;
  }
  for (; i < n; ++i) largest = largest < x[i] ? x[i] : largest;
  return largest;
}

/// out[i] = f(i) for i in [0, n). f(i) may read out[i] and no other element of out.
template <class T, class F>
inline void lane_map(index_t n, T* out, const F& f) {
#if defined(__clang__)  // stores of a group after its loads: nothing is in the way of vectors when out is read, too
  const index_t whole = n / lane_count * lane_count;
#pragma clang loop vectorize(disable) interleave(disable)  // the group, not the loop over groups
  for (index_t i = 0; i < whole; i += lane_count) {
    T group[lane_count];
    for (index_t l = 0; l < lane_count; ++l) group[l] = f(i + l);
    for (index_t l = 0; l < lane_count; ++l) out[i + l] = group[l];
  }
  for (index_t i = whole; i < n; ++i) out[i] = f(i);
#else
#if defined(__GNUC__)
#pragma GCC ivdep  // without it g++ takes memory that is both read and written for a reason to stay scalar
#endif
  for (index_t i = 0; i < n; ++i) out[i] = f(i);
#endif
}

/// v, zero in the lanes that do not exist.
template <class A>
[[nodiscard, gnu::always_inline]] inline Vector<A> only(Vector<A> v, AllLanes /*which*/) {
  return v;
}
template <class A>
[[nodiscard, gnu::always_inline]] inline Vector<A> only(Vector<A> v, FirstLanes which) {
  for (index_t l = which.count; l < vector_lanes<A>; ++l) v[l] = A{0};
  return v;
}

/// The sum of the lanes.
template <class A>
[[nodiscard, gnu::always_inline]] inline A sum_of_lanes(Vector<A> v) {
  const Vector<A> one[1] = {v};
  return lane_sums<A, 1>(one)[0];
}
