// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/data/cleaning.hpp>

using namespace storylm;

namespace {

std::string cleaned(std::string_view raw, CleaningCounts& counts) {
  std::string clean = "what was there before";
  if (!clean_story(raw, clean, counts)) return "dropped";
  return clean;
}
std::string cleaned(std::string_view raw) {
  CleaningCounts counts;
  return cleaned(raw, counts);
}

}  // namespace

TEST_CASE("a clean story stays as it is and counts as kept only") {
  CleaningCounts counts;
  const std::string_view story = "Lily said, \"Hi!\" — é 中文 😀 <3 a<b <| x";
  CHECK(cleaned(story, counts) == story);
  CHECK(counts.kept == 1);
  CHECK(counts.outer_whitespace + counts.invalid_utf8 + counts.control + counts.replacement + counts.invisible +
            counts.chat_markers + counts.mojibake + counts.dropped_empty + counts.dropped_long_word ==
        0);
}

TEST_CASE("line ends, tabs and runs of whitespace become one space, none at the ends") {
  CleaningCounts counts;
  CHECK(cleaned("\n\nLily  ran.\r\n\r\nBen\tsat.\u00A0He\u2028slept. \n", counts) == "Lily ran. Ben sat. He slept.");
  CHECK(counts.outer_whitespace == 1);
  CHECK(counts.control == 0);
  CHECK(cleaned("a\nb", counts) == "a b");
  CHECK(counts.outer_whitespace == 1);
  CHECK(cleaned("a ", counts) == "a");
  CHECK(counts.outer_whitespace == 2);
}

TEST_CASE("what does not belong is removed and counted once a story") {
  CleaningCounts counts;
  CHECK(cleaned("a\x01"
                "b\x7F"
                "c\u0081",
                counts) == "abc");
  CHECK(counts.control == 1);
  CHECK(cleaned("a\uFFFD\uFFFD b", counts) == "a b");
  CHECK(counts.replacement == 1);
  CHECK(cleaned("\uFEFFa\u200Bb\u2060", counts) == "ab");
  CHECK(counts.invisible == 1);
  CHECK(cleaned("a\xFF\xFE"
                "b \xE2\x82 c\xC3",
                counts) == "ab c");
  CHECK(counts.invalid_utf8 == 1);
  CHECK(counts.kept == 4);
  CHECK(cleaned(std::string_view("a\0b", 3)) == "ab");
}

TEST_CASE("only well-formed UTF-8 is kept") {
  CHECK(cleaned("x\xC0\xAFy") == "xy");              // overlong
  CHECK(cleaned("x\xE0\x80\xAFy") == "xy");          // overlong
  CHECK(cleaned("x\xF0\x80\x80\xAFy") == "xy");      // overlong
  CHECK(cleaned("x\xED\xA0\x80y") == "xy");          // a surrogate
  CHECK(cleaned("x\xF4\x90\x80\x80y") == "xy");      // beyond U+10FFFF
  CHECK(cleaned("x\xF8\x88\x80\x80\x80y") == "xy");  // five bytes
  CHECK(cleaned("x\xF0\x9F\x98y") == "xy");          // cut off
  CHECK(cleaned("x\xF4\x8F\xBF\xBDy") == "x\xF4\x8F\xBF\xBDy");
}

TEST_CASE("whatever the bytes, what is kept is one clean line, and cleaning it again changes nothing") {
  RandomStream random(5);
  CleaningCounts counts;
  for (int i = 0; i < 5000; ++i) {
    std::string raw;
    for (std::uint64_t n = random.below(40); n > 0; --n) {
      raw += static_cast<char>(random.below(4) == 0 ? random.bits() & 0xFFU : 0x1EU + random.below(0x62));
    }
    std::string clean;
    if (!clean_story(raw, clean, counts)) continue;
    CHECK(!clean.empty());
    for (std::size_t at = 0; at < clean.size();) {
      const detail::Utf8 next = detail::decode_utf8(clean, at);
      REQUIRE(next.bytes > 0);
      CHECK(next.code_point >= 0x20);
      at += next.bytes;
    }
    CHECK(clean.find("  ") == std::string::npos);
    CHECK(clean.front() != ' ');
    CHECK(clean.back() != ' ');
  }
  CHECK(counts.kept > 4000);
}

