// SPDX-License-Identifier: MIT
// Runs the program as a user does: a small random checkpoint, random folders as baseline and judge.
// LINK: io sentencepiece
// PROGRAMS: generate_stories judge_stories
// TIMEOUT: 300
#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/comparison_files.hpp"
#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr TransformerConfig config = {
    .vocab_size = 150, .d_model = 32, .d_ff = 64, .n_layers = 2, .n_heads = 1, .max_len = 48, .scale_embedding = true};
using Stack = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// A run folder: checkpoint.safetensors and bpe.model. @param ends ids that come almost always
void write_run(const std::filesystem::path& folder, const std::vector<std::size_t>& ends) {
  const std::vector<std::string> who{"Lily", "Ben", "Tom", "Anna", "the big dog", "a small bird", "her mom"};
  const std::vector<std::string> what{"ran home", "played", "slept", "sang", "was happy", "saw a tree", "said hello"};
  std::vector<std::string> sentences;
  for (std::size_t i = 0; i < 343; ++i) {
    sentences.push_back("Once upon a time, " + who[i % 7] + " " + what[i / 7 % 7] + ". Then " + who[i / 49] +
                        " was glad.");
  }
  const auto vocabulary =
      train_sentencepiece(sentences, {.vocab_size = config.vocab_size, .byte_fallback = false, .lowercase = false});
  std::filesystem::create_directories(folder);
  Stack model(config, Cpu({.threads = 1}), {.seed = 5}, nn::Gradients::no);
  auto bias = model.head.bias->to_host();
  for (const std::size_t i : {0U, 1U, 3U}) bias[i] = 5.0F;  // UNK, BOS and PAD would come all the time
  for (const std::size_t i : ends) bias[i] = 50.0F;
  model.head.bias->assign(bias);
  io::CheckpointWriter writer(io::model_metadata(model, vocabulary.hash()));
  io::add_model(writer, model);
  writer.save(folder / "checkpoint.safetensors");
  vocabulary.save(folder / "bpe.model");
}

const std::filesystem::path& runs() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    write_run(folder / "run", {});
    write_run(folder / "silent", {2});
    return true;
  }();
  static_cast<void>(made);
  return folder.path();
}
std::string reference(const char* name) { return STORYLM_TEST_DIR "/reference/hugging_face/" + std::string(name); }

