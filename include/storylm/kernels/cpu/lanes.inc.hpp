// SPDX-License-Identifier: MIT
/// @file
/// @brief Sums along a row in vectors: the same bits at every alignment.

/// v, and `otherwise` in the lanes that do not exist.
template <class A>
[[nodiscard, gnu::always_inline]] inline Vector<A> only(Vector<A> v, AllLanes /*which*/, A /*otherwise*/ = A{0}) {
  return v;
}
template <class A>
[[nodiscard, gnu::always_inline]] inline Vector<A> only(Vector<A> v, FirstLanes which, A otherwise = A{0}) {
  for (index_t l = which.count; l < vector_lanes<A>; ++l) v[l] = otherwise;
  return v;
}

/// The sum of the lanes, in the tree of lane_sums.
template <class A>
[[nodiscard, gnu::always_inline]] inline A sum_of_lanes(Vector<A> v) {
  const Vector<A> one[1] = {v};
  return lane_sums<A, 1>(one)[0];
}

/// The sum of f(i, which) over the vectors of A that cover [0, n). Four running sums take turns, so that no addition
/// waits for the one before.
template <class A, class F>
[[nodiscard, gnu::always_inline]] inline A sum_of_vectors(index_t n, const F& f) {
  constexpr index_t lanes = vector_lanes<A>;
  Vector<A> sums[4] = {};
  index_t done = 0;
  for (; done + 4 * lanes <= n; done += 4 * lanes) {
    unrolled<4>([&](auto k) { sums[k] = sums[k] + f(done + k * lanes, AllLanes{}); });
  }
  for_each_vector<A>(n - done, [&](index_t i, auto which) { sums[0] = sums[0] + only<A>(f(done + i, which), which); });
  return sum_of_lanes<A>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}
