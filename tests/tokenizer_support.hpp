// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of tokenizers share: the random text of tests/reference/make_tokenizers.py, hashes of ids, and
/// the comparison with what that script has written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/dtype.hpp>
#include <storylm/text/lower_case.hpp>

namespace storylm::test {

inline std::filesystem::path reference_folder() { return std::filesystem::path(STORYLM_TEST_DIR) / "reference"; }

/// splitmix64, as in the script.
class TextRandom {
 public:
  explicit TextRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t n) {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return (z ^ (z >> 31U)) % n;
  }
  template <class Items>
  auto of(const Items& items) {
    return items[static_cast<std::size_t>(below(std::size(items)))];
  }

 private:
  std::uint64_t state_;
};

inline std::string utf8_of(char32_t c) {
  std::string text;
  detail::append_utf8(text, c);
  return text;
}

/// One piece of a line; every kind of Unicode is among them.
inline std::string text_segment(TextRandom& random) {
  using namespace std::string_view_literals;
  constexpr std::array words{"Once"sv,  "upon"sv,   "a"sv,     "time"sv,   "Lily"sv,
                             "dog"sv,   "played"sv, "happy"sv, "forest"sv, "unbelievable"sv,
                             "naïve"sv, "Zürich"sv, "don"sv,   "x"sv,      "I"sv};
  constexpr std::array contractions{"'s"sv, "'t"sv,  "'re"sv, "'ve"sv,     "'m"sv, "'ll"sv, "'d"sv,
                                    "'S"sv, "'LL"sv, "n't"sv, "\u2019s"sv, "'x"sv, "''"sv};
  constexpr std::array<char32_t, 20> spaces{U' ',   U'\t',  U'\n',  U'\r',  0x0B,   0x0C,   0x1C,
                                            0x85,   0xA0,   0x1680, 0x180E, 0x2003, 0x200B, 0x2028,
                                            0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF, 0};
  constexpr std::string_view marks = "!?.,;:-_()[]{}\"'`~@#$%^&*+=/\\|<>";
  constexpr std::array numbers{"½"sv, "²"sv, "Ⅷ"sv, "٣"sv, "१"sv, "①"sv, "〇"sv, "፩"sv, "\U0001d7d8"sv, "\U00010107"sv};
  constexpr std::array emoji{"😀"sv,
                             "👩\u200d👩\u200d👧"sv,
                             "🏳️\u200d🌈"sv,
                             "👍🏽"sv,
                             "🇩🇪"sv,
                             "❤️"sv,
                             "e\u0301"sv,
                             "ก็"sv,
                             "한국어"sv,
                             "ㅎㅏㄴ"sv,
                             "नमस्ते"sv,
                             "שָׁלוֹם"sv,
                             "مُحَمَّد"sv};
  constexpr std::array specials{"<|endoftext|>"sv, "<|user|>"sv, "<|end_of_turn|>"sv, "</s>"sv, "<s>"sv,   "<|end"sv,
                                "<|us"sv,          "|>"sv,       "<unk>"sv,           "▁"sv,    "<0x41>"sv};
  using Block = std::pair<char32_t, char32_t>;
  constexpr std::array blocks{
      Block{0x41, 0x5A},       Block{0x61, 0x7A},        Block{0xC0, 0x24F},      Block{0x370, 0x3FF},
      Block{0x400, 0x52F},     Block{0x531, 0x58F},      Block{0x590, 0x5FF},     Block{0x600, 0x6FF},
      Block{0x900, 0x97F},     Block{0xE00, 0xE7F},      Block{0x10A0, 0x10FF},   Block{0x1100, 0x11FF},
      Block{0x1E00, 0x1EFF},   Block{0x2000, 0x206F},    Block{0x2070, 0x209F},   Block{0x2150, 0x218F},
      Block{0x2200, 0x22FF},   Block{0x2460, 0x24FF},    Block{0x3040, 0x30FF},   Block{0x4E00, 0x9FFF},
      Block{0xAC00, 0xD7A3},   Block{0xE000, 0xF8FF},    Block{0xFB00, 0xFB4F},   Block{0xFF00, 0xFFEF},
      Block{0x10000, 0x1007F}, Block{0x105C0, 0x105FF},  Block{0x16EA0, 0x16EDF}, Block{0x1D400, 0x1D7FF},
      Block{0x1E4D0, 0x1E4FF}, Block{0x1F300, 0x1F6FF},  Block{0x20000, 0x2A6DF}, Block{0x31350, 0x323AF},
      Block{0xE0000, 0xE007F}, Block{0x10FF00, 0x10FFFF}};
  const auto repeat = [&](std::uint64_t times, auto&& one) {
    std::string text;
    for (; times > 0; --times) text += one();
    return text;
  };
  const auto character = [&](std::uint64_t below) {  // over the surrogates
    const auto c = static_cast<char32_t>(random.below(below));
    return utf8_of(c < 0xD800 ? c : c + 0x800);
  };
  const std::uint64_t kind = random.below(16);
  if (kind < 4) return std::string(random.of(words));
  if (kind == 4) return std::string(random.of(contractions));
  if (kind == 5) return std::to_string(random.below(100000));
  if (kind == 6) return repeat(1 + random.below(4), [&] { return utf8_of(spaces[random.below(19)]); });
  if (kind == 7) return repeat(1 + random.below(3), [&] { return std::string(1, random.of(marks)); });
  if (kind == 8 || kind == 9) {
    const auto [first, last] = random.of(blocks);
    const char32_t begin = first;
    const char32_t size = last - first + 1;
    return repeat(1 + random.below(6), [&] { return utf8_of(begin + static_cast<char32_t>(random.below(size))); });
  }
  if (kind == 10) return repeat(1 + random.below(3), [&] { return character(0xF800); });
  if (kind == 11) return repeat(1 + random.below(3), [&] { return character(0x10F800); });
  if (kind == 12) return utf8_of(static_cast<char32_t>(0x300 + random.below(112)));
  if (kind == 13) return std::string(random.of(emoji));
  return std::string(kind == 14 ? random.of(specials) : random.of(numbers));
}

