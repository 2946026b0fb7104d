// SPDX-License-Identifier: MIT
/// @file
/// @brief What must be true of a SentencePiece model before the library sees it: it follows offsets that it never
/// checks.
///
/// A model may carry rules that characters go through first (precompiled_charsmap): the size of a trie, the trie, and
/// the texts that its leaves name. The trie is a double array, https://github.com/s-yata/darts-clone: unit i leads by
/// byte c to unit (i ^ offset(i)) ^ c, if that has the label c; where it has a leaf, that lies at i ^ offset(i).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/detail/protocol_buffer.hpp>

namespace storylm::detail {

/// Walks through all that can be reached of a charsmap's trie, in which ways may meet. Every step stays inside, none
/// leads round in circles, every leaf names a text that ends, and no more leaves follow one another than the library
/// has room for. @throws FormatError
inline void expect_charsmap(std::string_view blob, std::string_view name) {
  constexpr std::size_t unit_bytes = 4;
  constexpr std::size_t block = 256;  // units that differ in their last byte only
  constexpr unsigned most_leaves = 32;
  const auto require = [&](bool ok, std::string_view why) {
    expects<FormatError>(ok, "SentencePieceTokenizer", name, ": its rules for characters are damaged: ", why);
  };
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = unit_bytes; i-- > 0;) value = value << 8U | static_cast<unsigned char>(blob[at + i]);
    return value;
  };
  require(blob.size() > unit_bytes, "they are cut off");
  const std::size_t trie_bytes = number(0);
  require(trie_bytes < blob.size() - unit_bytes && trie_bytes % (unit_bytes * block) == 0 && trie_bytes > 0,
          "the size of the trie");
  const std::size_t units = trie_bytes / unit_bytes;
  const std::string_view texts = blob.substr(unit_bytes + trie_bytes);
  require(texts.back() == '\0', "the last text has no end");
  const auto unit = [&](std::size_t i) { return number(unit_bytes + i * unit_bytes); };

  constexpr std::uint8_t unknown = 255, on_the_way = 254;  // else: the most leaves on any way from there on
  struct Step {
    std::size_t at;
    std::size_t base;    // where its children are, one for each byte
    std::uint32_t next;  // the child to look at
    unsigned leaves;     // so far
  };
  std::vector<std::uint8_t> leaves_of(units, unknown);
  std::vector<Step> way;
  const auto enter = [&](std::size_t at) {
    const std::uint32_t value = unit(at);
    const std::size_t base = at ^ (std::size_t{value >> 10U} << ((value & (1U << 9U)) >> 6U));
    require(base < units, "a step out of the trie");
    const bool has_leaf = at != 0 && (value & (1U << 8U)) != 0;
    require(!has_leaf || (unit(base) & 0x7FFFFFFFU) < texts.size(), "a text that is not there");
    leaves_of[at] = on_the_way;
    way.push_back({at, base, 0, 0});
  };
  enter(0);
  while (!way.empty()) {
    Step& here = way.back();
    if (here.next < block) {
      const std::size_t child = here.base ^ here.next;
      const bool is_child = (unit(child) & 0x800000FFU) == here.next;
      ++here.next;
      if (!is_child) continue;
      require(leaves_of[child] != on_the_way, "a way round in circles");
      if (leaves_of[child] != unknown) {
        here.leaves = std::max<unsigned>(here.leaves, leaves_of[child]);
      } else {
        enter(child);  // here is no more
      }
      continue;
    }
    const Step done = here;
    way.pop_back();
    const bool has_leaf = done.at != 0 && (unit(done.at) & (1U << 8U)) != 0;
    const unsigned leaves = done.leaves + (has_leaf ? 1 : 0);
    require(leaves <= most_leaves, "too many texts for one beginning");
    leaves_of[done.at] = static_cast<std::uint8_t>(leaves);
    if (!way.empty()) way.back().leaves = std::max(way.back().leaves, leaves);
  }
}

/// What the library would not find out by itself about the bytes of a model. @throws FormatError
inline void expect_sentencepiece_model(std::string_view model, std::string_view name) {
  constexpr std::string_view kind = "a SentencePiece model";
  constexpr std::uint64_t normalizer = 3, denormalizer = 5, charsmap = 2;
  WireReader fields(model, name, kind);
  for (WireField field; fields.next(field);) {
    if (!field.is(normalizer, WireKind::bytes) && !field.is(denormalizer, WireKind::bytes)) continue;
    WireReader inner(field.bytes, name, kind);
    for (WireField part; inner.next(part);) {
      if (part.is(charsmap, WireKind::bytes) && !part.bytes.empty()) expect_charsmap(part.bytes, name);
    }
  }
}

}  // namespace storylm::detail
