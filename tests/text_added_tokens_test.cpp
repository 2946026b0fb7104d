// SPDX-License-Identifier: MIT
// LINK: io
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/tokenizer_files.hpp>
#include <storylm/text/added_tokens.hpp>
#include <storylm/text/byte_level_bpe.hpp>

#include "io_support.hpp"
#include "tokenizer_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

using Ids = std::vector<token_t>;

const ByteLevelBpe& small() {
  static const std::filesystem::path folder = reference_folder() / "tokenizers/gpt2_files";
  static const ByteLevelBpe tokenizer(io::read_vocab_and_merges(folder / "vocab.json", folder / "merges.txt").pairs);
  return tokenizer;
}
const AddedToken end_of_text{.text = "<|endoftext|>", .id = 0, .special = true};

/// Those of the script.
std::vector<AddedToken> added() {
  return {end_of_text,
          {.text = "<|user|>", .id = 512},
          {.text = "<|end_of_turn|>", .id = 513, .special = true, .left_strip = true, .right_strip = true},
          {.text = "Lily", .id = 514, .right_strip = true, .normalized = true},
          {.text = "<|us", .id = 515, .left_strip = true, .normalized = true},
          {.text = "</s>", .id = 516, .special = true},
          {.text = "|>", .id = 517}};
}

Ids joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// A tokenizer that marks the beginning of a text, as SentencePiece does: id 1, then the bytes plus 10.
struct Marking {
  bool marks = true;
  [[nodiscard]] index_t vocab_size() const { return 266; }
  [[nodiscard]] Ids encode(std::string_view text) const {
    Ids ids;
    if (marks) ids.push_back(1);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 10);
    return ids;
  }
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const {
    std::string text;
    for (const token_t token : tokens) {
      if (token >= 10) text += static_cast<char>(token - 10);
      if (token == 1) text += text.empty() && marks ? "" : "_";
    }
    return text;
  }
  [[nodiscard]] std::string normalise(std::string_view text) const { return std::string(text); }
  [[nodiscard]] token_t bos() const { return 2; }
  [[nodiscard]] token_t eos() const { return 3; }
  [[nodiscard]] token_t pad() const { return -1; }
  [[nodiscard]] token_t unk() const { return 4; }
  [[nodiscard]] std::uint64_t hash() const { return 77; }
};

}  // namespace

TEST_CASE("special tokens are plain text by default, and parsed on request") {
  const WithAddedTokens plain(small(), {end_of_text});
  const WithAddedTokens parsing(small(), {end_of_text}, {.parse_special = true});
  const std::string text = "a dog<|endoftext|> ran";
  CHECK(plain.encode(text) == small().encode(text));
  CHECK(parsing.encode(text) == joined({small().encode("a dog"), {0}, small().encode(" ran")}));
  CHECK(plain.encode(text, true) == parsing.encode(text));
  CHECK(parsing.encode(text, false) == plain.encode(text));
  CHECK(plain.decode(plain.encode(text)) == text);
  CHECK(parsing.decode(parsing.encode(text)) == "a dog ran");
  CHECK(parsing.decode(parsing.encode(text), true) == text);
  CHECK(parsing.encode("<|endoftext|>") == Ids{0});
  CHECK(parsing.encode("<|endoftext|><|endoftext|>") == Ids{0, 0});
  CHECK(plain.encode("").empty());
  CHECK(parsing.encode("").empty());
}

TEST_CASE("2,400 lines have the ids of tokenizers, special tokens as text and parsed") {
  const WithAddedTokens one(small(), {end_of_text});
  CHECK(compare_with_reference("gpt2.txt", [&](std::string_view text, bool parse_special) {
          const Ids ids = one.encode(text, parse_special);
          CHECK(one.decode(ids, true) == text);
          return ids;
        }) == 2400);
  // Stripping, normalized ones after the others, tokens in each other, special ones that are skipped with what is in
  // them.
  const WithAddedTokens many(small(), added());
  CHECK(compare_with_reference("gpt2_added.txt", [&](std::string_view text, bool parse_special) {
          return many.encode(text, parse_special);
        }) == 2400);
}

