// SPDX-License-Identifier: MIT
/// @file
/// @brief Exception types and the one precondition helper every public function uses.
#pragma once

#include <initializer_list>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

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
/// One part of a message and how to print it: without templates from here on, since there are hundreds of messages.
struct MessagePart {
  const void* value;
  void (*print)(std::ostream& message, const void* value);
};
template <class T>
[[nodiscard]] MessagePart part_of(const T& value) {
  if constexpr (std::is_array_v<T>) {  // a literal
    return {value, [](std::ostream& message, const void* p) { message << static_cast<const char*>(p); }};
  } else {
    return {&value, [](std::ostream& message, const void* p) { message << *static_cast<const T*>(p); }};
  }
}
/// "[op] part part ..."
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string message_of(std::string_view op,
                                                                      std::initializer_list<MessagePart> parts) {
  std::ostringstream message;
  message << '[' << op << "] ";
  for (const MessagePart& part : parts) part.print(message, part.value);
  return message.str();
}
template <class E>
[[noreturn, gnu::cold, gnu::noinline]] void throw_error(std::string_view op, std::initializer_list<MessagePart> parts) {
  throw E(message_of(op, parts));
}
/// The cold path of expects(): builds the message and throws it.
template <class E, class... Parts>
[[noreturn, gnu::cold]] void fail(std::string_view op, const Parts&... parts) {
  throw_error<E>(op, {part_of(parts)...});
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
