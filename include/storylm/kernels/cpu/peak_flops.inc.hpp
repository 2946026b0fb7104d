// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU's peak rate of fused multiply-adds, measured: the ceiling that kernels are compared with.

template <std::floating_point T>
struct kernel<op::peak_flops, T> {
  static double run(const Cpu& device) {
    constexpr int chains = 12;  // independent accumulators: more than latency times throughput of the units
    constexpr int repeats = 1 << 14;
    using Vector = Vector<T>;
    const int threads = thread_count(device);
    auto scratch = device.scratch();
    T* const sink = scratch.take<T>(threads);
    double best = 0.0;
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds_since = [](auto start) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    do {
      const auto start = std::chrono::steady_clock::now();
      parallel_for(device, threads, [&](index_t task) {
        std::array<Vector, chains> sums;
        for (int i = 0; i < chains; ++i) sums[static_cast<std::size_t>(i)] = Vector{} + static_cast<T>(i);
        const Vector factor = Vector{} + T(0.999);
        const Vector term = Vector{} + T(0.001);
        for (int r = 0; r < repeats; ++r) {
          for (auto& sum : sums) sum = sum * factor + term;  // contracted
        }
        Vector total{};
        for (const auto& sum : sums) total += sum;
        sink[task] = total[0];  // so that the loop is not removed
      });
      const double flops = 2.0 * chains * repeats * static_cast<double>(sizeof(Vector) / sizeof(T)) * threads;
      best = std::max(best, flops / seconds_since(start));
    } while (seconds_since(begin) < 0.1);
    return best;
  }
};
