// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Names of parameters in files: complete, without duplicates, and those of the modules that PyTorch saved.
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/config_json.hpp>
#include <storylm/io/names.hpp>

#include "io_model_support.hpp"
#include "io_support.hpp"

using namespace storylm;
using io::FileTensor;
using io::NameFamily;

namespace {

/// Calls f(name, parameter) for every parameter of a model of that shape, without forward or backward.
template <class F>
void for_each_parameter_of(const TransformerConfig& config, F&& f) {
  nn::with_stack_type<float, Cpu>(config, [&]<class Stack>(std::type_identity<Stack>) {
    const Stack model(config, Cpu{}, {.initialisation = Initialisation::none}, nn::Gradients::no);
    nn::for_each_parameter(model, f);
  });
}

/// "name shape" of everything a file of that shape holds.
std::set<std::string> names_of(const TransformerConfig& config) {
  std::set<std::string> names;
  for_each_parameter_of(config, [&](const std::string& name, const auto& p) {
    for (const FileTensor& part : io::file_tensors(io::name_family(config), config, name, p.shape()))
      names.insert((std::ostringstream() << part.name << ' ' << part.shape).str());
  });
  return names;
}

}  // namespace

TEST_CASE("every parameter of every kind of model has a name of its own, and its rows are there once") {
  std::size_t configs = 0;
  std::set<NameFamily> families;
  for (const TransformerConfig& config : test::all_configs()) {
    ++configs;
    families.insert(io::name_family(config));
    std::set<std::string> names;
    index_t elements = 0;
    for_each_parameter_of(config, [&](const std::string& name, const auto& p) {
      CAPTURE(name);
      index_t rows = 0;
      for (const FileTensor& part : io::file_tensors(io::name_family(config), config, name, p.shape())) {
        CHECK_MESSAGE(names.insert(part.name).second, part.name);
        CHECK(!part.name.starts_with("run."));
        CHECK(part.name.find("..") == std::string::npos);
        if (p.shape().rank() == 2) {
          CHECK(part.first_row == rows);
          CHECK(part.shape == (part.transposed ? Shape{p.shape()[1], part.rows} : Shape{part.rows, p.shape()[1]}));
        } else {
          CHECK(!part.transposed);
          CHECK(part.first_row == rows);
        }
        rows += p.shape().rank() == 2 ? part.rows : part.shape.size();
        elements += part.shape.size();
      }
      CHECK(rows == p.shape()[0]);
    });
    CHECK(elements == parameter_count(config));
  }
  CHECK(configs == 512);
  CHECK(families.size() == 3);
}

TEST_CASE("the family follows from the kinds") {
  CHECK(io::name_family({}) == NameFamily::pytorch);
  CHECK(io::name_family({.pre_norm = true}) == NameFamily::pytorch);
  CHECK(io::name_family(
            {.pre_norm = true, .feed_forward = FeedForwardKind::gelu_tanh, .positions = PositionKind::learned}) ==
        NameFamily::gpt2);
  CHECK(io::name_family({.norm = NormKind::rms_norm,
                         .feed_forward = FeedForwardKind::swiglu,
                         .positions = PositionKind::rope_half}) == NameFamily::llama);
}

TEST_CASE("names and shapes are those of the modules that PyTorch saved") {
  for (const char* model :
       {"seed_model_scaled", "seed_model_plain", "gpt2_model", "llama_model", "llama_interleaved_model"}) {
    CAPTURE(model);
    const io::SafetensorsFile file(std::filesystem::path(STORYLM_TEST_DIR) / "reference" /
                                   (std::string(model) + ".safetensors"));
    boost::json::object config = io::as_object(io::parse_json(file.metadata().at("config")), "config");
    config["qkv_bias"] = config.at("attention_bias");
    config["attention_out_bias"] = config.at("attention_bias");
    const TransformerConfig shape = io::config_from_json(config, model).config;
    std::set<std::string> theirs;
    const std::string prefix = "weights.";
    for (const io::StoredTensor& tensor : file.tensors())
      if (tensor.name.starts_with(prefix)) theirs.insert(tensor.name.substr(prefix.size()) + ' ' + tensor.shape_text());
    CHECK(theirs.size() > 10);
    CHECK(names_of(shape) == theirs);
  }
}

TEST_CASE("a parameter that the table does not know is refused by name") {
  const TransformerConfig config{.d_model = 8, .n_heads = 2};
  const auto message = [&](NameFamily family, const char* name) {
    return test::error_of<ArgumentError>([&] { static_cast<void>(io::file_tensors(family, config, name, {8, 8})); });
  };
  for (const NameFamily family : {NameFamily::pytorch, NameFamily::gpt2, NameFamily::llama}) {
    CHECK(message(family, "tail.weight") == "[names] the table has no name for tail.weight");
    CHECK(message(family, "headgear.weight") == "[names] the table has no name for headgear.weight");
    CHECK(message(family, "blocks.0.norm3.weight") == "[names] the table has no name for norm3.weight");
  }
}
