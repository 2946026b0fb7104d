// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU's peak rate of multiply-adds, measured: the ceiling that kernels are compared with.

/// What matrix products of T do at best: of pairs for bf16 where the machine multiplies pairs, else in the accumulator.
template <FloatDtype T>
struct kernel<op::peak_flops, T> {
  static double run(const Cpu& device) {
    using U = MatmulUnit<T>;
    using A = accumulator_t<T>;
    constexpr int chains = 12;  // independent accumulators: more than latency times throughput of the units
    constexpr int repeats = 1 << 14;
    const int threads = thread_count(device);
    auto scratch = device.scratch();
    A* const sink = scratch.take<A>(threads);
    double best = 0.0;
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds_since = [](auto start) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    do {
      const auto start = std::chrono::steady_clock::now();
      parallel_for(device, threads, [&](index_t task) {
        Vector<A> sums[chains];
        for (int i = 0; i < chains; ++i) sums[i] = Vector<A>{} + static_cast<A>(i);
        constexpr bool in_pairs = std::is_same_v<U, Bf16Pair>;
        const Vector<U> x = Vector<U>{} + (in_pairs ? U(0x3C003C00) : U(0.001));  // pairs of 2^-7
        const Vector<U> y = Vector<U>{} + (in_pairs ? U(0x3F7E3F7E) : U(0.999));  // and of 0.9921875
        for (int r = 0; r < repeats; ++r) {
          unrolled<chains>([&](auto i) { sums[i] = add_products<U, A>(x, y, sums[i]); });
        }
        Vector<A> total{};
        for (const auto& sum : sums) total += sum;
        sink[task] = total[0];  // so that the loop is not removed
      });
      const double lanes = vector_lanes<A> * matmul_depth<T>;
      best = std::max(best, 2.0 * chains * repeats * lanes * threads / seconds_since(start));
    } while (seconds_since(begin) < 0.1);
    return best;
  }
};
