// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <storylm/detail/hash.hpp>

using storylm::detail::Hash64;
using storylm::detail::hash64;
using storylm::detail::hash_text;

TEST_CASE("published values of XXH64") {
  CHECK(hash64("") == 0xEF46DB3751D8E999U);
  CHECK(hash64("a") == 0xD24EC4F1A98C6E5BU);
  CHECK(hash64("abc") == 0x44BC2CF5AD770999U);
  CHECK(hash64("xxhash") == 3665147885093898016U);
  CHECK(hash64("xxhash", 20141025) == 13067679811253438005U);
  CHECK(hash64("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1U);  // more than one block of 32 bytes
}

TEST_CASE("however the bytes are cut, the hash is the same") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += static_cast<char>(i * 37 % 251);
  for (std::size_t length = 0; length <= text.size(); length += 7) {
    const std::string_view whole = std::string_view(text).substr(0, length);
    for (const std::size_t piece : {1U, 3U, 31U, 32U, 33U, 64U}) {
      Hash64 hash;
      for (std::size_t at = 0; at < length; at += piece) hash.update(whole.substr(at, piece));
      CAPTURE(length);
      CAPTURE(piece);
      CHECK(hash.value() == hash64(whole));
    }
  }
}

TEST_CASE("one changed bit changes the hash") {
  const std::string text(100, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] ^= 1;
    CHECK(hash64(changed) != hash64(text));
  }
}

TEST_CASE("hashes as text have 16 digits") {
  CHECK(hash_text(0) == "0000000000000000");
  CHECK(hash_text(0x0123456789ABCDEFU) == "0123456789abcdef");
}
