// SPDX-License-Identifier: MIT
// Runs the program as a user does, on a small random checkpoint of ours.
// LINK: io sentencepiece
// TIMEOUT: 300
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <storylm/evaluate/judge.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/story_files.hpp"
#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr TransformerConfig config = {
    .vocab_size = 150, .d_model = 32, .d_ff = 64, .n_layers = 2, .n_heads = 1, .max_len = 24, .scale_embedding = true};
using Stack = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

Stack random_model() { return Stack(config, Cpu({.threads = 1}), {.seed = 5}, nn::Gradients::no); }

/// What the files below hold.
const std::vector<std::string> stories{
    "Once upon a time Lily ran home. Then the big dog was glad, and her mom said hello. Tom was happy too, and so was "
    "Ben.",
    "Tom slept.", "", "Ben saw a tree,\nand a small bird sang."};

/// Made once: a run folder, and stories in every form.
const TemporaryFolder& made_folder() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    std::vector<std::string> sentences;
    for (std::size_t i = 0; i < 100; ++i)
      for (const std::string& story : stories)
        if (!story.empty()) sentences.push_back(story.substr(i % 7) + " And " + std::to_string(i));
    const auto vocabulary = train_sentencepiece(sentences, {.vocab_size = config.vocab_size, .byte_fallback = false});
    std::filesystem::create_directories(folder / "run");
    const Stack model = random_model();
    io::CheckpointWriter writer(io::model_metadata(model, vocabulary.hash()));
    io::add_model(writer, model);
    writer.save(folder / "run/checkpoint.safetensors");
    vocabulary.save(folder / "run/bpe.model");
    write_bytes(folder / "separated.txt", "\n" + stories[0] + " \n<|endoftext|>\n" + stories[1] +
                                              "\n<|endoftext|>\n<|endoftext|>\t" + stories[3] + "\n<|endoftext|>\n");
    write_bytes(folder / "lines.out", stories[0] + "\n\n  " + stories[1] + "  \r\n\n");
    write_bytes(folder / "shard.json",
                R"([{"story": " )" + stories[0] + R"(\n"}, {"story": ")" + stories[1] +
                    R"("}, {"story": ""}, {"story": "Ben saw a tree,\nand a small bird sang."}])");
    write_bytes(folder / "nothing.txt", "\n \n");
    return true;
  }();
  static_cast<void>(made);
  return folder;
}
std::string path(const std::string& name) { return "'" + (made_folder() / name).string() + "' "; }
std::string judge_flag() { return "--judge " + path("run/checkpoint.safetensors"); }

Result judge(const std::string& flags, const std::string& prefix = "", const std::string& out = "") {
  const TemporaryFolder folder;
  const std::string command = prefix + " '" STORYLM_BIN_DIR "/judge_stories' " + flags + " > '" +
                              (out.empty() ? (folder / "out").string() : out) + "' 2> '" + (folder / "err").string() +
                              "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out.empty() ? read_bytes(folder / "out") : "",
          read_bytes(folder / "err")};
}
/// The document that --json writes.
boost::json::object scored(const std::string& flags) {
  const TemporaryFolder folder;
  const Result result = judge(judge_flag() + flags + " --json '" + (folder / "scores.json").string() + "'");
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  return io::read_json(folder / "scores.json").as_object();
}
const boost::json::object& file_of(const boost::json::object& document, std::size_t i) {
  return document.at("files").as_array().at(i).as_object();
}

/// What the program should say, from the library.
std::vector<evaluate::StoryScore> expected(const evaluate::JudgePolicy& policy) {
  const auto vocabulary = SentencePieceTokenizer::load(made_folder() / "run/bpe.model");
  const Stack model = random_model();
  std::vector<evaluate::JudgeStory> all;
  for (const std::string& story : stories) all.push_back(program::judge_story(vocabulary, story, policy.bos));
  return evaluate::Judge(model, policy).score(all);
}