TEST_CASE("chat markers go, whole or in fragments, with the speaker's role") {
  CleaningCounts counts;
  CHECK(cleaned("The end.<|im_end|>\n<|im_start|>user\nMore", counts) == "The end. More");
  CHECK(cleaned("The end.\n<|im_start|>", counts) == "The end.");
  CHECK(cleaned("The end.<|im_start", counts) == "The end.");
  CHECK(cleaned("The end. <|im_sta|", counts) == "The end.");
  CHECK(cleaned("One.<|endoftext|>Two.", counts) == "One. Two.");
  CHECK(counts.chat_markers == 5);
  CHECK(cleaned("<|im_start|>assistant", counts) == "dropped");
}

TEST_CASE("punctuation that was decoded as Windows-1252 is put right") {
  CleaningCounts counts;
  const std::string seen = "\u00E2\u20AC";  // bytes E2 80
  CHECK(cleaned(seen + "\u0153Hi," + seen + " she said. It" + seen + "\u2122s " + seen + "\u02DCfine" + seen +
                    "\u00A6 a" + seen + "\u201Cb c" + seen + "\u201Dd",
                counts) == "\u201CHi,\u201D she said. It\u2019s \u2018fine\u2026 a\u2013b c\u2014d");
  CHECK(cleaned("â€œHi,\u00E2\u20AC\u009D she", counts) == "\u201CHi,\u201D she");
  CHECK(counts.mojibake == 2);
  CHECK(cleaned("â 5 € âge", counts) == "â 5 € âge");
  CHECK(counts.mojibake == 2);
}

TEST_CASE("stories of nothing, and of words that are none, are dropped") {
  CleaningCounts counts;
  for (const std::string_view nothing : {"", " ", "\n\n\t", "\u200B", "\uFFFD\n", "\xFF"}) {
    CHECK(cleaned(nothing, counts) == "dropped");
  }
  CHECK(counts.dropped_empty == 6);
  CHECK(cleaned("a " + std::string(max_word_bytes, 'x') + " b", counts).size() == max_word_bytes + 4);
  CHECK(cleaned("a " + std::string(max_word_bytes + 1, 'x') + " b", counts) == "dropped");
  CHECK(counts.dropped_long_word == 1);
  CHECK(counts.kept == 1);
}

TEST_CASE("whitespace, long words and single characters are seen wherever blocks end") {
  RandomStream random(1, 2, 0xC1EA);
  for (int round = 0; round < 4000; ++round) {
    // Few odd characters in much plain text, so that whole blocks of it are taken at once.
    std::string raw(static_cast<std::size_t>(random.below(200)), 'a');
    for (char& c : raw) {
      const std::uint64_t kind = random.below(40);
      if (kind < 8)
        c = ' ';
      else if (kind == 8)
        c = "\t\n\r<~!"[random.below(6)];
      else
        c = static_cast<char>('a' + kind % 26);
    }
    std::string expected;
    bool space = false;
    for (const char c : raw) {
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        space = true;
        continue;
      }
      if (space && !expected.empty()) expected += ' ';
      space = false;
      expected += c;
    }
    CAPTURE(raw);
    CleaningCounts counts;
    std::string clean;
    CHECK(clean_story(raw, clean, counts) == !expected.empty());
    CHECK(clean == expected);
    CHECK(counts.outer_whitespace == (expected.empty() || (raw.front() > ' ' && raw.back() > ' ') ? 0 : 1));
  }
  for (const std::size_t longest : {max_word_bytes, max_word_bytes + 1}) {  // behind shorter ones, and before
    std::string raw = "short " + std::string(longest, 'x') + "\nwords " + std::string(max_word_bytes, 'y');
    CleaningCounts counts;
    std::string clean;
    CHECK(clean_story(raw, clean, counts) == (longest == max_word_bytes));
    CHECK(counts.dropped_long_word == (longest == max_word_bytes ? 0 : 1));
  }
}

TEST_CASE("counts add up field by field") {
  const CleaningCounts one{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  CleaningCounts sum{10, 20, 30, 40, 50, 60, 70, 80, 90, 100};
  sum += one;
  CHECK(sum == CleaningCounts{11, 22, 33, 44, 55, 66, 77, 88, 99, 110});
}
