// SPDX-License-Identifier: MIT
// LINK: io
// Writes a Llama-shaped model with random weights as safetensors with Hugging Face's names; llama_export.py makes
// llama2.c's and llama.cpp's files of it.
//
//   llama_model --shape 110m --output model.safetensors
#include <algorithm>
#include <iostream>
#include <string>

#include <storylm/io/model_file.hpp>

#include "cpu_support.hpp"
#include "llama_shapes.hpp"

namespace {

using namespace bench;

void run(const Flags& flags) {
  const auto shape = std::find_if(llama_shapes.begin(), llama_shapes.end(),
                                  [&](const Preset& preset) { return preset.name == flags.text("shape"); });
  expects<ArgumentError>(shape != llama_shapes.end(), "flags",
                         "--shape is tiny, 15m, 42m or 110m: ", flags.text("shape"));
  expects<ArgumentError>(!flags.text("output").empty(), "flags", "--output is missing");
  // Xavier's are wide enough that a tied head does not only repeat the last token: greedy stories tell models apart.
  const TransformerOptions options{.initialisation = Initialisation::xavier};
  const LlamaModel<float> model(shape->config, Cpu{}, options, nn::Gradients::no);
  io::CheckpointWriter writer(io::model_metadata(model));
  io::add_model(writer, model);
  writer.save(flags.text("output"));
}

}  // namespace

int main(int argc, char** argv) { return run_cpu_program(argc, argv, {{"shape", "110m"}, {"output", ""}}, run); }