std::vector<std::string> command(const std::string& program, const std::vector<std::string>& flags) {
  std::vector<std::string> all{STORYLM_BIN_DIR "/" + program};
  all.insert(all.end(), flags.begin(), flags.end());
  return all;
}
Result run(const std::string& program, const std::vector<std::string>& flags) {
  const TemporaryFolder folder;
  const int code = Process(command(program, flags), folder / "out", folder / "err").wait();
  return {code, read_bytes(folder / "out"), read_bytes(folder / "err")};
}
/// The flags of a comparison of the small checkpoint; those that follow are added.
std::vector<std::string> flags_for(const std::filesystem::path& output, const std::vector<std::string>& more) {
  std::vector<std::string> all{"--checkpoint-path", (runs() / "run/checkpoint.safetensors").string(),
                               "--judge",           reference("gpt2"),
                               "--output-dir",      output.string()};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
boost::json::value json_of(const std::filesystem::path& path) { return io::read_json(path); }
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  return lines;
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_CASE("the table: stories are generate_stories', numbers are judge_stories', batch size and threads do not count") {
  const TemporaryFolder folder;
  const std::vector<std::string> flags{"--baseline", reference("mistral"), "--gen-quantity", "3", "--seed", "7"};
  const Result result = run("compare_stories", flags_for(folder / "out", flags));
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  const auto document = json_of(folder / "out/comparison.json");
  const auto& rows = document.at("rows").as_array();
  REQUIRE(rows.size() == 13);
  CHECK(contains(result.out, "logits-as-weights, T = 0.5, k = 2"));
  CHECK(contains(result.out, "Row 6 has the stories of row 5"));

  const auto stories_of = [&](std::size_t row) {
    return program::RowFiles::split(read_bytes(folder / "out" / std::string(rows[row].at("stories_file").as_string())));
  };
  const auto generated = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--gen-quantity", "3", "--seed", "7"});
    return lines_of(run("generate_stories", more).out);
  };
  const std::string checkpoint = (runs() / "run/checkpoint.safetensors").string();
  CHECK(stories_of(0) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "0.1", "--gen-topk", "3"}));
  CHECK(stories_of(3) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "0.5", "--gen-topk", "2"}));
  // What is listed twice is the same, as the rows' own flags have it.
  CHECK(stories_of(5) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "1", "--gen-topk", "3",
                                    "--sampling", "logits-as-weights"}));
  CHECK(stories_of(5) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "0.1", "--gen-topk", "3",
                                    "--sampling", "logits-as-weights"}));
  CHECK(stories_of(9) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "1", "--gen-topk", "3",
                                    "--sampling", "inverse-temperature"}));
  CHECK(stories_of(8) == generated({"--checkpoint-path", checkpoint, "--gen-temperature", "0.1", "--gen-topk", "3",
                                    "--sampling", "inverse-temperature"}));
  CHECK(stories_of(8) != stories_of(0));
  // To this model a space at the end is a token of its own, so it goes on from the prompt without.
  const std::string prompt(rows[12].at("prompt").as_string());
  CHECK(prompt == "Once upon a time");
  CHECK(contains(result.out, "Row 13 goes on from the prompt without the space at its end"));
  CHECK(stories_of(12) == generated({"--checkpoint-path", reference("mistral"), "--gen-temperature", "1", "--gen-topk",
                                     "50", "--max-tokens", "48", "--prompt", prompt}));

  // The same text through judge_stories: the same numbers, to the last bit.
  std::vector<std::string> judge{"--judge", reference("gpt2"), "--json", (folder / "scores.json").string(), "--input"};
  for (const auto& row : rows)
    judge.push_back((folder / "out" / std::string(row.at("stories_file").as_string())).string());
  REQUIRE(run("judge_stories", judge).code == 0);
  const auto scores = json_of(folder / "scores.json");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    for (const char* field : {"stories", "tokens", "mean_nll", "perplexity", "perplexity_over_stories", "bits_per_byte",
                              "standard_error", "skipped"}) {
      CAPTURE(field);
      CHECK(rows[i].at(field) == scores.at("files").as_array()[i].at(field));
    }
    CHECK(rows[i].at("stories").as_int64() == 3);
    CHECK(rows[i].at("perplexity").as_double() > 1.0);
  }
  const std::string page = read_bytes(folder / "out/comparison.html");
  CHECK(contains(page, "<svg"));
  CHECK(contains(page, "mistral"));

  std::vector<std::string> again = flags_for(folder / "again", flags);
  again.insert(again.end(), {"--batch-size", "2", "--threads", "1"});
  REQUIRE(run("compare_stories", again).code == 0);
  const auto other = json_of(folder / "again/comparison.json");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(read_bytes(folder / "again" / std::string(rows[i].at("stories_file").as_string())) ==
          read_bytes(folder / "out" / std::string(rows[i].at("stories_file").as_string())));
    for (const char* field : {"mean_nll", "standard_error", "ended_by_eos", "tokens_written", "mean_characters"})
      CHECK(other.at("rows").as_array()[i].at(field) == rows[i].at(field));
  }
}

