// SPDX-License-Identifier: MIT
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/text/any_tokenizer.hpp>

using namespace storylm;

namespace {

/// Ids are the bytes.
struct Bytes {
  std::shared_ptr<int> alive = std::make_shared<int>(0);
  [[nodiscard]] index_t vocab_size() const { return 256; }
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const {
    std::vector<token_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const { return {tokens.begin(), tokens.end()}; }
  [[nodiscard]] std::string normalise(std::string_view text) const { return std::string(text) + "!"; }
  [[nodiscard]] token_t bos() const { return 1; }
  [[nodiscard]] token_t eos() const { return 2; }
  [[nodiscard]] token_t pad() const { return 3; }
  [[nodiscard]] token_t unk() const { return -1; }
  [[nodiscard]] std::uint64_t hash() const { return 42; }
};
struct Other : Bytes {};

index_t size_of(const AnyTokenizer& tokenizer) { return tokenizer.vocab_size(); }

}  // namespace

TEST_CASE("AnyTokenizer passes everything on, and is copied cheaply") {
  static_assert(Tokenizer<AnyTokenizer>);
  static_assert(std::is_nothrow_copy_constructible_v<AnyTokenizer>);
  static_assert(!std::is_constructible_v<AnyTokenizer, int>);
  const Bytes bytes;
  const AnyTokenizer any = bytes;
  CHECK(any.vocab_size() == 256);
  CHECK(any.encode("ab") == std::vector<token_t>{97, 98});
  CHECK(any.decode(std::vector<token_t>{97, 98}) == "ab");
  CHECK(any.normalise("a") == "a!");
  CHECK(any.bos() == 1);
  CHECK(any.eos() == 2);
  CHECK(any.pad() == 3);
  CHECK(any.unk() == -1);
  CHECK(any.hash() == 42);
  CHECK(size_of(bytes) == 256);
  CHECK(bytes.alive.use_count() == 2);
  AnyTokenizer copy = any;
  AnyTokenizer moved = std::move(copy);
  CHECK(bytes.alive.use_count() == 2);  // handles of one tokenizer
  AnyTokenizer of_copy(moved);          // not an AnyTokenizer of an AnyTokenizer
  CHECK(of_copy.get_if<Bytes>() == any.get_if<Bytes>());
}

TEST_CASE("what an AnyTokenizer holds can be asked for") {
  const AnyTokenizer any = Bytes{};
  REQUIRE(any.get_if<Bytes>() != nullptr);
  CHECK(any.get_if<Bytes>()->bos() == 1);
  CHECK(any.get_if<Other>() == nullptr);
}
