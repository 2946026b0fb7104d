// SPDX-License-Identifier: MIT
/// @file
/// @brief The wire format of protocol buffers, https://protobuf.dev/programming-guides/encoding, read strictly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <storylm/core/error.hpp>

namespace storylm::detail {

/// How a field is stored.
enum class WireKind : std::uint8_t { varint = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };

/// One field of a protocol buffer.
struct WireField {
  std::uint64_t number = 0;
  WireKind kind = WireKind::varint;
  std::uint64_t value = 0;  // of a varint or four or eight bytes
  std::string_view bytes;   // of a string or a message

  /// True when it is this field, stored as its type is: protobuf takes another for one that it does not know.
  [[nodiscard]] bool is(std::uint64_t which, WireKind how) const noexcept { return number == which && kind == how; }
};

/// Walks over the fields of a message. Stricter than protobuf itself: groups, field 0 and numbers of fields beyond 32
/// bits (of which protobuf takes the lower ones) are refused, so that whoever checks a message sees what protobuf will.
class WireReader {
 public:
  /// @param name what errors call the file
  /// @param kind what it is not, if it is wrong: "a SentencePiece model"
  WireReader(std::string_view bytes, std::string_view name, std::string_view kind)
      : bytes_(bytes), name_(name), kind_(kind) {}

  /// The next field, false at the end. @throws FormatError
  bool next(WireField& field) {
    if (at_ == bytes_.size()) return false;
    const std::uint64_t key = varint();
    require(key >= 8 && key <= 0xFFFFFFFFU, "a field without a number");
    field = {.number = key >> 3U, .kind = static_cast<WireKind>(key & 7U), .value = 0, .bytes = {}};
    switch (key & 7U) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = little_endian(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = little_endian(4);
        break;
      default:
        require(false, "a field of unknown kind");
    }
    return true;
  }

 private:
  void require(bool ok, std::string_view what) const {
    expects<FormatError>(ok, "ProtocolBuffer", name_, " is not ", kind_, ": ", what, " at byte ", at_, " of ",
                         bytes_.size());
  }
  std::string_view take(std::uint64_t count) {
    require(count <= bytes_.size() - at_, "something is cut off");
    const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(count));
    at_ += taken.size();
    return taken;
  }
  std::uint64_t little_endian(std::size_t count) {
    const std::string_view taken = take(count);
    std::uint64_t value = 0;
    for (std::size_t i = count; i-- > 0;) value = value << 8U | static_cast<unsigned char>(taken[i]);
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    require(false, "a number of more than 64 bits");
    return 0;
  }

  std::string_view bytes_;
  std::string_view name_;
  std::string_view kind_;
  std::size_t at_ = 0;
};

}  // namespace storylm::detail