TEST_CASE("interrupted in any way, the same command goes on without repeating a row") {
  const TemporaryFolder folder;
  const std::vector<std::string> flags{"--gen-quantity", "400", "--sampling", "softmax"};
  const Result whole = run("compare_stories", flags_for(folder / "whole", flags));
  CAPTURE(whole.err);
  REQUIRE(whole.code == 0);

  const auto written = [&] {
    std::vector<std::filesystem::path> files;
    if (!std::filesystem::exists(folder / "out/rows")) return files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "out/rows"))
      if (entry.path().extension() == ".json" && !entry.path().filename().string().starts_with("."))
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  };
  std::vector<std::pair<std::filesystem::path, std::filesystem::file_time_type>> kept;
  std::size_t least = 1;
  for (const int signal : {SIGINT, SIGKILL, SIGTERM}) {
    Process process(command("compare_stories", flags_for(folder / "out", flags)), folder / "stdout", folder / "stderr");
    REQUIRE(process.wait_until([&] { return written().size() >= least; }));
    process.signal(signal);
    CHECK(process.wait() == 128 + signal);
    CHECK(!std::filesystem::exists(folder / "out/comparison.json"));
    if (signal != SIGKILL) CHECK(contains(read_bytes(folder / "stderr"), "stopped; rows that are done are kept"));
    for (const auto& [path, time] : kept) CHECK(std::filesystem::last_write_time(path) == time);
    kept.clear();
    for (const auto& path : written()) kept.emplace_back(path, std::filesystem::last_write_time(path));
    least = kept.size() + 1;
  }
  const Result rest = run("compare_stories", flags_for(folder / "out", flags));
  REQUIRE(rest.code == 0);
  CHECK(contains(rest.err, "taken up from "));
  for (const auto& [path, time] : kept) CHECK(std::filesystem::last_write_time(path) == time);
  const auto expected = json_of(folder / "whole/comparison.json");
  const auto found = json_of(folder / "out/comparison.json");
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& row = expected.at("rows").as_array()[i];
    const std::string file(row.at("stories_file").as_string());
    CHECK(read_bytes(folder / "out" / file) == read_bytes(folder / "whole" / file));
    for (const char* field : {"mean_nll", "standard_error", "ended_by_eos", "tokens_written", "example"})
      CHECK(found.at("rows").as_array()[i].at(field) == row.at(field));
  }
  // All is done: nothing is loaded, the table is the same.
  const Result nothing = run("compare_stories", flags_for(folder / "out", flags));
  CHECK(nothing.code == 0);
  CHECK(nothing.out == rest.out);
  CHECK(!has(nothing.err, "loading"));
}

TEST_CASE("rows of other settings are refused, and redone when told so; what still fits is kept") {
  const TemporaryFolder folder;
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> flags{"--gen-quantity", "2", "--sampling", "softmax", "--max-tokens", "20"};
    flags.insert(flags.end(), more.begin(), more.end());
    return run("compare_stories", flags_for(folder / "out", flags));
  };
  REQUIRE(with({}).code == 0);
  const auto refused = [&](const std::vector<std::string>& more, std::string_view why) {
    const Result result = with(more);
    CHECK(result.code == 2);
    CHECK(contains(result.err, why));
    CHECK(contains(result.err, "--redo"));
    CHECK(lines_of(result.err).size() >= 1);
  };
  refused({"--seed", "2"}, "was made with seed 1, now it is 2");
  refused({"--prompt", "A dog "}, "prompt");
  refused({"--dtype", "bfloat16"}, "dtype");
  refused({"--stride", "3"}, "scores.json");
  refused({"--bos", "always"}, "was made with bos false, now it is true");
  const auto stories = folder / "out/rows/checkpoint-softmax-t1-k3.stories.json";
  const auto time = std::filesystem::last_write_time(stories);
  const Result redone = with({"--bos", "always", "--redo"});
  CHECK(redone.code == 0);
  CHECK(std::filesystem::last_write_time(stories) == time);
  CHECK(contains(redone.err, "the stories of 4 of 4 rows, the scores of 0"));
  poke(folder / "out/stories/checkpoint-softmax-t1-k3.txt", 2, 'x');
  refused({"--bos", "always"}, "is not what was written");
  CHECK(with({"--bos", "always", "--redo"}).code == 0);
  CHECK(std::filesystem::last_write_time(stories) != time);
  CHECK(with({"--bos", "always"}).code == 0);
}