void same_scores(const boost::json::object& file, const std::vector<evaluate::StoryScore>& scores) {
  const evaluate::Summary s = evaluate::summarise(scores);
  CHECK(file.at("stories").to_number<index_t>() == s.stories);
  CHECK(file.at("skipped").to_number<index_t>() == s.skipped);
  CHECK(file.at("tokens").to_number<index_t>() == s.tokens);
  // Not bit for bit: program and test are not compiled with the same flags.
  const auto close = [](double value, double wanted) { CHECK(std::abs(value - wanted) <= 1e-6 * std::abs(wanted)); };
  const auto same = [&](const char* key, double value) { close(file.at(key).to_number<double>(), value); };
  same("mean_nll", s.mean_nll);
  same("perplexity", s.perplexity);
  same("perplexity_over_stories", s.perplexity_over_stories);
  same("bits_per_byte", s.bits_per_byte);
  same("standard_error", s.standard_error);
  const auto& per_story = file.at("per_story").as_array();
  REQUIRE(per_story.size() == scores.size());
  double nll = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    CAPTURE(i);
    CHECK(per_story[i].as_object().size() == 2);
    CHECK(per_story[i].at("tokens").to_number<index_t>() == scores[i].tokens);
    close(per_story[i].at("nll").to_number<double>(), scores[i].nll);
    nll += per_story[i].at("nll").to_number<double>();
  }
  // Numbers are written in full: what belongs together fits to the last digits.
  const double mean = file.at("mean_nll").to_number<double>();
  CHECK(std::abs(nll / static_cast<double>(s.tokens) - mean) <= 1e-14 * mean);
  CHECK(file.at("perplexity").to_number<double>() == doctest::Approx(std::exp(mean)).epsilon(1e-14));
}

TEST_CASE("a shard and separated text: the library's numbers in full, BOS by default") {
  const auto document = scored("--input " + path("shard.json") + path("separated.txt"));
  const auto scores = expected({.bos = true, .bos_id = 1});
  CHECK(scores[0].targets > 24);  // longer than the context
  CHECK(scores[2].tokens == 0);
  CHECK(document.at("files").as_array().size() == 2);
  same_scores(file_of(document, 0), scores);
  same_scores(file_of(document, 1), scores);
  CHECK(file_of(document, 0).size() == 10);
  CHECK(std::string_view(file_of(document, 1).at("file").as_string()).ends_with("separated.txt"));
  const auto& policy = document.at("policy").as_object();
  CHECK(policy.at("bos").as_bool());
  CHECK(policy.at("bos_id").to_number<int>() == 1);
  CHECK(policy.at("context").to_number<int>() == 24);
  CHECK(policy.at("stride").to_number<int>() == 12);
  CHECK(policy.at("denominator").as_string() == "predicted tokens");
}

TEST_CASE("text without separators: a story a line; blank lines are none") {
  const auto document = scored("--threads 2 --input " + path("lines.out"));
  same_scores(file_of(document, 0), [] {
    auto scores = expected({.bos = true, .bos_id = 1});
    scores.resize(2);
    return scores;
  }());
}

TEST_CASE("--bos, --context, --stride and --transformers-compatible arrive") {
  const std::string input = "--input " + path("shard.json");
  const auto never = scored("--bos never --context 9 --stride 4 " + input);
  same_scores(file_of(never, 0), expected({.context = 9, .stride = 4}));
  CHECK(never.at("policy").at("bos_id").is_null());
  const auto guide = scored("--bos always --context 9 --transformers-compatible " + input);
  same_scores(
      file_of(guide, 0),
      expected({.context = 9, .bos = true, .bos_id = 1, .denominator = evaluate::Denominator::transformers_guide}));
  CHECK(guide.at("policy").at("denominator").as_string() == "transformers guide");
  CHECK(guide.at("policy").at("stride").to_number<int>() == 4);
  for (const auto& [dtype, tolerance] : {std::pair{"bfloat16", 1e-2}, std::pair{"float16", 1.5e-3}}) {
    CAPTURE(dtype);
    const auto rounded = scored(std::string("--dtype ") + dtype + ' ' + input);
    const double ratio = file_of(rounded, 0).at("mean_nll").to_number<double>() /
                         evaluate::summarise(expected({.bos = true, .bos_id = 1})).mean_nll;
    CHECK(ratio != 1.0);
    CHECK(std::abs(ratio - 1.0) < tolerance);
  }
}

