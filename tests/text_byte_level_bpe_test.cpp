// SPDX-License-Identifier: MIT
// LINK: io
// TIMEOUT: 120
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/io/tokenizer_files.hpp>
#include <storylm/text/byte_level_bpe.hpp>
#include <storylm/text/gpt2_words.hpp>
#include <storylm/text/unicode_classes.hpp>

#include "io_support.hpp"
#include "tokenizer_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

io::ByteLevelBpeFile small_file() {
  const std::filesystem::path folder = reference_folder() / "tokenizers/gpt2_files";
  return io::read_vocab_and_merges(folder / "vocab.json", folder / "merges.txt");
}
const ByteLevelBpe& small() {
  static const ByteLevelBpe tokenizer(small_file().pairs);
  return tokenizer;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t bytes = detail::gpt2_word_bytes(text);
    words.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return words;
}

/// A vocabulary of the 256 bytes, in their order, and what the merges make.
BytePairs pairs_of(const std::vector<std::pair<std::string, std::string>>& merges) {
  BytePairs pairs;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    pairs.vocabulary.emplace_back(utf8_of(detail::byte_alphabet()[byte]), static_cast<token_t>(byte));
  }
  for (const auto& [left, right] : merges) {
    pairs.vocabulary.emplace_back(left + right, static_cast<token_t>(pairs.vocabulary.size()));
  }
  pairs.merges = merges;
  return pairs;
}

/// Byte pair encoding as the papers define it, in quadratic time: the best pair, the leftmost one, until there is none.
std::vector<std::string> merge_slowly(std::string_view word,
                                      const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::string> tokens;
  for (const char c : word) tokens.emplace_back(1, c);
  while (true) {
    std::size_t best = merges.size();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].first == tokens[i] && merges[rank].second == tokens[i + 1]) {
          best = rank;
          where = i;
        }
      }
    }
    if (best == merges.size()) return tokens;
    tokens[where] += tokens[where + 1];
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

}  // namespace

TEST_CASE("text is cut into words as GPT-2's expression cuts it") {
  using Words = std::vector<std::string>;
  CHECK(words_of("").empty());
  CHECK(words_of("Hello world") == Words{"Hello", " world"});
  CHECK(words_of("we've 'sun it's IT'S") == Words{"we", "'ve", " '", "sun", " it", "'s", " IT", "'", "S"});
  CHECK(words_of("a  b") == Words{"a", " ", " b"});
  CHECK(words_of("a \n b \t") == Words{"a", " \n", " b", " \t"});
  CHECK(words_of("a\n\nb") == Words{"a", "\n", "\n", "b"});
  CHECK(words_of("a\u3000\u3000b") == Words{"a", "\u3000", "\u3000", "b"});
  CHECK(words_of("a\u3000b") == Words{"a", "\u3000", "b"});
  CHECK(words_of(" ") == Words{" "});
  CHECK(words_of("x2½, «é»") == Words{"x", "2½", ",", " «", "é", "»"});
  CHECK(words_of("e\u0301") == Words{"e", "\u0301"});
  CHECK(words_of("a\xFF\xE4\xB8 b\xC2") == Words{"a", "\xFF\xE4\xB8", " b", "\xC2"});
}

TEST_CASE("the table of classes is that of the code points' own properties, ends of ranges too") {
  CHECK(unicode_class(U'a') == UnicodeClass::letter);
  CHECK(unicode_class(U'5') == UnicodeClass::number);
  CHECK(unicode_class(0x1680) == UnicodeClass::space);
  CHECK(unicode_class(0x180E) == UnicodeClass::other);    // a space until Unicode 6.3
  CHECK(unicode_class(0x105C0) == UnicodeClass::letter);  // new in Unicode 16
  CHECK(unicode_class(0x3134A) == UnicodeClass::letter);
  CHECK(unicode_class(0x3134B) == UnicodeClass::other);
  CHECK(unicode_class(0x10FFFF) == UnicodeClass::other);
  CHECK(unicode_class(0x110000) == UnicodeClass::other);
  CHECK(unicode_class(0xFFFFFFFF) == UnicodeClass::other);
  // The way for ASCII and the table agree.
  for (char32_t c = 0; c < 0x80; ++c) {
    const auto run = std::upper_bound(std::begin(detail::unicode_class_runs), std::end(detail::unicode_class_runs),
                                      static_cast<std::uint32_t>(c) * 4 + 3);
    CHECK(unicode_class(c) == static_cast<UnicodeClass>(*std::prev(run) & 3U));
  }
}

TEST_CASE("every character of Unicode among all kinds of neighbours has the ids of tokenizers") {
  constexpr char32_t block = 1024;
  std::ifstream file(reference_folder() / "tokenizers/code_points.txt");
  char32_t first = 0;
  for (std::string expected; std::getline(file, expected); first += block) {
    IdHash hash;
    for (char32_t c = first; c < first + block; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      const std::string x = utf8_of(c);
      hash.add(small().encode("a" + x + "1 " + x + x + "? " + x + " '" + x + "'s\n " + x));
    }
    CAPTURE(first);
    CHECK(hash.text() == expected);
  }
  CHECK(first == 0x110000);
}

