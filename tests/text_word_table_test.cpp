// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/text/word_table.hpp>

using namespace storylm;
using namespace storylm::detail;

namespace {

/// Words of 0 to 29 bytes of few kinds, zero bytes among them: many share beginnings, lengths and hashes' inputs.
std::string random_word(RandomStream& random) {
  std::string word(static_cast<std::size_t>(random.below(30)), '\0');
  for (char& c : word) c = "\0ab"[random.below(3)];
  return word;
}

}  // namespace

TEST_CASE("words are found again with their values, and no others") {
  RandomStream random(1, 2, 3);
  WordTable<std::uint64_t> table;
  std::map<std::string, std::uint64_t> expected;
  for (std::uint64_t i = 0; i < 60'000; ++i) {  // grows several times
    const std::string word = random_word(random);
    std::uint64_t* const found = table.find(Word(word));
    CHECK((found != nullptr) == expected.contains(word));
    if (found != nullptr) {
      CHECK(*found == expected[word]);
      *found = expected[word] = i;
    } else {
      CHECK(table.insert(Word(word), i) == i);
      expected[word] = i;
    }
  }
  CHECK(table.size() == expected.size());
  CHECK(table.bytes() > expected.size());
  std::map<std::string, std::uint64_t> all;
  table.for_each([&](std::string_view word, std::uint64_t value) { CHECK(all.emplace(word, value).second); });
  CHECK(all == expected);

  table.clear();
  CHECK(table.size() == 0);
  for (const auto& [word, value] : expected) CHECK(table.find(Word(word)) == nullptr);
  table.insert(Word("again"), 5);
  CHECK(*table.find(Word("again")) == 5);
}

TEST_CASE("text is cut at each space, wherever words and text end") {
  RandomStream random(1, 2, 4);
  for (int round = 0; round < 5000; ++round) {
    std::string text(static_cast<std::size_t>(1 + random.below(40)), ' ');
    for (char& c : text) c = "  !a\xA0\xDF\xFF\0"[random.below(8)];  // bytes near a space's, with the high bit too
    std::vector<std::string> expected(1);
    for (const char c : text) c == ' ' ? expected.emplace_back() : expected.back() += c;
    if (text.ends_with(' ')) expected.pop_back();
    std::vector<std::string> words;
    const std::string copy = text;  // ends where its memory does
    for (std::string_view rest = copy; !rest.empty();) {
      const Word word = take_word(rest);
      words.emplace_back(word.text);
      CHECK(word.head == Word(words.back()).head);
    }
    CHECK(words == expected);
  }
}