TEST_CASE("folders: from text to the perplexity of transformers' guide, with the tokenizer and the BOS of each") {
  const std::filesystem::path reference = std::filesystem::path(STORYLM_TEST_DIR) / "reference";
  const auto document = io::read_json(reference / "perplexity.json").as_object();
  const TemporaryFolder folder;
  std::string text;
  for (const auto& story : document.at("texts").as_array())
    text += (text.empty() ? "" : "<|endoftext|>\n") + std::string(story.as_string().c_str()) + "\n";
  write_bytes(folder / "texts.txt", text);
  const std::string output = " --json '" + (folder / "scores.json").string() + "' --input '" +
                             (folder / "texts.txt").string() + "' --transformers-compatible ";
  for (const std::string name : {"gpt2", "llama", "mistral"}) {
    CAPTURE(name);
    const auto& texts = document.at("models").at(name).at("texts").as_object();
    for (const auto& wanted : texts.at("cases").as_array()) {
      const auto number = [&](const char* key) { return std::to_string(wanted.at(key).to_number<int>()); };
      const Result result = judge("--judge '" + (reference / "hugging_face" / name).string() + "'" + output +
                                  "--context " + number("context") + " --stride " + number("stride"));
      CAPTURE(result.err);
      REQUIRE(result.code == 0);
      const auto scores = io::read_json(folder / "scores.json").as_object();
      CHECK(scores.at("policy").at("bos").as_bool() == texts.at("bos").as_bool());
      CHECK(file_of(scores, 0).at("tokens").to_number<int>() == wanted.at("n_tokens").to_number<int>());
      CHECK(file_of(scores, 0).at("perplexity").to_number<double>() ==
            doctest::Approx(wanted.at("perplexity").to_number<double>()).epsilon(1e-5));
    }
  }
  CHECK(contains(judge("--judge '" + (reference / "hugging_face/gpt2").string() + "'" + output).out, "no BOS"));
}

TEST_CASE("bits per byte are of what is predicted: without BOS, not of the first token") {
  const auto vocabulary = SentencePieceTokenizer::load(made_folder() / "run/bpe.model");
  const auto with = program::judge_story(vocabulary, stories[0], true);
  const auto without = program::judge_story(vocabulary, stories[0], false);
  CHECK(with.ids == without.ids);
  CHECK(with.bytes == static_cast<index_t>(stories[0].size()));
  const std::string first = vocabulary.decode(std::span(with.ids).first(1));
  REQUIRE(!first.empty());
  CHECK(stories[0].starts_with(first));
  CHECK(without.bytes == static_cast<index_t>(stories[0].size() - first.size()));
  CHECK(program::judge_story(vocabulary, "", false).bytes == 0);
}

TEST_CASE("a table and the policy in words; a file without stories has no numbers") {
  const Result result = judge(judge_flag() + "--input " + path("shard.json") + path("nothing.txt"));
  CAPTURE(result.out);
  REQUIRE(result.code == 0);
  CHECK(contains(result.out, "BOS (id 1) before every story"));
  CHECK(contains(result.out, "windows of 24 that advance by 12"));
  CHECK(contains(result.out, "every predicted token"));
  for (const char* name :
       {"stories", "skipped", "tokens", "mean nll", "std error", "perplexity", "over stories", "bits/byte"})
    CHECK(contains(result.out, name));
  CHECK(contains(result.out, "      4        1 "));
  CHECK(contains(result.out, "      0        0          0         -          -           -             -          -"));
  CHECK(contains(result.err, "tokens/s"));
  const auto document = scored("--input " + path("nothing.txt"));
  const auto& nothing = file_of(document, 0);
  for (const char* name : {"mean_nll", "perplexity", "perplexity_over_stories", "bits_per_byte", "standard_error"})
    CHECK(nothing.at(name).is_null());
  CHECK(nothing.at("per_story").as_array().empty());
}

TEST_CASE("bad flags and files end with one clear line and exit code 2") {
  const auto refused = [](const std::string& flags, const std::string& word) {
    CAPTURE(flags);
    const Result result = judge(flags);
    CHECK(result.code == 2);
    CHECK(contains(result.err, word));
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  };
  const std::string input = "--input " + path("shard.json");
  refused(input, "--judge is required");
  refused(judge_flag(), "--input is required");
  refused("--judge /nowhere/model " + input, "/nowhere/model");
  refused(judge_flag() + "--input /nowhere/stories.txt", "/nowhere/stories.txt");
  refused(judge_flag() + "--input " + path("run"), "is a folder, expected a file");
  refused(judge_flag() + "--bos maybe " + input, "--bos must be auto, always or never: maybe");
  refused(judge_flag() + "--context 25 " + input, "context must be in [1, 24]: 25");
  refused(judge_flag() + "--context 8 --stride 9 " + input, "stride must be in [1, 8], the context: 9");
  refused(judge_flag() + "--stride -1 " + input, "must not be negative");
  const TemporaryFolder folder;
  write_bytes(folder / "damaged.json", R"([{"story": "Tom slept."}, {"story")");
  refused(judge_flag() + "--input '" + (folder / "damaged.json").string() + "'", "damaged.json");
}