TEST_CASE("2,400 lines of every kind of Unicode have the ids of tokenizers, and come back") {
  const std::size_t lines = compare_with_reference("gpt2.txt", [](std::string_view text, bool parse_special) {
    if (!parse_special) {
      const std::vector<token_t> ids = small().encode(text);
      CHECK(small().decode(ids) == text);
      return ids;
    }
    // Special tokens are WithAddedTokens'; here by hand.
    std::vector<token_t> ids;
    while (true) {
      const std::size_t at = text.find("<|endoftext|>");
      for (const token_t id : small().encode(text.substr(0, at))) ids.push_back(id);
      if (at == std::string_view::npos) return ids;
      ids.push_back(0);
      text.remove_prefix(at + 13);
    }
  });
  CHECK(lines == 2400);
}

TEST_CASE("a prefix space and whole texts as words: as tokenizers does") {
  const auto compare = [](std::string_view name, const ByteLevelBpeOptions& options) {
    const ByteLevelBpe tokenizer(small_file().pairs, options);
    const std::vector<ReferenceLine> lines = reference_lines(name);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      IdHash hash;
      hash.add(tokenizer.encode(random_line(i)));
      CAPTURE(i);
      CHECK(hash.text() == lines[i].plain);
    }
    CHECK(lines.size() == 400);
    return tokenizer.hash();
  };
  const std::uint64_t prefix = compare("gpt2_prefix.txt", {.add_prefix_space = true});
  const std::uint64_t whole = compare("gpt2_whole.txt", {.use_regex = false});
  CHECK(prefix != whole);
  CHECK(prefix != small().hash());
  CHECK(whole != small().hash());
}

TEST_CASE("any bytes come back, UTF-8 or not") {
  RandomStream random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint64_t n = random.below(40); n > 0; --n) {
      text += random.below(3) == 0 ? random_line(random.below(1000)).substr(0, 5)
                                   : std::string(1, static_cast<char>(random.below(256)));
    }
    CHECK(small().decode(small().encode(text)) == text);
  }
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  CHECK(small().decode(small().encode(all)) == all);
  CHECK(small().encode("").empty());
  CHECK(small().decode({}).empty());
}

TEST_CASE("merges are made in the order of their ranks, the leftmost first, whatever the order of the list") {
  RandomStream random(17);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> known{"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    for (std::uint64_t n = random.below(25); n > 0; --n) {
      const std::string left = known[static_cast<std::size_t>(random.below(known.size()))];
      const std::string right = known[static_cast<std::size_t>(random.below(known.size()))];
      if (std::find(known.begin(), known.end(), left + right) != known.end()) continue;
      known.push_back(left + right);
      merges.emplace_back(left, right);
    }
    BytePairs pairs = pairs_of(merges);
    for (std::size_t i = merges.size(); i > 1; --i)
      std::swap(merges[i - 1], merges[static_cast<std::size_t>(random.below(i))]);
    pairs.merges = merges;
    const ByteLevelBpe tokenizer(pairs);
    for (int i = 0; i < 40; ++i) {
      std::string word;
      for (std::uint64_t n = 1 + random.below(30); n > 0; --n) word += "abc"[random.below(3)];
      std::vector<std::string> tokens;
      for (const token_t id : tokenizer.encode(word)) tokens.emplace_back(tokenizer.bytes(id));
      CAPTURE(word);
      CHECK(tokens == merge_slowly(word, merges));
    }
  }
}

TEST_CASE("with ignore_merges a word that is a token is that token") {
  BytePairs pairs = pairs_of({{"a", "b"}, {"b", "c"}});
  pairs.vocabulary.emplace_back("abc", 258);
  CHECK(ByteLevelBpe(pairs).encode("abc") == std::vector<token_t>{256, 'c'});
  const ByteLevelBpe whole(pairs, {.ignore_merges = true});
  CHECK(whole.encode("abc") == std::vector<token_t>{258});
  CHECK(whole.encode("abcd") == std::vector<token_t>{256, 'c', 'd'});
  CHECK(whole.hash() != ByteLevelBpe(pairs).hash());
}

TEST_CASE("one word of a megabyte takes about as long a byte as one of a kilobyte") {
  const auto word = [](std::size_t size) {
    std::string text;
    TextRandom random(1);
    while (text.size() < size) text += "abcdefghijklmnopqrstuvwxyz"[random.below(26)];
    return text;
  };
  const std::string large = word(std::size_t{1} << 20U);  // quadratic time would be a quarter of an hour
  CHECK(small().decode(small().encode(large)) == large);
  const std::string same(std::size_t{1} << 20U, 'h');
  CHECK(small().decode(small().encode(same)) == same);
  const std::string spaces(std::size_t{1} << 20U, ' ');
  CHECK(small().decode(small().encode(spaces + "a")) == spaces + "a");
}