/// Line `number` of the random text, of which there is no end.
inline std::string random_line(std::uint64_t number) {
  TextRandom random(number);
  std::string line;
  for (std::uint64_t n = 1 + random.below(12); n > 0; --n) {
    if (random.below(2) == 0) line += ' ';
    line += text_segment(random);
  }
  return line;
}

/// FNV-1a of 32 bits over ids of 32 bits.
class IdHash {
 public:
  void add(std::span<const token_t> ids) {
    for (const token_t id : ids) {
      for (unsigned shift = 0; shift < 32; shift += 8) {
        value_ = (value_ ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFFU)) * 0x01000193U;
      }
    }
  }
  /// Eight hexadecimal digits.
  [[nodiscard]] std::string text() const {
    std::string digits(8, '0');
    std::uint32_t rest = value_;
    for (std::size_t i = 8; i-- > 0; rest >>= 4U) digits[i] = "0123456789abcdef"[rest & 15U];
    return digits;
  }

 private:
  std::uint32_t value_ = 0x811C9DC5U;
};

/// What a file of the script says of a line: hashes of its ids with special tokens as text and parsed; "-": nothing.
struct ReferenceLine {
  std::string plain;
  std::string parsed;
  std::vector<token_t> ids;  // of the first lines, special tokens as text
};
inline std::vector<ReferenceLine> reference_lines(std::string_view name) {
  std::ifstream file(reference_folder() / "tokenizers" / name);
  std::vector<ReferenceLine> lines;
  for (std::string row; std::getline(file, row);) {
    std::istringstream words(row.substr(0, row.find(" :")));
    ReferenceLine line;
    words >> line.plain;
    if (!(words >> line.parsed)) line.parsed = line.plain;
    if (const std::size_t colon = row.find(" :"); colon != std::string::npos) {
      std::istringstream ids(row.substr(colon + 2));
      for (token_t id = 0; ids >> id;) line.ids.push_back(id);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

/// Compares encode(line, parse_special) with the script's file for each line, and decode(ids) with the line. Returns
/// the number of lines compared.
template <class Encode>
std::size_t compare_with_reference(std::string_view name, Encode&& encode) {
  const std::vector<ReferenceLine> lines = reference_lines(name);
  std::size_t compared = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].plain == "-") continue;
    const std::string line = random_line(i);
    for (const bool parse_special : {false, true}) {
      const std::vector<token_t> ids = encode(line, parse_special);
      IdHash hash;
      hash.add(ids);
      CAPTURE(i);
      CAPTURE(line);
      CAPTURE(parse_special);
      if (!parse_special && !lines[i].ids.empty()) CHECK(ids == lines[i].ids);
      CHECK(hash.text() == (parse_special ? lines[i].parsed : lines[i].plain));
    }
    ++compared;
  }
  return compared;
}

}  // namespace storylm::test
