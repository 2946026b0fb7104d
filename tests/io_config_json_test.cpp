// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Configs as JSON: every field there and back, every mistake named.
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/config_json.hpp>
#include <storylm/models/presets.hpp>

#include "io_support.hpp"

using namespace storylm;
using io::config_from_json;
using io::config_to_json;
using test::contains;
using test::error_of;

namespace {

/// There and back through text, as a checkpoint does it.
io::ModelDescription round_trip(const io::ModelDescription& model) {
  const std::string text = io::json_text(config_to_json(model));
  return config_from_json(io::as_object(io::parse_json(text), "config"), "config");
}
std::string refusal(const boost::json::object& object) {
  return error_of([&] { static_cast<void>(config_from_json(object, "x.safetensors: config")); });
}

}  // namespace

TEST_CASE("presets come back, with what follows from the rest written out") {
  for (const TransformerConfig& config : {presets::story_24m, presets::story_3m, presets::story_tiny, presets::gpt2,
                                          presets::mistral_7b, presets::story_llama_tiny, TransformerConfig{}}) {
    CHECK(round_trip({config, {}}).config == config.resolved());
  }
}

TEST_CASE("each field is stored under its name") {
  const TransformerConfig base = presets::story_tiny.resolved();
  std::vector<std::string> names;
  TransformerConfig config = base;
  detail::visit_fields(config, [&](std::string_view name, auto&) { names.emplace_back(name); });
  CHECK(names.size() == 17);
  for (const std::string& wanted : names) {
    CAPTURE(wanted);
    config = base;
    detail::visit_fields(config, [&](std::string_view name, auto& value) {
      if (name != wanted) return;
      if constexpr (std::is_same_v<decltype(value), bool&>) {
        value = !value;
      } else {
        value += 3;
      }
    });
    REQUIRE(config != base);
    CHECK(round_trip({config, {}}).config == config.resolved());
    boost::json::object object = config_to_json({config, {}});
    REQUIRE(object.contains(wanted));
    object.erase(wanted);
    CHECK(contains(refusal(object), wanted));
    object[wanted] = "three";
    CHECK(contains(refusal(object), wanted));
    object[wanted] = nullptr;
    CHECK(contains(refusal(object), wanted));
  }
}

TEST_CASE("kinds are stored as words, and unknown words are refused") {
  const auto check = [](auto field, const auto& names, const std::string& key) {
    for (const auto& [kind, word] : names) {
      TransformerConfig config = presets::story_tiny;
      config.*field = kind;
      CHECK(config_to_json({config, {}}).at(key).as_string() == std::string(word));
      CHECK(round_trip({config, {}}).config == config.resolved());
    }
    boost::json::object object = config_to_json({presets::story_tiny, {}});
    object[key] = "Relu";
    CHECK(refusal(object) == "[config] x.safetensors: config: " + key + " is unknown: \"Relu\"");
    object[key] = 1;
    CHECK(contains(refusal(object), key));
    object.erase(key);
    CHECK(contains(refusal(object), key));
  };
  check(&TransformerConfig::norm, detail::norm_names, "norm");
  check(&TransformerConfig::feed_forward, detail::feed_forward_names, "feed_forward");
  check(&TransformerConfig::positions, detail::position_names, "positions");
  CHECK(detail::norm_names.size() + detail::feed_forward_names.size() + detail::position_names.size() == 10);
}

TEST_CASE("norm_eps and rope_theta come back bit for bit; initial values are not drawn again") {
  for (const double value : {1e-5, 1e-6, 0.1, 1.0 / 3.0, 12345.678}) {
    const auto back =
        round_trip({presets::story_tiny, {.norm_eps = value, .rope_theta = 7.0 * value, .initialisation = {}}});
    CHECK(back.options.norm_eps == value);
    CHECK(back.options.rope_theta == 7.0 * value);
    CHECK(back.options.initialisation == Initialisation::none);
  }
  boost::json::object object = config_to_json({presets::story_tiny, {}});
  object["rope_theta"] = 500000;  // an integer is a number too
  CHECK(config_from_json(object, "x").options.rope_theta == 500000.0);
  object["norm_eps"] = "1e-5";
  CHECK(contains(refusal(object), "norm_eps"));
}

TEST_CASE("numbers out of range are refused, fields that are not known are left alone") {
  boost::json::object object = config_to_json({presets::story_tiny, {}});
  object["later"] = "more";
  CHECK(refusal(object).empty());
  object["n_heads"] = -1;
  CHECK(refusal(object) == "[config] x.safetensors: config: n_heads must be in [0, 4194304]: -1");
  for (const boost::json::value& value : {boost::json::value(3000000000), boost::json::value(2.5),
                                          boost::json::value(true), boost::json::value(boost::json::array{1})}) {
    object["n_heads"] = value;
    CHECK(contains(refusal(object), "n_heads"));
  }
}
