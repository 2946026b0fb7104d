// SPDX-License-Identifier: MIT
/// @file
/// @brief What the GPU programs share: rows of results, ceilings; the rest is in support.hpp.
///
/// They run on the emulator at small sizes (tests do that), so that what a GPU machine gets is known to work.
/// scripts/gpu_check.sh runs them and reads the rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/cuda_device.hpp>
#include <storylm/ops/peak_flops.hpp>

#include "support.hpp"

/// Not part of the library.
namespace bench {

/// How a row ends. Only `wrong` makes the check fail; a target missed does when the script is told so.
enum class Verdict { info, ok, missed, wrong };

/// Rows that the script gathers: a line "ROW name value unit reference verdict", separated by tabs.
class Rows {
 public:
  static void add(const std::string& name, double value, const std::string& unit, const std::string& reference = "",
                  Verdict verdict = Verdict::info) {
    std::ostringstream text;
    text.precision(value != 0.0 && std::abs(value) < 1000.0 ? 4 : 9);
    text << value;
    add_text(name, text.str(), unit, reference, verdict);
  }
  static void add_text(const std::string& name, const std::string& value, const std::string& unit = "",
                       const std::string& reference = "", Verdict verdict = Verdict::info) {
    constexpr const char* words[] = {"info", "ok", "missed", "wrong"};
    std::cout << "ROW\t" << name << '\t' << value << '\t' << unit << '\t' << reference << '\t'
              << words[static_cast<int>(verdict)] << std::endl;
    any_wrong() |= verdict == Verdict::wrong;
  }
  static void check(const std::string& name, bool right, const std::string& value, const std::string& otherwise,
                    const std::string& reference = "") {
    add_text(name, right ? value : otherwise, "", reference, right ? Verdict::ok : Verdict::wrong);
  }
  static bool& any_wrong() {
    static bool wrong = false;
    return wrong;
  }
};

/// Runs a program's body; what it throws is a row and exit code 1.
template <class Body>
int run_program(int argc, char** argv, const std::map<std::string, std::string>& known, const Body& body) {
  try {
    body(Flags(argc, argv, known));
  } catch (const std::exception& error) {
    std::string line = error.what();
    std::replace_if(
        line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
    Rows::add_text("stopped by an error", line, "", "", Verdict::wrong);
  }
  return Rows::any_wrong() ? EXIT_FAILURE : EXIT_SUCCESS;
}

/// A fault planted on purpose, to see that the check notices: the environment variable STORYLM_PLANT names it.
inline bool planted(std::string_view fault) {
  const char* const wanted = std::getenv("STORYLM_PLANT");
  return wanted != nullptr && fault == wanted;
}

/// Targets of speed are an H200's; on another GPU they are only told.
inline bool judges_speed(const Cuda& device) { return device.properties().name.find("H200") != std::string::npos; }

/// Bytes of device memory.
template <class D, class T>
std::vector<std::byte> bytes_of(const D& device, const T* data, index_t count) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * sizeof(T));
  device.copy_to_host(bytes.data(), data, bytes.size());
  device.synchronize();
  return bytes;
}

/// What the device can do at best: the ceilings that floors are computed from.
struct Ceilings {
  double bytes_per_second = 0.0;  ///< of a copy within the device, read and written
  double flops = 0.0;             ///< of a large product
};

/// Measures them; `small` where the device is the emulator. The faster of several runs counts.
template <class T>
Ceilings measure_ceilings(const Cuda& device, bool small) {
  Ceilings ceilings;
  const index_t count = small ? index_t{1} << 12 : index_t{1} << 30;
  Tensor<std::uint8_t, Cuda> from({count}, device);
  Tensor<std::uint8_t, Cuda> to({count}, device);
  device.fill_zero(from.data(), from.bytes());
  for (int i = 0; i < (small ? 1 : 8); ++i) {
    constexpr int repeats = 4;
    device.synchronize();
    const auto start = Clock::now();
    for (int r = 0; r < repeats; ++r) device.copy(to.data(), from.data(), from.bytes());
    device.synchronize();
    const double rate = 2.0 * repeats * static_cast<double>(count) / seconds_since(start);
    ceilings.bytes_per_second = std::max(ceilings.bytes_per_second, rate);
  }
  ceilings.flops = ops::peak_flops<T>(device);
  return ceilings;
}

}  // namespace bench
