// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
/// @file
/// @brief SentencePiece models, by our reader and by the library, which was not made for hostile ones: what it cannot
/// stand must not come to it.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/io/tokenizer_json.hpp>
#include <storylm/text/sentencepiece.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

/// Protocol buffers, as far as seeds need them: a field of bytes, of a number, of four bytes.
std::string field(unsigned number, std::string_view bytes) {
  std::string all;
  const auto varint = [&](std::size_t value) {
    for (; value >= 0x80; value >>= 7U) all += static_cast<char>(value | 0x80U);
    all += static_cast<char>(value);
  };
  varint(number << 3U | 2U);
  varint(bytes.size());
  return all.append(bytes);
}
std::string field(unsigned number, unsigned value) {
  return {static_cast<char>(number << 3U), static_cast<char>(value)};
}
std::string piece(std::string_view text, unsigned kind, char score) {
  std::string all = field(1, text);
  all += {'\x15', '\0', '\0', score, score == 0 ? '\0' : '\xC1'};
  return field(1, all + field(3, kind));
}
std::string model(unsigned type, bool bytes, std::string_view charsmap) {
  std::string all = piece("<unk>", 2, 0) + piece("<s>", 3, 0) + piece("</s>", 3, 0);
  if (bytes) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", byte);
      all += piece(name, 6, 0);
    }
  }
  all += piece("\u2581", 1, '\x10') + piece("a", 1, '\x20') + piece("b", 1, '\x30') + piece("\u2581a", 1, '\x08');
  all += piece("ab", 1, '\x09') + piece("<x>", 4, 0) + piece("z", 5, 0);
  all += field(2, field(3, type) + (bytes ? std::string("\xA8\x02\x01", 3) : std::string()));  // 35: byte_fallback
  return all + field(3, field(1, "test") + (charsmap.empty() ? std::string() : field(2, charsmap)) + field(3, 1U));
}

}  // namespace

void run(std::string_view input) {
  io::SentencePieceModel ours;
  const bool accepted = refusal([&] { ours = io::read_sentencepiece_model(input, "bpe.model"); }, "bpe.model").empty();
  static_cast<void>(refusal(
      [&] {
        const SentencePieceTokenizer tokenizer(std::string(input), (input.size() & 1U) != 0, "bpe.model");
        must(!accepted || static_cast<std::size_t>(tokenizer.vocab_size()) == ours.pieces.size(),
             "the number of pieces");
        static_cast<void>(tokenizer.settings());
        must(!tokenizer.vocab_text().empty(), "no vocabulary");
        for (const std::string_view text :
             {"", "a", "ab <x>  a\tb zz", "\xC3\xA4\xF0\x9F\x98\x80\xFF", "\u2581 <s> </s>"}) {
          static_cast<void>(refusal<ArgumentError>([&] {
            for (const token_t token : tokenizer.encode(text))
              must(token >= 0 && token < tokenizer.vocab_size(), "a token beyond the vocabulary");
          }));
        }
        std::vector<token_t> all;
        for (token_t token = 0; token < tokenizer.vocab_size(); ++token) all.push_back(token);
        static_cast<void>(refusal<ArgumentError>([&] { static_cast<void>(tokenizer.decode(all)); }));
      },
      "bpe.model"));
  if (accepted)
    static_cast<void>(refusal<ArgumentError>([&] { static_cast<void>(io::tokenizer_json(ours, true, true)); }));
}

void seeds(Seeds& made) {
  made.add(model(2, false, ""));
  made.add(model(1, false, ""));
  made.add(model(2, true, ""));
  made.add(model(3, false, ""));
  made.add(model(4, false, ""));
  // A trie that leads by 'a' to the text "b".
  std::string trie;
  for (std::uint32_t i = 0; i < 256; ++i) {
    const std::uint32_t unit = i == 0 ? 128U << 10U : i == (128U ^ 'a') ? 'a' | 1U << 8U | 1U << 10U : 1U << 31U;
    for (unsigned byte = 0; byte < 4; ++byte) trie += static_cast<char>(unit >> (8 * byte) & 0xFFU);
  }
  made.add(model(2, false, std::string("\0\x04\0\0", 4) + trie + std::string("b\0", 2)));
  made.words({"<0x00>", "<0xFF>", "<unk>", "<s>", "\xE2\x96\x81", "\x18\x06", "\x18\x02", "\xA8\x02\x01", "\x18\x04"});
}

}  // namespace storylm::fuzz
