// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief JSON: what is refused and where, typed fields, numbers that survive text.
#include <bit>
#include <cstdint>
#include <iomanip>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/io/json.hpp>

#include "io_support.hpp"

using namespace storylm;
using storylm::test::contains;
using storylm::test::error_of;

namespace {

std::string refusal(const std::string& text, const io::JsonLimits& limits = {}) {
  return error_of([&] { static_cast<void>(io::parse_json(text, {.name = "config.json"}, limits)); });
}

}  // namespace

TEST_CASE("errors name file, line and byte") {
  CHECK(refusal("{\"a\": 1,\n \"b\": tru}") == "[json] config.json: line 2, byte 15: syntax error");
  CHECK(contains(refusal(""), "[json] config.json: line 1, byte 0: incomplete JSON"));
  CHECK(contains(refusal("{} x"), "line 1, byte 3: there is something after the document"));
  CHECK(contains(refusal("{\"a\": [1, 2"), "byte 11: incomplete JSON"));
  CHECK(contains(refusal("{\"a\": \"\xFF\"}"), "line 1, byte 7"));
  CHECK(contains(refusal("{\"a\": \"\\ud800\"}"), "line 1"));
  CHECK(contains(refusal("[1,]"), "syntax error"));
  CHECK(contains(refusal("[NaN]"), "syntax error"));
  CHECK(contains(refusal("// comment\n[1]"), "syntax error"));
  CHECK(contains(refusal("\xEF\xBB\xBF{}"), "byte 0"));
  const std::string shifted = error_of([] { static_cast<void>(io::parse_json("[", {.op = "x", .first_byte = 8})); });
  CHECK(shifted == "[x] text: line 1, byte 9: incomplete JSON");
}

TEST_CASE("duplicate keys are refused at every level, equal keys of different objects are not") {
  CHECK(contains(refusal("{\"a\": 1, \"a\": 2}"), "the key \"a\" stands there twice"));
  CHECK(contains(refusal("{\"a\": 1, \"\\u0061\": 2}"), "the key \"a\" stands there twice"));
  CHECK(contains(refusal("[{}, {\"k\": {\"x\\n\": 1, \"x\\n\": 1}}]"), "the key \"x\\x0a\" stands there twice"));
  CHECK(refusal("{\"a\": {\"a\": 1}, \"b\": {\"a\": 1}}").empty());
  CHECK(refusal("[{\"a\": 1}, {\"a\": 2}]").empty());
}

TEST_CASE("bytes, depth and number of values are bounded") {
  CHECK(refusal("[[[1]]]", {.depth = 3}).empty());
  CHECK(contains(refusal("[[[[1]]]]", {.depth = 3}), "too deep"));
  CHECK(contains(refusal(std::string(1000000, '[')), "too deep"));
  CHECK(contains(refusal(std::string(1000000, '{')), "syntax error"));
  CHECK(refusal("[1, 2, 3]", {.values = 4}).empty());
  CHECK(contains(refusal("[1, 2, 3]", {.values = 3}), "too many values"));
  CHECK(contains(refusal("[[], {}, \"\", null, true, 1.5]", {.values = 6}), "too many values"));
  CHECK(refusal("[1, 2, 3]", {.bytes = 9}).empty());
  CHECK(contains(refusal("[1, 2, 3]", {.bytes = 8}), "has 9 bytes, more than the 8 allowed"));

  const test::TemporaryFolder folder;
  test::write_bytes(folder / "a.json", "{\"n\": 3}");
  CHECK(io::get<int>(io::as_object(io::read_json(folder / "a.json"), "a.json"), "n", "a.json") == 3);
  const std::string large = error_of([&] { static_cast<void>(io::read_json(folder / "a.json", {.bytes = 7})); });
  CHECK(contains(large, "a.json: the file has 8 bytes, more than the 7 allowed"));
  test::write_bytes(folder / "b.json", "{\n\n!");
  CHECK(contains(error_of([&] { static_cast<void>(io::read_json(folder / "b.json")); }), "b.json: line 3, byte 3"));
  CHECK(contains(error_of<IoError>([&] { static_cast<void>(io::read_json(folder / "c.json")); }), "c.json"));
  CHECK(contains(error_of<IoError>([&] { static_cast<void>(io::read_json(folder.path())); }), "is a folder"));
}

