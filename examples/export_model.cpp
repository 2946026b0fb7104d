// SPDX-License-Identifier: MIT
// Writes a checkpoint in the form that other programs read: a folder for Hugging Face transformers, a GGUF file for
// llama.cpp.
//
//   export_model --checkpoint-path run/checkpoint_best.safetensors --format hf --output stories_model
//   export_model --checkpoint-path run/checkpoint_best.safetensors --format gguf --output stories.gguf --dtype bfloat16
//
// docs/guide/export.md says which shapes each can express; others are refused by the name of the field.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>

#include <storylm/io/gguf_export.hpp>
#include <storylm/io/hugging_face_export.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/text/any_tokenizer.hpp>
#include <storylm/text/hugging_face_tokenizer.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/version.hpp>

#include "model_source.hpp"
#include "program.hpp"

namespace {

using namespace storylm;

struct Flags {
  std::filesystem::path checkpoint;
  std::filesystem::path tokenizer;
  std::filesystem::path output;
  std::string format;
  std::string dtype = "float32";
};

io::FileDtype file_dtype_of(const std::string& name) {
  if (name == "float32") return io::file_dtype<float>;
  if (name == "float16") return io::file_dtype<half>;
  expects<ArgumentError>(name == "bfloat16", "export_model", "unknown dtype ", name, ": float32, float16 or bfloat16");
  return io::file_dtype<bf16>;
}

/// The tokenizer that the checkpoint was trained with.
SentencePieceTokenizer load_tokenizer(const Flags& flags, const program::ModelSource& source) {
  const LoadedTokenizer loaded = source.tokenizer(flags.tokenizer);
  const auto* const tokenizer = loaded.tokenizer.get_if<SentencePieceTokenizer>();
  expects<ArgumentError>(tokenizer != nullptr, "tokenizer", flags.tokenizer,
                         " is no SentencePiece model: only those are exported");
  return *tokenizer;
}

/// What a reader of the folder must know.
std::string readme(const std::string& architecture, const SentencePieceTokenizer& tokenizer) {
  std::ostringstream text;
  text << "# A model made with storylm\n\nWritten by `export_model` of storylm " << version << ".\n\n";
  if (architecture == "TransformerEncoder") {
    text << "`model.safetensors` has the names of PyTorch's `nn.TransformerEncoder`, between `embedding` and `head`; "
            "`config.json` its sizes. The 30 lines that load it are in storylm's docs/guide/export.md.\n";
  } else {
    text << "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            "model = AutoModelForCausalLM.from_pretrained(FOLDER)\n```\n\nIts architecture is `"
         << architecture << "`.\n";
  }
  text << "\n`tokenizer.json` gives texts the ids that the model was trained with"
       << (tokenizer.bos() >= 0 ? ", BOS before them" : "")
       << (tokenizer.lowercase() ? "; it lower-cases them first" : "")
       << ". `tokenizer.model` is the same vocabulary as a SentencePiece model";
  if (tokenizer.lowercase())
    text << ", **without lower-casing**: `tokenizer.settings.json` is storylm's alone, other programs must be given "
            "text in lower case";
  text << ".\n";
  return text.str();
}

/// Says what the tokenizer does to text and GGUF cannot.
void warn_of_text(const SentencePieceTokenizer& tokenizer, const io::SentencePieceModel& model) {
  if (tokenizer.lowercase())
    std::cerr << "export_model: the tokenizer lower-cases text and llama.cpp does not: give it prompts in lower case\n";
  if (!model.has_bytes())
    std::cerr
        << "export_model: the tokenizer has no pieces for bytes: llama.cpp fails on characters it does not know\n";
}

void export_folder(const Flags& flags, const io::ModelFile& file, const SentencePieceTokenizer& tokenizer,
                   io::SentencePieceModel&& pieces) {
  const std::string architecture = io::hugging_face_architecture(file.config());
  const io::ExportSummary summary =
      io::export_hugging_face(file, flags.output,
                              {.dtype = file_dtype_of(flags.dtype),
                               .tokenizer = std::move(pieces),
                               .lowercase = tokenizer.lowercase(),
                               .files = {{"tokenizer.model", tokenizer.model_bytes()},
                                         {"tokenizer.settings.json", to_json(tokenizer.settings())},
                                         {"README.md", readme(architecture, tokenizer)}}});
  std::cout << flags.output.string() << ": " << summary.architecture << ", " << summary.parameters << " weights in "
            << summary.tensors << " tensors of " << flags.dtype << '\n';
}

void export_file(const Flags& flags, const io::ModelFile& file, const SentencePieceTokenizer& tokenizer,
                 const io::SentencePieceModel& pieces) {
  const io::ExportSummary summary = io::export_gguf(
      file, pieces, flags.output, {.dtype = file_dtype_of(flags.dtype), .name = flags.output.stem().string()});
  warn_of_text(tokenizer, pieces);
  std::cout << flags.output.string() << ": " << summary.architecture << ", " << summary.parameters << " weights in "
            << summary.tensors << " tensors, matrices of " << flags.dtype << '\n';
}

int run(const Flags& flags) {
  expects<ArgumentError>(flags.format == "hf" || flags.format == "gguf", "export_model", "unknown format ",
                         flags.format, ": hf or gguf");
  static_cast<void>(file_dtype_of(flags.dtype));
  const program::ModelSource source(flags.checkpoint);
  expects<ArgumentError>(!source.is_folder(), "export_model", flags.checkpoint,
                         " is a Hugging Face folder already, not a checkpoint");
  const io::ModelFile& file = *source.checkpoint();
  const SentencePieceTokenizer tokenizer = load_tokenizer(flags, source);
  io::SentencePieceModel pieces = io::read_sentencepiece_model(tokenizer.model_bytes(), "the tokenizer");
  if (flags.format == "hf") {
    export_folder(flags, file, tokenizer, std::move(pieces));
  } else {
    export_file(flags, file, tokenizer, pieces);
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Writes a checkpoint in the form that other programs read", "export_model");
  app.add_option("--checkpoint-path", flags.checkpoint,
                 "a checkpoint that train_stories wrote, or a run's folder: its best one")
      ->required();
  app.add_option(
         "--format", flags.format,
         "hf: a folder for Hugging Face transformers (GPT-2, Llama and Mistral shapes; others for PyTorch); gguf: "
         "a file for llama.cpp (Llama shape)")
      ->required();
  app.add_option("--output", flags.output, "the folder or file; what is there already is never replaced")->required();
  app.add_option("--tokenizer-path", flags.tokenizer,
                 "the tokenizer's .model file (default: bpe.model in the checkpoint's folder)");
  app.add_option("--dtype", flags.dtype, "type of weights: float32, float16 or bfloat16; in GGUF of matrices only")
      ->capture_default_str();
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the limit is a failed write with an error, not the end
  return program::run(app, argc, argv, [&flags] { return run(flags); });
}