TEST_CASE("tokens beyond the vocabulary have ids, texts and a place in it") {
  const WithAddedTokens tokenizer(small(), added());
  CHECK(tokenizer.vocab_size() == 518);
  CHECK(tokenizer.added_tokens().size() == 7);
  CHECK(tokenizer.tokenizer().vocab_size() == 512);
  const Ids ids = joined({{512}, small().encode("Hi"), {513, 517}});
  CHECK(tokenizer.encode("<|user|>Hi |>") == joined({{512}, small().encode("Hi "), {517}}));
  CHECK(tokenizer.decode(ids) == "<|user|>Hi|>");
  CHECK(tokenizer.decode(ids, true) == "<|user|>Hi<|end_of_turn|>|>");
  CHECK(contains(error_of<ArgumentError>([&] { (void)tokenizer.decode(Ids{518}); }),
                 "token 518 is not in the vocabulary of 518"));
  CHECK(contains(error_of<ArgumentError>([&] { (void)tokenizer.decode(Ids{-1}); }), "token -1"));
  const WithAddedTokens hole(small(), {{.text = "<far>", .id = 600}});
  CHECK(hole.vocab_size() == 601);
  CHECK(hole.decode(Ids{550, 600, 512}) == "<far>");
}

TEST_CASE("special ids are those given, or the tokenizer's") {
  const WithAddedTokens own(Marking{}, {});
  CHECK(own.bos() == 2);
  CHECK(own.eos() == 3);
  CHECK(own.pad() == -1);
  CHECK(own.unk() == 4);
  CHECK(own.normalise("aB") == "aB");
  const WithAddedTokens given(Marking{}, {}, {.bos = 5, .eos = -1, .pad = 6, .unk = 7});
  CHECK(given.bos() == 5);
  CHECK(given.eos() == -1);
  CHECK(given.pad() == 6);
  CHECK(given.unk() == 7);
}

TEST_CASE("text behind an added token goes on, or begins anew") {
  const std::vector<AddedToken> tokens{{.text = "<x>", .id = 300}, {.text = "<s>", .id = 5, .special = true}};
  const WithAddedTokens on(Marking{}, tokens, {.parse_special = true, .text_begins_anew = false}, {Marking{false}});
  const WithAddedTokens anew(Marking{}, tokens, {.parse_special = true}, {Marking{false}});
  CHECK(on.encode("a<x>b") == Ids{1, 'a' + 10, 300, 'b' + 10});
  CHECK(on.encode("<x>b") == Ids{300, 'b' + 10});
  CHECK(anew.encode("a<x>b") == Ids{1, 'a' + 10, 300, 1, 'b' + 10});
  // The mark belongs to the text's beginning only; special tokens do not part what they stand in.
  CHECK(on.decode(Ids{1, 'a' + 10, 300, 'b' + 10}) == "a<x>b");
  CHECK(on.decode(Ids{1, 'a' + 10, 300, 1, 'b' + 10}) == "a<x>_b");
  CHECK(on.decode(Ids{300, 1, 'b' + 10}) == "<x>_b");
  CHECK(on.decode(Ids{5, 1, 'b' + 10, 5, 1, 'c' + 10}) == "b_c");
  CHECK(on.decode(Ids{5, 1, 'b' + 10}, true) == "<s>_b");
}

TEST_CASE("the hash is the tokenizer's own unless ids or ordinary tokens came to it") {
  CHECK(WithAddedTokens(small(), {end_of_text}).hash() == small().hash());
  CHECK(WithAddedTokens(small(), {}).hash() == small().hash());
  const auto hash_with = [](const AddedToken& token) { return WithAddedTokens(small(), {end_of_text, token}).hash(); };
  const auto more = hash_with({.text = "<x>", .id = 512, .special = true});
  CHECK(more != small().hash());
  CHECK(more != hash_with({.text = "<y>", .id = 512, .special = true}));
  CHECK(more != hash_with({.text = "<x>", .id = 513, .special = true}));
  CHECK(more != hash_with({.text = "<x>", .id = 512}));
  CHECK(hash_with({.text = "the", .id = 300}) != small().hash());
}

TEST_CASE("tokens that cannot be are refused") {
  const auto refused = [](std::vector<AddedToken> tokens) {
    return error_of<ArgumentError>([&] { (void)WithAddedTokens(small(), std::move(tokens)); });
  };
  CHECK(contains(refused({{.text = "", .id = 3}}), "the token \"\" with id 3 needs a text"));
  CHECK(contains(refused({{.text = "<x>"}}), "the token \"<x>\" with id -1 needs a text and an id"));
  CHECK(contains(refused({{.text = "<x>", .id = 3}, {.text = "<y>", .id = 3}}), "have the same id, 3"));
  CHECK(contains(refused({{.text = "<x>", .id = 3}, {.text = "<x>", .id = 4}}), "\"<x>\" is added twice"));
}