TEST_CASE("fields are typed and errors say what is there") {
  const auto document = io::parse_json(
      R"({"heads": 8, "negative": -1, "rate": 0.5, "whole": 2, "name": "x", "on": true, "none": null,
          "big": 18446744073709551615, "list": [1, 2], "mixed": [1, "a"], "inner": {"k": 1}, "huge": 1e300})");
  const boost::json::object& object = io::as_object(document, "c");
  CHECK(io::get<std::int64_t>(object, "heads", "c") == 8);
  CHECK(io::get<std::int8_t>(object, "negative", "c") == -1);
  CHECK(io::get<double>(object, "rate", "c") == 0.5);
  CHECK(io::get<double>(object, "whole", "c") == 2.0);
  CHECK(io::get<float>(object, "rate", "c") == 0.5F);
  CHECK(io::get<std::string>(object, "name", "c") == "x");
  CHECK(io::get<bool>(object, "on", "c"));
  CHECK(io::get<std::uint64_t>(object, "big", "c") == std::numeric_limits<std::uint64_t>::max());
  CHECK(io::get<std::vector<int>>(object, "list", "c") == std::vector<int>{1, 2});
  CHECK(io::get<int>(io::get<boost::json::object>(object, "inner", "c"), "k", "c") == 1);
  CHECK(io::find<int>(object, "heads", "c") == 8);
  CHECK(!io::find<int>(object, "absent", "c"));
  CHECK(!io::find<int>(object, "none", "c"));

  const auto failure = [&]<class T>(const char* key, T /*type*/) {
    return error_of([&] { static_cast<void>(io::get<T>(object, key, "run/config.json")); });
  };
  CHECK(failure("n_heads", 0) == "[json] run/config.json: \"n_heads\" is missing");
  CHECK(failure("name", 0) == "[json] run/config.json: \"name\" is \"x\", expected an integer");
  CHECK(contains(failure("rate", 0), "expected an integer"));
  CHECK(contains(failure("on", 0), "\"on\" is true, expected an integer"));
  CHECK(contains(failure("heads", true), "\"heads\" is 8, expected true or false"));
  CHECK(contains(failure("negative", 0U), "\"negative\" is -1, expected an integer from 0 to 4294967295"));
  CHECK(contains(failure("big", std::int64_t{0}), "expected an integer from -9223372036854775808"));
  CHECK(contains(failure("none", 0.0), "\"none\" is null, expected a number"));
  CHECK(contains(failure("huge", 0.0F), "too large"));
  CHECK(contains(failure("list", std::string()), "\"list\" is an array of 2, expected a string"));
  CHECK(contains(failure("mixed", std::vector<int>()), "an element of \"mixed\" is \"a\", expected an integer"));
  CHECK(contains(failure("heads", std::vector<int>()), "expected an array"));
  CHECK(contains(failure("list", boost::json::object()), "expected an object"));
  CHECK(contains(error_of([&] { static_cast<void>(io::find<int>(object, "name", "c")); }), "expected an integer"));
  CHECK(contains(error_of([] { static_cast<void>(io::as_object(io::parse_json("[]"), "f")); }),
                 "[json] f: the document is an array of 0, expected an object"));
}

TEST_CASE("numbers survive text bit for bit") {
  RandomStream random(7);
  int finite = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto value = std::bit_cast<double>(random.bits());
    if (!(std::abs(value) <= std::numeric_limits<double>::max())) continue;
    ++finite;
    const auto back = io::parse_json(io::json_text(value));
    REQUIRE(std::bit_cast<std::uint64_t>(back.as_double()) == std::bit_cast<std::uint64_t>(value));
  }
  CHECK(finite > 19000);
  for (const double value : {0.0, -0.0, 0.1, 3e-4, 1.0, 5e-324, std::numeric_limits<double>::max()}) {
    const auto back = io::parse_json(io::json_text(value));
    CHECK(std::bit_cast<std::uint64_t>(back.as_double()) == std::bit_cast<std::uint64_t>(value));
  }
  CHECK(io::parse_json("0.1").as_double() == 0.1);
  CHECK(io::parse_json("123456789012345678901234567890").as_double() == 123456789012345678901234567890.0);
  CHECK(io::parse_json("1e-999").as_double() == 0.0);
  CHECK(std::signbit(io::parse_json("-1e-999").as_double()));
  CHECK(contains(refusal("[1e999]"), "a number is too large: \"1e999\""));
  CHECK(contains(refusal("[-1e309]"), "a number is too large"));
  CHECK(io::parse_json("9223372036854775807").as_int64() == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("odd strings come through, and messages stay on one line") {
  const std::string text("a\0b\n\"\\\xC3\xA4\x7F", 9);
  CHECK(io::get<std::string>(io::as_object(io::parse_json(io::json_text({{"k", text}})), "c"), "k", "c") == text);
  CHECK(io::quoted(text) == "\"a\\x00b\\x0a\\\"\\\\\xC3\xA4\\x7f\"");
  CHECK(io::quoted(std::string(200, 'x')) == "\"" + std::string(80, 'x') + "...\"");
}

TEST_CASE("text in messages is escaped and cut, beside std::quoted too") {
  using storylm::io::quoted;
  std::string text = "a\"b\\c\n\x7F";
  const std::string expected = "\"a\\\"b\\\\c\\x0a\\x7f\"";
  // Unqualified, the argument's namespace is searched as well: std::quoted must not be the better match.
  const std::string of_variable = quoted(text);
  const std::string of_constant = quoted(std::as_const(text));
  const std::string of_literal = quoted("a\"b\\c\n\x7F");
  const std::string of_view = quoted(std::string_view(text));
  CHECK(of_variable == expected);
  CHECK(of_constant == expected);
  CHECK(of_literal == expected);
  CHECK(of_view == expected);
  const std::string long_one = quoted(std::string(1000, 'x'));
  CHECK(long_one == '"' + std::string(80, 'x') + "...\"");
}
