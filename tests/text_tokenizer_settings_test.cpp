// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <storylm/text/tokenizer_settings.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;

TEST_CASE("settings come back as they were written") {
  const TemporaryFolder folder;
  CHECK(tokenizer_settings_path("some/bpe.model") == "some/bpe.settings.json");
  CHECK(!read_tokenizer_settings(folder / "bpe.model", 7).has_value());
  for (const bool lowercase : {false, true}) {
    write_bytes(folder / "bpe.settings.json",
                to_json({.lowercase = lowercase, .vocab_size = 5120, .byte_fallback = true, .model_hash = 7}));
    const auto settings = read_tokenizer_settings(folder / "bpe.model", 7);
    REQUIRE(settings.has_value());
    CHECK(settings->lowercase == lowercase);
  }
}

TEST_CASE("settings of another model are refused") {
  const TemporaryFolder folder;
  write_bytes(folder / "bpe.settings.json", to_json({.model_hash = 7}));
  const std::string message = error_of([&] { (void)read_tokenizer_settings(folder / "bpe.model", 8); });
  CHECK(contains(message, "it belongs to a model with hash \"0000000000000007\""));
  CHECK(contains(message, "0000000000000008"));
}

TEST_CASE("damaged settings are refused with the file and the byte") {
  const TemporaryFolder folder;
  const auto refused = [&](std::string_view text) {
    write_bytes(folder / "bpe.settings.json", text);
    const std::string message = error_of([&] { (void)read_tokenizer_settings(folder / "bpe.model", 7); });
    CHECK(contains(message, "bpe.settings.json"));
    return message;
  };
  CHECK(contains(refused(""), "at byte 0: expected {"));
  CHECK(contains(refused("{}"), "there is no \""));
  CHECK(contains(refused("{\"format\": \"other\", \"version\": 1}"), "format \"other\""));
  CHECK(contains(refused("{\"format\": [1]}"), "expected a string, a number or a boolean"));
  CHECK(contains(refused("{\"a\\u0041\": 1}"), "a string without escapes"));
  CHECK(contains(refused("{} x"), "expected the end of the file"));
  CHECK(contains(refused("{\"lowercase\": true, \"lowercase\": false}"), "the key \"lowercase\" stands there twice"));
  CHECK(contains(refused("{\"format\": \"a\nb\"}"), "a control character in a string"));
  CHECK(contains(refused("{\"format\": \"" + std::string(10000, 'a') + "\"}"), "a string that is too long"));
  CHECK(contains(refused("{\"format\": " + std::string(10000, '1') + "}"), "a number that is too long"));
  std::string many = "{";
  for (int i = 0; i < 65; ++i) many += "\"" + std::to_string(i) + "\": 1, ";
  CHECK(contains(refused(many + "}"), "there are too many fields"));
  const std::string whole = to_json({.lowercase = true, .model_hash = 7});
  for (std::size_t length = 0; length + 2 < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(!refused(std::string_view(whole).substr(0, length)).empty());
  }
  std::string wrong = whole;
  wrong.replace(wrong.rfind("true"), 4, "\"ja\"");
  CHECK(contains(refused(wrong), "lowercase is \"ja\", expected true or false"));
}
