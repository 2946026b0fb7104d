// SPDX-License-Identifier: MIT
// AddressSanitizer sees what kernels touch: asan_fault is built with it, and ends where it must.
#include <array>
#include <cstdio>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <sys/wait.h>

namespace {

/// Exit code and all that it wrote.
std::pair<int, std::string> run(const std::string& what, int seed) {
  const std::string command =
      "STORYLM_EMULATOR_SEED=" + std::to_string(seed) + " '" STORYLM_ASAN_FAULT "' " + what + " 2>&1";
  FILE* const pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) text += buffer.data();
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, text};
}

}  // namespace

TEST_CASE("accesses outside what a kernel was given are found") {
  struct Fault {
    const char* what;
    const char* error;
    const char* function;
  };
  for (const Fault& fault : {
           Fault{"write_beyond", "heap-buffer-overflow", "write_at"},
           Fault{"write_before", "heap-buffer-overflow", "write_at"},
           Fault{"read_beyond", "heap-buffer-overflow", "read_at"},
           Fault{"shared_beyond", "use-after-poison", "shared_at"},
           Fault{"dynamic_beyond", "use-after-poison", "dynamic_at"},
           Fault{"copy_beyond", "heap-buffer-overflow", "copy_at"},
           Fault{"use_after_free", "heap-use-after-free", "write_at"},
           Fault{"host_after_free", "heap-use-after-free", ""},
       }) {
    CAPTURE(fault.what);
    int found = 0;
    for (int seed = 0; seed < 4; ++seed) {
      const auto result = run(fault.what, seed);
      const std::string& text = result.second;
      CAPTURE(text);
      if (result.first == 0) continue;
      CHECK(text.find(std::string("AddressSanitizer: ") + fault.error) != std::string::npos);
      CHECK(text.find(fault.function) != std::string::npos);
      ++found;
    }
    CHECK(found >= (fault.function[0] == '\0' ? 1 : 4));  // the copy may have been done before the memory went
  }
}

TEST_CASE("kernels without a fault end well, on fibers' stacks that are used again and again") {
  for (int seed = 0; seed < 4; ++seed) {
    const auto result = run("nothing", seed);
    CAPTURE(result.second);
    CHECK(result.first == 0);
    CHECK(result.second == "done\n");
  }
}
