// SPDX-License-Identifier: MIT
/// @file
/// @brief What the CPU programs share: which dtypes the CPU computes in, what the machine does at best, results as
/// JSON.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>

#include <storylm/detail/atomic_file.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/ops/peak_flops.hpp>

#include "support.hpp"

namespace bench {

/// True when the CPU has the kernels that training a story_* model in T needs.
template <class T>
inline constexpr bool trains = Supports<Cpu, op::matmul, T, T, T>&& Supports<Cpu, op::matmul, T, T, accumulator_t<T>>&&
    Supports<Cpu, op::attention, T>&& Supports<Cpu, op::layer_norm, T>&& Supports<Cpu, op::activation, T>&&
        Supports<Cpu, op::embedding, T>&& Supports<Cpu, op::cross_entropy, T>&& Supports<Cpu, op::adam, T>&&
            Supports<Cpu, op::column_sum, T, accumulator_t<T>>;
/// And for generation with one.
template <class T>
inline constexpr bool generates = trains<T>&& Supports<Cpu, op::matmul_rows, T, T, T>&&
    Supports<Cpu, op::attention_cached, T, T>&& Supports<Cpu, op::sample, T>;

/// What a program does.
enum class Task { training, generation };

/// Calls f.template operator()<T>() for the dtype that a flag names. @throws ArgumentError where the CPU cannot do the
/// task in it
template <Task task = Task::generation, class F>
void with_dtype(const std::string& name, F&& f) {
  if (name == "float32") return f.template operator()<float>();
  expects<ArgumentError>(name == "bfloat16", "flags", "--dtype is float32 or bfloat16: ", name);
  if constexpr (task == Task::training ? trains<bf16> : generates<bf16>) {
    f.template operator()<bf16>();
  } else {
    storylm::detail::fail<ArgumentError>("flags", "--dtype bfloat16: the CPU has no kernels for it");
  }
}

/// A preset by its name. @throws ArgumentError
inline TransformerConfig preset(const std::string& name) {
  std::string names;
  for (const Preset& known : presets::trainable) {
    if (known.name == name) return known.config;
    names += ' ' + std::string(known.name);
  }
  storylm::detail::fail<ArgumentError>("flags", "--preset: there is no ", name, ", there are", names);
}

/// Threads and instruction set that flags ask for; 0 threads are all, no set is the best that machine and build have.
inline Cpu device_of(const Flags& flags) {
  CpuOptions options{.threads = static_cast<int>(flags.number("threads"))};
  if (const std::string& set = flags.text("instruction_set"); !set.empty()) {
    options.instruction_set = to_instruction_set(set);
  }
  return Cpu(options);
}
/// "2 threads, avx512".
inline std::string described(const Cpu& device) {
  return std::to_string(cpu::thread_count(device)) + " threads, " + std::string(to_string(device.instruction_set()));
}

/// Floating-point operations per second at best with products of T.
template <class T>
double peak_flops(const Cpu& device) {
  if constexpr (Supports<Cpu, op::peak_flops, T>) {
    return ops::peak_flops<T>(device);
  } else {
    return ops::peak_flops<accumulator_t<T>>(device);
  }
}

/// Bytes per second at best when all threads read memory that no cache holds; the fastest of several passes.
inline double read_bandwidth(const Cpu& device, std::size_t bytes = std::size_t{1} << 29U) {
  using Lane [[gnu::vector_size(64)]] = std::uint64_t;
  constexpr std::size_t page = std::size_t{1} << 21U;  // a huge one, else the walks through page tables are measured
  constexpr index_t lanes = 4;
  const auto threads = static_cast<index_t>(cpu::thread_count(device));
  const std::size_t size = (bytes + page - 1) / page * page;
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(page, size), std::free);
  if (!memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  static_cast<void>(madvise(memory.get(), size, MADV_HUGEPAGE));  // a wish; without it the rate is what it is
#endif
  auto* const values = static_cast<Lane*>(memory.get());
  const auto share = static_cast<index_t>(size / sizeof(Lane)) / threads / lanes * lanes;
  std::vector<std::uint64_t> sink(static_cast<std::size_t>(threads) * 8);
  cpu::parallel_for(device, threads, [&](index_t thread) {  // whoever reads it touches it first
    std::fill(values + thread * share, values + (thread + 1) * share, Lane{} + 1);
  });
  double best = 0.0;
  for (int pass = 0; pass < 6; ++pass) {
    const auto start = Clock::now();
    cpu::parallel_for(device, threads, [&](index_t thread) {
      Lane sums[lanes] = {};
      for (index_t i = thread * share; i < (thread + 1) * share; i += lanes) {
        for (index_t lane = 0; lane < lanes; ++lane) sums[lane] += values[i + lane];
      }
      sink[static_cast<std::size_t>(thread) * 8] += (sums[0] + sums[1] + sums[2] + sums[3])[0];
    });
    best = std::max(best, static_cast<double>(threads * share) * sizeof(Lane) / seconds_since(start));
  }
  const auto expected = static_cast<std::uint64_t>(share) * 6;  // of all eight elements of a Lane, the first
  expects<Error>(sink[0] == expected, "read_bandwidth", "the sum is ", sink[0], ", not ", expected);
  return best;
}

/// The most memory that this program has had, in bytes.
inline double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kilobytes = 0.0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024.0;
  }
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024.0;
}

/// A flat JSON object, in the order in which it is filled.
class JsonObject {
 public:
  JsonObject& add(const std::string& name, double value) {
    std::ostringstream number;
    number << std::setprecision(std::numeric_limits<float>::max_digits10) << value;
    return put(name, number.str());
  }
  JsonObject& add(const std::string& name, const std::string& value) {
    std::string quoted = "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    return put(name, quoted + '"');
  }
  [[nodiscard]] std::string text() const { return '{' + members_ + '}'; }
  /// To the file that --json names, if any.
  void save(const Flags& flags) const {
    if (!flags.text("json").empty()) storylm::detail::write_file(flags.text("json"), text() + '\n');
  }

 private:
  JsonObject& put(const std::string& name, const std::string& value) {
    members_ += (members_.empty() ? "\"" : ", \"") + name + "\": " + value;
    return *this;
  }
  std::string members_;
};

inline std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

/// The middle one, or the mean of the two in the middle. @pre not empty
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return 0.5 * (values[(values.size() - 1) / 2] + values[values.size() / 2]);
}

/// With --serve on: writes `ready` as a line of JSON, then for each line "N" of standard input run(N) as another; so
/// that a driver alternates between programs that are all set up. Ends with the input.
template <class Run>
void serve(JsonObject ready, const Run& run) {
  std::cout << ready.add("ready", 1.0).text() << std::endl;
  for (index_t count = 0; std::cin >> count;) std::cout << run(count).text() << std::endl;
}

/// Runs a program's body; what it throws is a line on standard error and exit code 1.
template <class Body>
int run_cpu_program(int argc, char** argv, const std::map<std::string, std::string>& known, const Body& body) {
  try {
    body(Flags(argc, argv, known));
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return EXIT_FAILURE;
  }
}

}  // namespace bench
