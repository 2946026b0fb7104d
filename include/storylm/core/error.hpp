// SPDX-License-Identifier: MIT
/// @file
/// @brief Exception types and the one precondition helper every public function uses.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string_view>

namespace storylm {

/// Base of every exception the library throws; the text reads `[op] what is wrong: the actual values`.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A tensor argument has the wrong rank or extent, or more rows than the memory made for it.
struct ShapeError : Error {
  using Error::Error;
};

/// An option or argument is outside its range, or contradicts another.
struct ArgumentError : Error {
  using Error::Error;
};

/// The bytes of a file are not what its format says; names file and byte offset or line where there is one.
struct FormatError : Error {
  using Error::Error;
};

/// The operating system refused: a file cannot be opened, read, written, renamed or locked.
struct IoError : Error {
  using Error::Error;
};

namespace detail {
/// The cold path of expects(): builds "[op] part part ..." and throws it.
template <class E, class... Parts>
[[noreturn]] void fail(std::string_view op, const Parts&... parts) {
  std::ostringstream message;
  message << '[' << op << "] ";
  (message << ... << parts);
  throw E(message.str());
}
}  // namespace detail

/// Throws `E` with the text "[op] parts..." unless `ok`. The message is built on failure only.
template <class E = Error, class... Parts>
constexpr void expects(bool ok, std::string_view op, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    detail::fail<E>(op, parts...);
  }
}

}  // namespace storylm