TEST_CASE("a row without anything to judge says so") {
  const TemporaryFolder folder;
  const std::string silent = (runs() / "silent/checkpoint.safetensors").string();
  const Result result =
      run("compare_stories", {"--checkpoint-path", silent, "--judge", silent, "--output-dir", (folder / "out").string(),
                              "--gen-quantity", "3", "--prompt", "", "--sampling", "softmax"});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(contains(result.out, "nothing to judge: none of the 3 stories"));
  const auto document = json_of(folder / "out/comparison.json");
  for (const auto& row : document.at("rows").as_array()) {
    CHECK(row.at("skipped").as_int64() == 3);
    CHECK(row.at("mean_nll").is_null());
    CHECK(row.at("perplexity").is_null());
    CHECK(row.at("ended_by_eos_share").to_number<double>() == 1.0);
  }
  CHECK(contains(read_bytes(folder / "out/comparison.html"), "class=\"problem\""));
}

TEST_CASE("bad flags and files end with one clear line and exit code 2") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& more, std::string_view word) {
    CAPTURE(word);
    const Result result = run("compare_stories", flags_for(folder / "out", more));
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(contains(result.err, word));
    CHECK(lines_of(result.err).size() == 1);
  };
  refused({"--baseline", "/nowhere/gpt2"}, "/nowhere/gpt2");
  refused({"--baseline", reference("llama"), reference("llama/.")}, "is given twice");
  refused({"--sampling", "beam"}, "there is no policy \"beam\"");
  refused({"--gen-quantity", "0"}, "--gen-quantity must be in [1, ");
  refused({"--batch-size", "0"}, "--batch-size must be in [1, ");
  refused({"--bos", "maybe"}, "--bos must be auto, always or never: maybe");
  refused({"--stride", "100000"}, "stride must be in [1, ");
  refused({"--prompt", "a<|endoftext|>b"}, "<|endoftext|>");
  refused({"--prompt", "a\xFF"}, "not UTF-8");
  refused({"--prompt", "a\nb"}, "it must be one line");
  refused({"--max-tokens", "3"}, "a story of run/checkpoint.safetensors may have 3");
  refused({"--baseline", reference("llama"), "--baseline-temperature", "-1"}, "temperature must be");
  refused({"--judge-dtype", "float8"}, "float8");
  // A checkpoint without its tokenizer: the flag that names one, where there is such a flag.
  const std::string checkpoint = (runs() / "run/checkpoint.safetensors").string();
  const std::string alone = (folder / "alone.safetensors").string();
  std::filesystem::copy_file(checkpoint, alone);
  refused({"--baseline", alone}, "beside the checkpoint: put it there");
  const auto lost = [&](const std::string& writer, const std::string& judge) {
    return run("compare_stories",
               {"--checkpoint-path", writer, "--judge", judge, "--output-dir", (folder / "out").string()})
        .err;
  };
  CHECK(contains(lost(alone, checkpoint), "say where it is with --tokenizer-path"));
  CHECK(contains(lost(checkpoint, alone), "say where it is with --judge-tokenizer-path"));
}

TEST_CASE("--help explains every flag") {
  const Result help = run("compare_stories", {"--help"});
  CHECK(help.code == 0);
  for (const char* flag : {"--checkpoint-path",
                           "--baseline",
                           "--judge",
                           "--output-dir",
                           "--gen-quantity",
                           "--prompt",
                           "--seed",
                           "--max-tokens",
                           "--sampling",
                           "--baseline-temperature",
                           "--baseline-topk",
                           "--baseline-topp",
                           "--bos",
                           "--context",
                           "--stride",
                           "--redo",
                           "--batch-size",
                           "--tokenizer-path",
                           "--judge-tokenizer-path",
                           "--judge-dtype",
                           "--device",
                           "--dtype",
                           "--threads"})
    CHECK(contains(help.out, flag));
}

}  // namespace
