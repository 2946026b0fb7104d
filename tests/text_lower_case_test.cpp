// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>

#include <doctest/doctest.h>

#include <storylm/text/lower_case.hpp>

using storylm::lower_case;

TEST_CASE("letters of several alphabets become lower-case, everything else stays") {
  CHECK(lower_case("Once Upon A TIME, 123!") == "once upon a time, 123!");
  CHECK(lower_case("ÀÉÎÕÜ×ÞßŸ") == "àéîõü×þßÿ");
  CHECK(lower_case("ŁÓDŹ ŻÓŁW ĞŰ ĲĿ") == "łódź żółw ğű ĳŀ");
  CHECK(lower_case("ΑΒΓ ΆΈΉΊΌΎΏ Σ ΪΫ") == "αβγ άέήίόύώ σ ϊϋ");
  CHECK(lower_case("ЀЁЯ АБВ ЖҐӀӁӐ") == "ѐёя абв жґӏӂӑ");
  CHECK(lower_case("ԱՖ ẞ ẠỸ Ｚ") == "աֆ ß ạỹ ｚ");
  CHECK(lower_case("İI") == "ii");
  CHECK(lower_case("łódź ß ž ĸ ŉ ſ σς 中文 😀 “x” — …") == "łódź ß ž ĸ ŉ ſ σς 中文 😀 “x” — …");
  CHECK(lower_case("") == "");
}

TEST_CASE("every byte is looked at, wherever runs of ASCII begin and end") {
  for (std::size_t length = 0; length < 80; ++length) {
    std::string text;
    std::string expected;
    for (std::size_t i = 0; i < length; ++i) {
      text += static_cast<char>('@' + i % 28);  // @ A ... Z [
      expected += i % 28 == 0 || i % 28 == 27 ? text.back() : static_cast<char>(text.back() + 32);
    }
    CHECK(lower_case(text) == expected);
    for (std::size_t at = 0; at <= length; ++at) {
      CHECK(lower_case(text.substr(0, at) + "É" + text.substr(at)) ==
            expected.substr(0, at) + "é" + expected.substr(at));
    }
  }
  std::string reused = "longer than what follows";
  lower_case("AB", reused);
  CHECK(reused == "ab");
}

TEST_CASE("lower-casing twice changes nothing more") {
  std::string all;
  for (char32_t c = 1; c < 0x11000; ++c) {
    if (c < 0xD800 || c >= 0xE000) storylm::detail::append_utf8(all, c);
  }
  const std::string once = lower_case(all);
  CHECK(once != all);
  CHECK(lower_case(once) == once);
}

TEST_CASE("malformed UTF-8 passes through, its ASCII letters lower-cased") {
  CHECK(lower_case("A\xC3") == "a\xC3");
  CHECK(lower_case("\xE2\x82") == "\xE2\x82");
  CHECK(lower_case("\xFF\xFE Z") == "\xFF\xFE z");
  CHECK(lower_case("\xC1\x81") == "\xC1\x81");          // an overlong A
  CHECK(lower_case("\xE0\x81\x81") == "\xE0\x81\x81");  // another
  CHECK(lower_case("\x80\xBF") == "\x80\xBF");
  CHECK(lower_case("\xC3X") == "\xC3x");
}
