// SPDX-License-Identifier: MIT
// LINK: io
// Generates greedily from a model file, one story: tokens and tokens per second, and the bytes that a token reads; or
// with --bandwidth how fast memory is read. compare_llama.sh runs it beside llama2.c and llama.cpp.
//
//   llama_generation --model model.safetensors --dtype bfloat16 --threads 2 --tokens 200
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <storylm/generate/generator.hpp>
#include <storylm/io/model_file.hpp>

#include "cpu_support.hpp"
#include "llama_shapes.hpp"

namespace {

using namespace bench;

/// Numbers separated by commas.
std::vector<token_t> token_list(const std::string& text) {
  std::vector<token_t> ids;
  std::istringstream stream(text);
  for (std::string number; std::getline(stream, number, ',');) ids.push_back(static_cast<token_t>(std::stol(number)));
  return ids;
}

template <class T>
void run(const Flags& flags) {
  const io::ModelFile file(flags.text("model"));
  const TransformerConfig& c = file.config();
  expects<ArgumentError>(c.norm == NormKind::rms_norm && c.feed_forward == FeedForwardKind::swiglu, "flags",
                         flags.text("model"), " is not a Llama-shaped model");
  const Cpu device = device_of(flags);
  TransformerOptions options = file.options();
  options.initialisation = Initialisation::none;
  LlamaModel<T> model(c, device, options, nn::Gradients::no);
  file.load_into(model);

  const std::vector<token_t> prompt = token_list(flags.text("prompt"));
  const auto prompt_tokens = static_cast<index_t>(prompt.size());
  const index_t tokens = flags.number("tokens");
  expects<ArgumentError>(tokens > 1, "flags", "--tokens must be 2 or more: ", tokens);
  Generator generator(model, 1);
  const auto request = [&](index_t count) {
    return std::vector<GenerateRequest>{{.prompt = prompt, .max_tokens = prompt_tokens + count}};
  };
  const GenerateOptions greedy{.sampler = {.temperature = 0.0}, .eos = -1, .banned = {}};
  static_cast<void>(generator.generate(request(std::min<index_t>(tokens, 4)), greedy));  // scratch grows

  index_t after_first = -1;
  Clock::time_point start;
  const auto stories = generator.generate(request(tokens), greedy, [&](const GeneratedToken&) {
    if (++after_first == 0) start = Clock::now();  // as llama2.c counts
  });
  const double rate = static_cast<double>(after_first) / seconds_since(start);

  const double embedding = c.tie_head ? 0.0 : static_cast<double>(c.vocab_size) * c.d_model;  // one row of it is read
  const double positions = static_cast<double>(prompt_tokens) + static_cast<double>(tokens) / 2.0;
  std::ostringstream ids;
  for (const token_t id : std::span(stories[0].ids).subspan(prompt.size())) ids << (ids.tellp() > 0 ? "," : "") << id;
  std::cout << JsonObject()
                   .add("tokens_per_second", rate)
                   .add("weight_bytes", (static_cast<double>(parameter_count(c)) - embedding) * sizeof(T))
                   .add("cache_bytes", 2.0 * c.n_layers * c.kv_heads() * c.head_size() * positions * sizeof(T))
                   .add("ids", ids.str())
                   .text()
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  return run_cpu_program(argc, argv,
                         {{"model", ""},
                          {"dtype", "float32"},
                          {"threads", "0"},
                          {"instruction_set", ""},
                          {"prompt", "1"},
                          {"tokens", "200"},
                          {"bandwidth", "off"}},
                         [](const Flags& flags) {
                           if (flags.text("bandwidth") == "on") {
                             std::cout << JsonObject().add("bytes_per_second", read_bandwidth(device_of(flags))).text()
                                       << std::endl;
                             return;
                           }
                           expects<ArgumentError>(!flags.text("model").empty(), "flags", "--model is missing");
                           with_dtype(flags.text("dtype"), [&]<class T>() { run<T>(flags); });
                         });
}
