// SPDX-License-Identifier: MIT
// Runs the program as a user does, on small random models.
// LINK: io sentencepiece
// PROGRAMS: generate_stories
// TIMEOUT: 300
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <sys/wait.h>

#include "export_support.hpp"
#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;
namespace fs = std::filesystem;

namespace {

using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;

Result run(const std::string& program, const std::string& flags, const std::string& before = "") {
  const TemporaryFolder folder;
  const std::string command = before + "'" STORYLM_BIN_DIR "/" + program + "' " + flags + " > '" +
                              (folder / "out").string() + "' 2> '" + (folder / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(folder / "out"), read_bytes(folder / "err")};
}

/// The folder of a run: its best checkpoint and bpe.model.
void write_run(const fs::path& folder, const TransformerConfig& config, bool lowercase) {
  fs::create_directories(folder);
  const SentencePieceTokenizer tokenizer = export_tokenizer(lowercase);
  Llama model(config, Cpu{}, {}, nn::Gradients::no);
  scatter(model, 7);
  io::CheckpointWriter writer(io::model_metadata(model, tokenizer.hash()));
  io::add_model(writer, model);
  writer.save(folder / "checkpoint_best.safetensors");
  tokenizer.save(folder / "bpe.model");
}

/// --checkpoint-path run --format ... --output ..., quoted.
std::string flags(const fs::path& checkpoint, const std::string& format, const fs::path& output) {
  return "--checkpoint-path '" + checkpoint.string() + "' --format " + format + " --output '" + output.string() + "' ";
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

}  // namespace

TEST_CASE("an exported folder tells the stories of its checkpoint") {
  const TemporaryFolder folder;
  TransformerConfig config = export_llama;
  config.positions = PositionKind::rope_interleaved;
  for (const bool lowercase : {false, true}) {
    const std::string name = lowercase ? "lower" : "plain";
    write_run(folder / name, config, lowercase);
    const Result exported = run("export_model", flags(folder / name, "hf", folder / (name + "_hf")));
    CHECK(exported.code == 0);
    CHECK(exported.err.empty());
    CHECK(contains(exported.out, "_hf: LlamaForCausalLM, " + std::to_string(parameter_count(config)) + " weights in "));
    CHECK(names_in(folder / (name + "_hf")) ==
          std::set<std::string>{"README.md", "config.json", "generation_config.json", "model.safetensors",
                                "tokenizer.json", "tokenizer.model", "tokenizer.settings.json",
                                "tokenizer_config.json"});
    CHECK((read_bytes(folder / (name + "_hf/README.md")).find("lower-cases") != std::string::npos) == lowercase);

    const auto stories = [&](const fs::path& model) {
      const Result told = run("generate_stories", "--checkpoint-path '" + model.string() +
                                                      "' --prompt 'Once Upon a time Lily ' --gen-quantity 4 --seed 3 "
                                                      "--gen-topk 5 --gen-temperature 0.8 --max-tokens 120");
      CHECK(told.code == 0);
      CHECK(told.out.size() > 400);
      return told.out;
    };
    CHECK(stories(folder / (name + "_hf")) == stories(folder / name / "checkpoint_best.safetensors"));
  }
}

TEST_CASE("a GGUF file, with what llama.cpp does not do to texts") {
  const TemporaryFolder folder;
  write_run(folder / "run", export_llama, true);
  const fs::path checkpoint = folder / "run/checkpoint_best.safetensors";
  const Result exported = run("export_model", flags(checkpoint, "gguf", folder / "m.gguf") + "--dtype bfloat16");
  CHECK(exported.code == 0);
  CHECK(contains(exported.out, "m.gguf: llama, "));
  CHECK(contains(exported.err, "give it prompts in lower case"));
  CHECK(read_bytes(folder / "m.gguf").starts_with("GGUF"));
  CHECK(fs::file_size(folder / "m.gguf") < fs::file_size(checkpoint));

  fs::copy_file(folder / "run/bpe.model", folder / "elsewhere.model");
  fs::remove(folder / "run/bpe.model");
  CHECK(run("export_model", flags(checkpoint, "gguf", folder / "n.gguf")).code == 2);
  const Result plain = run("export_model", flags(checkpoint, "gguf", folder / "n.gguf") + "--tokenizer-path '" +
                                               (folder / "elsewhere.model").string() + "'");
  CHECK(plain.code == 0);
  CHECK(plain.err.empty());  // without its settings it does not lower-case
}

TEST_CASE("refusals are one line and leave nothing") {
  const TemporaryFolder folder;
  write_run(folder / "run", export_llama, false);
  const fs::path checkpoint = folder / "run/checkpoint_best.safetensors";
  const auto refused = [&](const std::string& arguments, const std::string& sentence) {
    const Result result = run("export_model", arguments);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.find('\n') == result.err.size() - 1);
    CHECK(contains(result.err, sentence));
    CHECK(names_in(folder.path()) == std::set<std::string>{"run"});
  };
  refused(flags(checkpoint, "onnx", folder / "out"), "unknown format onnx: hf or gguf");
  refused(flags(checkpoint, "hf", folder / "out") + "--dtype float64", "unknown dtype float64");
  refused(flags(checkpoint, "hf", folder / "run"), "is there already and not empty");
  refused(flags(checkpoint, "gguf", checkpoint), "is there already");
  refused(flags(folder / "none", "hf", folder / "out"), "none");
  refused(flags(checkpoint, "hf", folder / "out") + "--tokenizer-path '" + checkpoint.string() + "'", "SentencePiece");
  refused("--format hf", "--checkpoint-path");

  const auto other = train_sentencepiece(std::vector<std::string>{"Once upon a time a cat sat on a mat with a hat."},
                                         {.vocab_size = export_vocab_size});
  other.save(folder / "run/other.model");
  refused(flags(checkpoint, "hf", folder / "out") + "--tokenizer-path '" + (folder / "run/other.model").string() + "'",
          "was trained with the tokenizer of hash");

  TransformerConfig config = export_llama;
  config.head_bias = true;
  write_run(folder / "run/biased", config, false);
  refused(flags(folder / "run/biased", "hf", folder / "out"), "head_bias is true, but LlamaForCausalLM has no bias");
  refused(flags(folder / "run/biased", "gguf", folder / "out"), "head_bias is true, but GGUF's llama has no bias");
}

TEST_CASE("a full disk leaves nothing, and an exported folder is not exported again") {
  const TemporaryFolder folder;
  write_run(folder / "run", export_llama, false);
  const fs::path checkpoint = folder / "run/checkpoint_best.safetensors";
  for (const std::string format : {"hf", "gguf"}) {
    const Result full = run("export_model", flags(checkpoint, format, folder / "out"), "ulimit -f 60; ");
    CHECK(full.code == 1);
    CHECK(contains(full.err, "cannot write"));
    CHECK(names_in(folder.path()) == std::set<std::string>{"run"});
  }
  CHECK(run("export_model", flags(checkpoint, "hf", folder / "out")).code == 0);
  const Result again = run("export_model", flags(folder / "out", "hf", folder / "again"));
  CHECK(again.code == 2);
  CHECK(contains(again.err, "is a Hugging Face folder already"));
}
