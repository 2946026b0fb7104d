// SPDX-License-Identifier: MIT
// Names and lines of addresses, from addr2line where there is one.
#include <array>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

#include "engine.hpp"

namespace emulator {
namespace {

struct Place {
  std::string function;  // empty when unknown
  std::string line;      // file:line, empty when unknown
};

std::string hexadecimal(std::uintptr_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

// The chain of inlined functions at an address, innermost first.
std::vector<Place> look_up(const void* address) {
  Dl_info info{};
  if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return {};
  // Relative to where the object was loaded, which is what a position-independent one has in its symbols.
  const auto offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  std::string object = info.dli_fname;
  if (std::array<char, 4096> path{};
      object.find(".so") == std::string::npos) {  // the program, by whatever name it was called
    const auto length = ::readlink("/proc/self/exe", path.data(), path.size());
    if (length > 0) object.assign(path.data(), static_cast<std::size_t>(length));
  }
  std::string quoted = "'";
  for (const char c : object) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  quoted += "'";
  std::vector<Place> found;
  for (const std::uintptr_t at : {offset, reinterpret_cast<std::uintptr_t>(address)}) {
    FILE* const pipe =
        ::popen(("addr2line -i -f -C -e " + quoted + " " + hexadecimal(at) + " 2>/dev/null").c_str(), "r");
    if (pipe == nullptr) return {};
    std::string text;
    std::array<char, 4096> buffer{};
    while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) text += buffer.data();
    ::pclose(pipe);
    std::istringstream lines(text);
    Place place;
    while (std::getline(lines, place.function) && std::getline(lines, place.line)) {
      if (place.function == "??") place.function.clear();
      if (place.line.starts_with("??")) place.line.clear();
      if (const auto note = place.line.find(" (discriminator"); note != std::string::npos) place.line.resize(note);
      if (place.line.ends_with(":?")) place.line.clear();
      if (!place.function.empty() || !place.line.empty()) found.push_back(place);
    }
    if (!found.empty()) return found;
  }
  return found;
}

// The template arguments of a kernel matter, its parameters and what is alike in all names do not.
std::string short_name(std::string function) {
  for (const std::string_view noise : {"(anonymous namespace)::", "void "}) {
    for (auto at = function.find(noise); at != std::string::npos; at = function.find(noise))
      function.erase(at, noise.size());
  }
  int depth = 0;
  for (std::size_t i = function.size(); i-- > 0;) {
    if (function[i] == ')') ++depth;
    if (function[i] == '(' && --depth == 0) return function.substr(0, i);
  }
  return function;
}

std::string file_name(const std::string& line) {
  const auto slash = line.rfind('/');
  return slash == std::string::npos ? line : line.substr(slash + 1);
}

}  // namespace

std::string describe_function(const void* address) {
  const auto places = look_up(address);
  return places.empty() || places.back().function.empty() ? hexadecimal(reinterpret_cast<std::uintptr_t>(address))
                                                          : short_name(places.back().function);
}

std::string describe_return_address(const void* address) {
  // The call lies before the address that it returns to.
  const auto places = look_up(static_cast<const char*>(address) - 1);
  std::string text;
  for (const Place& place : places) {  // the primitives themselves are no news
    if (place.line.empty() || place.line.find("primitives.hpp:") != std::string::npos) continue;
    if (!text.empty()) text += " in ";
    text += file_name(place.line);
  }
  if (!text.empty()) return text;
  return places.empty() || places.back().function.empty() ? hexadecimal(reinterpret_cast<std::uintptr_t>(address))
                                                          : places.back().function;
}

}  // namespace emulator
