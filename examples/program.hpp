// SPDX-License-Identifier: MIT
/// @file
/// @brief What all programs share: flags, exit codes, signals, one clear line for every failure.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include <CLI/CLI.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>

/// Not part of the library.
namespace program {

inline constexpr int exit_failure = 1;    ///< it went wrong while running: a full disk, no memory
inline constexpr int exit_bad_input = 2;  ///< bad flags or bad files

/// SIGINT or SIGTERM if one came, else 0. Programs look at it between steps, write what must not be lost and return
/// stopped_exit_code().
inline volatile std::sig_atomic_t stop_signal = 0;

/// From now on SIGINT and SIGTERM set stop_signal; one that comes seconds later ends the program at once. Not one that
/// comes together with the first: `timeout` signals the program and then its whole group, the program among it.
inline void catch_stop_signals() {
  static volatile std::sig_atomic_t first_second = 0;
  const auto handler = [](int signal) {
    struct timespec now {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const auto second = static_cast<std::sig_atomic_t>(now.tv_sec);
    if (stop_signal == 0) {
      first_second = second;
      stop_signal = signal;
    } else if (second - first_second > 1) {
      std::signal(signal, SIG_DFL);
      std::raise(signal);  // arrives when the handler returns
    }
  };
  std::signal(SIGINT, handler);
  std::signal(SIGTERM, handler);
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the limit is a failed write with an error, not the end
}
/// From now on a closed pipe is a failed write: for programs whose output to a terminal is not what they are run for.
inline void survive_closed_pipes() { std::signal(SIGPIPE, SIG_IGN); }
/// 130 after SIGINT, 143 after SIGTERM.
inline int stopped_exit_code() { return 128 + stop_signal; }

/// True when the program was built with storylm::cuda.
#if defined(STORYLM_WITH_CUDA)
inline constexpr bool has_cuda = true;
#else
inline constexpr bool has_cuda = false;
#endif

/// The flags of every program that computes. examples/devices.hpp turns them into types.
struct ComputeFlags {
  std::string device = std::getenv("STORYLM_DEVICE") != nullptr ? std::getenv("STORYLM_DEVICE") : "cpu";
  std::string dtype = "float32";
  bool tf32 = false;
  bool tune_matmul = false;
  int threads = 0;
  /// The program has float16 on the CPU, too: those that do not train, for there the loss would need a scale.
  bool half_on_cpu = false;

  void add_to(CLI::App& app) {
    app.add_option("--device", device,
                   std::string("cpu, cuda or cuda:N; $STORYLM_DEVICE where it is set; this build has cpu") +
                       (has_cuda ? " and cuda" : ""))
        ->capture_default_str();
    app.add_option("--dtype", dtype,
                   half_on_cpu
                       ? "type of weights and activations: float32, bfloat16 or float16"
                       : "type of weights and activations: float32 or bfloat16, on a GPU float16 too; checkpoints are "
                         "float32 in any case")
        ->capture_default_str();
    app.add_flag("--tf32", tf32, "on a GPU: products of float32 matrices with 10 bits of mantissa (default: off)");
    app.add_flag(
        "--tune-matmul", tune_matmul,
        "on a GPU: algorithms of matrix products by timing; they are part of a run's checkpoint (default: off)");
    add_threads_flag(app, threads);
  }
  static void add_threads_flag(CLI::App& app, int& threads) {
    app.add_option("--threads", threads, "number of threads; 0: as many as the machine offers")->capture_default_str();
  }

  [[nodiscard]] bool on_cuda() const { return device.starts_with("cuda"); }
  /// Which GPU, as CUDA counts them.
  [[nodiscard]] int gpu() const { return device.size() > 5 ? std::atoi(device.c_str() + 5) : 0; }

  /// Refuses by name what this build or the device does not have. @throws storylm::ArgumentError
  void check() const {
    const auto require = [](bool ok, const auto&... parts) {
      storylm::expects<storylm::ArgumentError>(ok, "program", parts...);
    };
    const bool known = device == "cpu" || device == "cuda" ||
                       (device.starts_with("cuda:") && device.size() > 5 && device.size() < 9 &&
                        device.find_first_not_of("0123456789", 5) == std::string::npos);
    require(known, "unknown device ", device, ": cpu, cuda or cuda:N");
    require(has_cuda || !on_cuda(), "device ", device,
            " is not built in: this build has cpu (docs/guide/cuda.md says how to build for GPUs)");
    constexpr std::array<std::string_view, 4> dtypes{"float32", "float64", "bfloat16", "float16"};
    require(std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end(), "unknown dtype ", dtype,
            ": float32, float64, bfloat16 or float16");
    const bool on_cpu = dtype == "float32" || dtype == "bfloat16" || (half_on_cpu && dtype == "float16");
    require(on_cpu || (has_cuda && dtype != "float64"), "dtype ", dtype, " is not built in: this build has ",
            half_on_cpu ? "float32, bfloat16 and float16"
            : has_cuda  ? "float32 and bfloat16, on a GPU float16 too"
                        : "float32 and bfloat16");
    require(on_cpu || on_cuda(), "dtype ", dtype, " needs --device cuda: on the CPU there are float32 and bfloat16");
    require(!tf32 || (on_cuda() && dtype == "float32"), "--tf32 is for --device cuda with --dtype float32, not for ",
            device, " with ", dtype);
    require(!tune_matmul || on_cuda(), "--tune-matmul is for --device cuda, not for ", device);
    check_threads(threads);
  }
  static void check_threads(int threads) {
    storylm::expects<storylm::ArgumentError>(threads >= 0 && threads <= 4096, "program",
                                             "--threads must be in [0, 4096]: ", threads);
  }
};

/// `threads` as asked for, or as many as the machine offers when that is 0.
inline int thread_count(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

/// The most memory this process has had, in bytes.
inline std::uint64_t peak_memory() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

/// One line on standard error that overwrites itself on a terminal, at most a few times a second.
class ProgressLine {
 public:
  using Clock = std::chrono::steady_clock;

  ~ProgressLine() { finish(); }
  /// True when it is time for the next line: so that none is composed in vain.
  [[nodiscard]] bool due() const { return Clock::now() >= next_; }
  void show(const std::string& line) {
    next_ = Clock::now() + (terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10000));
    if (terminal_) {
      std::cerr << '\r' << line << "\x1b[K" << std::flush;
      open_ = true;
    } else {
      std::cerr << line << std::endl;
    }
  }
  /// Ends the line, so that other output begins on one of its own.
  void finish() {
    if (open_) std::cerr << std::endl;
    open_ = false;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  bool open_ = false;
  Clock::time_point next_ = Clock::now() + std::chrono::milliseconds(500);
};

/// Prints a failure as one line.
inline void print_failure(const CLI::App& app, std::string_view message) {
  std::string line = app.get_name() + ": " + std::string(message);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::cerr << line << std::endl;
}

/// The frame of every main(): parses the flags, runs `body` (which returns the exit code), and turns whatever is thrown
/// into one line on standard error and an exit code.
template <class Body>
int run(CLI::App& app, int argc, char** argv, const Body& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help
    const int code = app.exit(help);
    return std::cout.flush() ? code : exit_failure;
  } catch (const CLI::ParseError& error) {
    print_failure(app, std::string(error.what()) + " (--help explains the flags)");
    return exit_bad_input;
  }
  try {
    const int code = body();
    std::cout.flush();
    if (std::cout) return code;
    print_failure(app, "cannot write standard output");
  } catch (const storylm::WriteError& error) {
    print_failure(app, error.what());
  } catch (const storylm::ArgumentError& error) {
    print_failure(app, error.what());
    return exit_bad_input;
  } catch (const storylm::FormatError& error) {
    print_failure(app, error.what());
    return exit_bad_input;
  } catch (const storylm::IoError& error) {
    print_failure(app, error.what());
    return exit_bad_input;
  } catch (const std::bad_alloc&) {
    print_failure(app, "out of memory");
  } catch (const std::exception& error) {
    print_failure(app, error.what());
  }
  return exit_failure;
}

}  // namespace program