TEST_CASE("special tokens are nothing in decode; ids out of range are refused, holes are nothing") {
  const ByteLevelBpe tokenizer(small_file().pairs, {.bos = 0, .eos = 0});
  CHECK(tokenizer.vocab_size() == 512);
  CHECK(tokenizer.bos() == 0);
  CHECK(tokenizer.eos() == 0);
  CHECK(tokenizer.pad() == -1);
  CHECK(tokenizer.unk() == -1);
  CHECK(tokenizer.normalise("A b") == "A b");
  std::vector<token_t> ids = tokenizer.encode("a dog");
  ids.insert(ids.begin(), 0);
  ids.push_back(0);
  CHECK(tokenizer.decode(ids) == "a dog");
  CHECK(small().decode(ids) == "<|endoftext|>a dog<|endoftext|>");
  CHECK(tokenizer.hash() == small().hash());
  CHECK(contains(error_of<ArgumentError>([&] { (void)tokenizer.decode(std::vector<token_t>{512}); }),
                 "token 512 is not in the vocabulary of 512"));
  CHECK(contains(error_of<ArgumentError>([&] { (void)tokenizer.bytes(-1); }), "token -1"));
  BytePairs pairs = pairs_of({});
  pairs.vocabulary.emplace_back("<hole before>", 300);
  const ByteLevelBpe holes(pairs);
  CHECK(holes.vocab_size() == 301);
  CHECK(holes.decode(std::vector<token_t>{'a', 299, 'b', 300}) == "ab<hole before>");
}

TEST_CASE("a token with a character outside the byte alphabet is decoded as it stands, and is in no text") {
  BytePairs pairs = pairs_of({});
  pairs.vocabulary.emplace_back("two words", 256);
  pairs.vocabulary.emplace_back("中", 257);
  const ByteLevelBpe tokenizer(pairs, {.use_regex = false, .ignore_merges = true});
  CHECK(tokenizer.decode(std::vector<token_t>{256, 257}) == "two words中");
  CHECK(tokenizer.encode("two words").size() == 9);
  CHECK(tokenizer.encode("中").size() == 3);
}

TEST_CASE("vocabularies that cannot be are refused, with what is wrong") {
  const auto refused = [](const BytePairs& pairs) { return error_of([&] { (void)ByteLevelBpe(pairs); }); };
  const auto with = [](const std::string& token, token_t id) {
    BytePairs pairs = pairs_of({});
    pairs.vocabulary.emplace_back(token, id);
    return pairs;
  };
  CHECK(refused(with("ab", 256)).empty());
  CHECK(contains(refused(with("ab", 97)), "\"a\" and \"ab\" have the same id, 97"));
  CHECK(contains(refused(with("a", 256)), "\"a\" stands there twice"));
  CHECK(contains(refused(with("ab", -3)), "\"ab\" has the id -3, which is negative"));
  CHECK(contains(refused(with("ab", 2'000'000'000)), "\"ab\" has the id 2000000000, too large for 257 tokens"));
  CHECK(contains(refused({}), "there is no \"\u0100\", the token of byte 0"));
  BytePairs pairs = pairs_of({{"a", "b"}});
  pairs.merges.emplace_back("ab", "xy");
  CHECK(contains(refused(pairs), "merge 2: \"ab\" and \"xy\": the vocabulary has no \"xy\""));
  pairs.merges.back().second = "c";
  pairs.lines = {2, 3};
  CHECK(contains(refused(pairs), "line 3: \"ab\" and \"c\": the vocabulary has no \"abc\""));
}

TEST_CASE("several threads may use one tokenizer") {
  std::vector<std::vector<token_t>> expected;
  for (std::uint64_t i = 0; i < 200; ++i) expected.push_back(small().encode(random_line(i)));
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < expected.size(); ++i)
        wrong[t] += small().encode(random_line(i)) != expected[i] ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4));
}

TEST_CASE("GPT-2's own vocabulary gives GPT-2's own ids") {
  const char* const data = std::getenv("STORYLM_REAL_DATA");
  if (data == nullptr) {
    MESSAGE("skipped: STORYLM_REAL_DATA does not name the folder of real data");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "tokenizers";
  const ByteLevelBpe tokenizer(io::read_vocab_and_merges(folder / "gpt2_vocab.json", folder / "gpt2_merges.txt").pairs);
  CHECK(tokenizer.vocab_size() == 50257);
  CHECK(tokenizer.encode("Hello world") == std::vector<token_t>{15496, 995});
  CHECK(tokenizer.encode(" Hello world") == std::vector<token_t>{18435, 995});
  CHECK(tokenizer.encode("It's 3\u00BD caf\u00E9s, 中文 \U0001F600!\n\n") ==
        std::vector<token_t>{1026, 338, 513, 23141, 19945, 20954, 11, 220, 40792, 23877, 229, 30325, 222, 0, 628});
  std::ifstream file(std::filesystem::path(data) / "tinystories/v2_train_first10000lines.txt", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::vector<token_t> ids = tokenizer.encode(text);
  CHECK(ids.size() == 361410);
  IdHash hash;
  hash.add(ids);
  CHECK(hash.text() == "a1f33e2a");
  CHECK(tokenizer.decode(ids) == text);
}