TEST_CASE("failures while running: exit code 1") {
  const std::string input = judge_flag() + "--input " + path("shard.json");
  const Result full = judge(input, "", "/dev/full");
  CHECK(full.code == 1);
  CHECK(contains(full.err, "cannot write standard output"));
  CHECK(judge(input + "--json /nowhere/scores.json").code == 1);
}

TEST_CASE("a closed pipe costs the table, not the JSON file") {
  const TemporaryFolder folder;
  const std::string command = "{ sleep 0.2; '" STORYLM_BIN_DIR "/judge_stories' " + judge_flag() + "--input " +
                              path("shard.json") + " --json '" + (folder / "scores.json").string() + "' 2> '" +
                              (folder / "err").string() + "'; echo $? > '" + (folder / "code").string() + "'; } | true";
  REQUIRE(std::system(command.c_str()) == 0);
  CHECK(read_bytes(folder / "code") == "1\n");
  CHECK(contains(read_bytes(folder / "err"), "cannot write standard output"));
  REQUIRE(std::filesystem::exists(folder / "scores.json"));
  same_scores(file_of(io::read_json(folder / "scores.json").as_object(), 0), expected({.bos = true, .bos_id = 1}));
}

TEST_CASE("a file's name may be any bytes: JSON and table stay UTF-8 and a line") {
  const TemporaryFolder folder;
  write_bytes(folder / "a\xFF\nb.txt", stories[0]);
  const std::string json = (folder / "scores.json").string();
  const Result result =
      judge(judge_flag() + "--input '" + (folder / "a\xFF\nb.txt").string() + "' --json '" + json + "'");
  REQUIRE(result.code == 0);
  CHECK(contains(result.out, "a\uFFFD\uFFFDb.txt\n"));
  CHECK(contains(read_bytes(json), "a\uFFFD\uFFFDb.txt"));
}

TEST_CASE("shuffle_stories.py sees the stories that judge_stories sees") {
  const TemporaryFolder folder;
  const auto count = [](const std::filesystem::path& file) {
    int found = 0;
    program::for_each_story(file, [&found](std::string_view) { ++found; });
    return found;
  };
  const std::string script = "python3 '" STORYLM_TEST_DIR "/../scripts/shuffle_stories.py' ";
  write_bytes(folder / "lines.txt", "Tom\u2028slept.\r\n\nBen\rsaw\x0C a tree.\nAnna\u0085sang.");
  write_bytes(folder / "separated.txt", read_bytes(made_folder() / "separated.txt"));
  for (const char* name : {"lines.txt", "separated.txt"}) {
    CAPTURE(name);
    const std::string out = (folder / "out").string() + name;
    REQUIRE(std::system((script + "'" + (folder / name).string() + "' '" + out + "'").c_str()) == 0);
    CHECK(count(folder / name) == (name[0] == 'l' ? 3 : 4));
    CHECK(count(out) == count(folder / name));
  }
}

TEST_CASE("SIGINT and SIGTERM end the program cleanly, without a JSON file") {
  const TemporaryFolder folder;
  std::string many;
  for (int i = 0; i < 300000; ++i) many += stories[0] + '\n';
  write_bytes(folder / "many.txt", many);
  std::filesystem::create_directories(folder / "out");
  const std::string flags = judge_flag() + "--input '" + (folder / "many.txt").string() + "' --json '" +
                            (folder / "out/scores.json").string() + "'";
  const Result interrupted = judge(flags, "timeout --preserve-status -s INT 2");
  CHECK(interrupted.code == 130);
  CHECK(contains(interrupted.err, "judge_stories: stopped; the JSON file was not written"));
  CHECK(judge(flags, "timeout --preserve-status -s TERM 2").code == 143);
  CHECK(std::filesystem::is_empty(folder / "out"));
}

TEST_CASE("--help explains every flag") {
  const Result help = judge("--help");
  CHECK(help.code == 0);
  for (const char* flag : {"--judge", "--input", "--stride", "--context", "--bos", "--transformers-compatible",
                           "--tokenizer-path", "--json", "--device", "--dtype", "--threads"})
    CHECK(contains(help.out, flag));
}

}  // namespace
