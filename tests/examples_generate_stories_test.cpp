// SPDX-License-Identifier: MIT
// Runs the program as a user does, on a small random model.
// LINK: io sentencepiece
// TIMEOUT: 300
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <storylm/generate/generator.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/text/byte_level_bpe.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/story_text.hpp"
#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr TransformerConfig config = {
    .vocab_size = 150, .d_model = 32, .d_ff = 64, .n_layers = 2, .n_heads = 1, .max_len = 48, .scale_embedding = true};
using Stack = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

std::vector<std::string> sentences() {
  const std::vector<std::string> who{"Lily", "Ben", "Tom", "Anna", "the big dog", "a small bird", "her mom"};
  const std::vector<std::string> what{"ran home", "played", "slept", "sang", "was happy", "saw a tree", "said hello"};
  std::vector<std::string> all;
  for (std::size_t i = 0; i < 343; ++i)
    all.push_back("Once upon a time, " + who[i % 7] + " " + what[i / 7 % 7] + ". Then " + who[i / 49] + " was glad.");
  return all;
}

SentencePieceTokenizer tokenizer(index_t vocab_size, bool byte_fallback, bool lowercase = false) {
  return train_sentencepiece(sentences(),
                             {.vocab_size = vocab_size, .byte_fallback = byte_fallback, .lowercase = lowercase});
}

Stack random_model() {
  Stack model(config, Cpu({.threads = 1}), {.seed = 5}, nn::Gradients::no);
  auto bias = model.head.bias->to_host();
  for (const std::size_t i : {0U, 1U, 3U}) bias[i] = 5.0F;  // UNK, BOS and PAD would come all the time
  model.head.bias->assign(bias);
  return model;
}

/// A run folder: checkpoint.safetensors and bpe.model.
void write_run(const std::filesystem::path& folder, const SentencePieceTokenizer& vocabulary,
               std::uint64_t tokenizer_hash) {
  std::filesystem::create_directories(folder);
  const Stack model = random_model();
  io::CheckpointWriter writer(io::model_metadata(model, tokenizer_hash));
  io::add_model(writer, model);
  writer.save(folder / "checkpoint.safetensors");
  vocabulary.save(folder / "bpe.model");
}

/// Made once.
const TemporaryFolder& run_folder() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    const auto vocabulary = tokenizer(config.vocab_size, false);
    write_run(folder / "run", vocabulary, vocabulary.hash());
    return true;
  }();
  static_cast<void>(made);
  return folder;
}
std::string checkpoint() {
  return "--checkpoint-path '" + (run_folder() / "run/checkpoint.safetensors").string() + "' ";
}

Result generate(const std::string& flags, const std::string& prefix = "", const std::string& out = "") {
  const TemporaryFolder folder;
  const std::string command = prefix + " '" STORYLM_BIN_DIR "/generate_stories' " + flags + " > '" +
                              (out.empty() ? (folder / "out").string() : out) + "' 2> '" + (folder / "err").string() +
                              "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out.empty() ? read_bytes(folder / "out") : "",
          read_bytes(folder / "err")};
}

/// What the program should print, from the library and the tokenizer's pieces.
std::vector<std::string> expected_lines(const std::string& prompt, const SamplerOptions& sampler, std::uint32_t count,
                                        bool prompt_ends_in_space) {
  const auto vocabulary = SentencePieceTokenizer::load(run_folder() / "run/bpe.model");
  const Stack model = random_model();
  Generator generator(model, 4);
  std::vector<token_t> ids{1};
  for (const token_t id : vocabulary.encode(prompt)) ids.push_back(id);
  std::vector<std::string> lines;
  for (std::uint32_t story = 0; story < count; ++story) {
    const std::vector<GenerateRequest> one{{.prompt = ids, .story = story}};
    const auto written = generator.generate(one, {.sampler = sampler})[0];
    std::string text;
    for (std::size_t i = ids.size(); i < written.ids.size(); ++i) text += vocabulary.piece(written.ids[i]);
    for (std::size_t at = 0; (at = text.find("\u2581", at)) != std::string::npos;) text.replace(at, 3, " ");
    for (std::size_t at = 0; (at = text.find("  ")) != std::string::npos;) text.erase(at, 1);
    if (prompt_ends_in_space && text.starts_with(' ')) text.erase(0, 1);
    lines.push_back(prompt + text);
  }
  return lines;
}

TEST_CASE("stories are lines that begin with the prompt as typed, whatever batch size, threads and quantity") {
  const SamplerOptions sampler{.temperature = 0.9, .top_k = 30, .seed = 7};
  const std::string flags = checkpoint() + "--gen-temperature 0.9 --gen-topk 30 --seed 7 --gen-quantity ";
  const Result five = generate(flags + "5");
  CAPTURE(five.err);
  REQUIRE(five.code == 0);
  CHECK(five.lines() == expected_lines("Once upon a time ", sampler, 5, true));
  const auto lines = five.lines();
  CHECK(std::set<std::string>(lines.begin(), lines.end()).size() > 2);
  CHECK(contains(five.err, "5 stories, "));
  CHECK(contains(five.err, "tokens/s"));
  CHECK(generate(flags + "5 --batch-size 2 --threads 3").out == five.out);
  CHECK(generate(flags + "5 --stream").out == five.out);
  const Result three = generate(flags + "3 --threads 1");
  CHECK(three.lines().size() == 3);
  CHECK(five.out.starts_with(three.out));
  CHECK(generate(flags + "5 --seed 8").code == 2);  // twice
  CHECK(generate(checkpoint() + "--gen-temperature 0.9 --gen-topk 30 --seed 8 --gen-quantity 5").out != five.out);

  const Result bare = generate(flags + "4 --prompt 'Then the big dog'");
  CHECK(bare.lines() == expected_lines("Then the big dog", sampler, 4, false));
  const Result nothing = generate(flags + "4 --prompt ''");
  CHECK(nothing.lines().size() == 4);
  CHECK(!nothing.out.starts_with(' '));
}

TEST_CASE("an output file is complete") {
  const TemporaryFolder folder;
  const std::string flags = checkpoint() + "--gen-quantity 40 --gen-topk 0 --gen-temperature 1 --max-tokens 20";
  const Result printed = generate(flags);
  REQUIRE(printed.code == 0);
  CHECK(printed.lines().size() == 40);
  const Result filed = generate(flags + " --output-file '" + (folder / "stories.txt").string() + "'");
  CHECK(filed.code == 0);
  CHECK(filed.out.empty());
  CHECK(read_bytes(folder / "stories.txt") == printed.out);
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "."), {}) == 1);
}

TEST_CASE("sampling flags reach the sampler") {
  const auto lines = [](const std::string& flags) {
    return generate(checkpoint() + "--gen-quantity 6 " + flags).lines();
  };
  const auto greedy = lines("--gen-temperature 0 --gen-topk 0");
  REQUIRE(greedy.size() == 6);
  CHECK(std::set<std::string>(greedy.begin(), greedy.end()).size() == 1);
  CHECK(lines("--gen-topk 1 --gen-temperature 9") == greedy);
  CHECK(lines("--gen-topk 0 --gen-temperature 9 --gen-minp 1") == greedy);
  CHECK(lines("--gen-topk 0 --gen-temperature 9 --gen-topp 0") == greedy);
  CHECK(lines("--gen-temperature 0 --gen-topk 0 --repetition-penalty 1.5") != greedy);
  const auto weights = lines("--gen-topk 9 --sampling logits-as-weights --gen-temperature 0.1");
  CHECK(lines("--gen-topk 9 --sampling logits-as-weights --gen-temperature 5") == weights);
  CHECK(lines("--gen-topk 9 --gen-temperature 1") != weights);
  CHECK(lines("--gen-topk 9 --sampling inverse-temperature --gen-temperature 0.5") ==
        lines("--gen-topk 9 --gen-temperature 2"));
  const auto short_ones = lines("--max-tokens 12 --gen-topk 0");
  const auto vocabulary = SentencePieceTokenizer::load(run_folder() / "run/bpe.model");
  for (const std::string& line : short_ones) CHECK(vocabulary.encode(line).size() <= 12);
}

TEST_CASE("a tokenizer elsewhere, and one for lower-cased text: the prompt is printed as typed") {
  const TemporaryFolder folder;
  const auto vocabulary = tokenizer(config.vocab_size, false, true);
  write_run(folder / "run", vocabulary, vocabulary.hash());
  const std::string flags =
      "--gen-quantity 4 --gen-topk 9 --checkpoint-path '" + (folder / "run/checkpoint.safetensors").string() + "' ";
  const Result typed = generate(flags + "--prompt 'Once UPON a time '");
  CAPTURE(typed.err);
  REQUIRE(typed.code == 0);
  const auto upper = typed.lines();
  const auto lower = generate(flags + "--prompt 'once upon a time '").lines();
  REQUIRE(upper.size() == 4);
  REQUIRE(lower.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(upper[i].starts_with("Once UPON a time "));
    CHECK(upper[i].substr(17) == lower[i].substr(17));
    CHECK(upper[i].size() > 17);
  }
  std::filesystem::create_directories(folder / "elsewhere");
  for (const char* name : {"bpe.model", "bpe.settings.json"})
    std::filesystem::rename(folder / "run" / name, folder / "elsewhere" / name);
  const Result lost = generate(flags);
  CHECK(lost.code == 2);
  CHECK(contains(lost.err, "--tokenizer-path"));
  const std::string path = "--tokenizer-path '" + (folder / "elsewhere/bpe.model").string() + "' ";
  CHECK(generate(flags + path + "--prompt 'Once UPON a time '").lines() == upper);
}

TEST_CASE("the folder of a run is its best checkpoint") {
  const TemporaryFolder folder;
  const auto vocabulary = tokenizer(config.vocab_size, false);
  write_run(folder / "run", vocabulary, vocabulary.hash());
  std::filesystem::rename(folder / "run/checkpoint.safetensors", folder / "run/checkpoint_best.safetensors");
  const Result result = generate("--gen-quantity 3 --checkpoint-path '" + (folder / "run").string() + "'");
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(result.out == generate(checkpoint() + "--gen-quantity 3").out);
}

TEST_CASE("a tokenizer that is not the checkpoint's: what was expected and what was found") {
  const TemporaryFolder folder;
  const auto vocabulary = tokenizer(config.vocab_size, false);
  write_run(folder / "run", vocabulary, 0x1234);
  const Result result = generate("--checkpoint-path '" + (folder / "run/checkpoint.safetensors").string() + "'");
  CHECK(result.code == 2);
  CHECK(contains(result.err, detail::hash_text(0x1234)));
  CHECK(contains(result.err, detail::hash_text(vocabulary.hash())));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  const auto smaller = tokenizer(140, false);
  write_run(folder / "other", smaller, smaller.hash());
  const Result other = generate("--checkpoint-path '" + (folder / "other/checkpoint.safetensors").string() + "'");
  CHECK(other.code == 2);
  CHECK(contains(other.err, "has 150 tokens"));
  CHECK(contains(other.err, "has 140"));
}

TEST_CASE("bad flags and files end with one clear line and exit code 2") {
  const auto refused = [](const std::string& flags, const std::string& word) {
    CAPTURE(flags);
    const Result result = generate(flags);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(contains(result.err, word));
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  };
  refused("", "--checkpoint-path is required");
  refused("--checkpoint-path /nowhere/checkpoint.safetensors", "/nowhere/checkpoint.safetensors");
  refused("--checkpoint-path '" + (run_folder() / "run/bpe.model").string() + "'", "bpe.model");
  refused(checkpoint() + "--sampling beam", "there is no policy \"beam\"");
  refused(checkpoint() + "--gen-temperature -1", "temperature must be finite and at least 0: -1");
  refused(checkpoint() + "--gen-topk -2", "top_k must be at least 0: -2");
  refused(checkpoint() + "--gen-topp 1.5", "top_p must be between 0 and 1: 1.5");
  refused(checkpoint() + "--gen-minp 2", "min_p must be between 0 and 1: 2");
  refused(checkpoint() + "--repetition-penalty 0", "repetition_penalty must be finite and greater than 0: 0");
  refused(checkpoint() + "--gen-quantity 0", "--gen-quantity must be in [1, ");
  refused(checkpoint() + "--batch-size 0", "--batch-size must be in [1, ");
  refused(checkpoint() + "--max-tokens 49", "--max-tokens must be in [1, 48]: 49");
  refused(checkpoint() + "--max-tokens 3", "with it the story may have 3");
  refused(checkpoint() + "--prompt \"$(printf 'Then the big dog ran home. %.0s' 1 2 3 4 5 6 7 8 9)\"", "max_len is 48");
  refused(checkpoint() + "--prompt \"$(printf 'a\\nb')\"", "it must be one line");
  const bool has_cuda = contains(generate("--help").out, "this build has cpu and cuda");
  if (!has_cuda) refused(checkpoint() + "--device cuda", "device cuda is not built in");
  refused(checkpoint() + "--dtype float64", "is not built in: this build has float32, bfloat16 and float16");
  refused(checkpoint() + "--stream --output-file x", "excludes");
}

TEST_CASE("failures while running: exit code 1 and no output file") {
  const Result full = generate(checkpoint() + "--gen-quantity 3", "", "/dev/full");
  CHECK(full.code == 1);
  CHECK(contains(full.err, "cannot write standard output"));
  const TemporaryFolder folder;
  const Result result =
      generate(checkpoint() + "--gen-quantity 3 --output-file '" + (folder / "no/such/folder").string() + "'");
  CHECK(result.code == 1);
  CHECK(contains(result.err, "no/such/folder"));
}

TEST_CASE("SIGINT and SIGTERM end the program cleanly, without an output file") {
  const TemporaryFolder folder;
  const std::string flags =
      checkpoint() + "--gen-quantity 300000 --output-file '" + (folder / "stories.txt").string() + "'";
  // timeout sends its signal twice, to the program and to the group it is in.
  const Result interrupted = generate(flags, "timeout --preserve-status -s INT 2");
  CHECK(interrupted.code == 130);
  CHECK(contains(interrupted.err, "generate_stories: stopped; the output file was not written"));
  CHECK(generate(flags, "timeout --preserve-status -s TERM 2").code == 143);
  CHECK(std::filesystem::is_empty(folder / "."));
}

TEST_CASE("--help explains every flag") {
  const Result help = generate("--help");
  CHECK(help.code == 0);
  for (const char* flag :
       {"--checkpoint-path", "--tokenizer-path", "--prompt", "--gen-topk", "--gen-temperature", "--gen-quantity",
        "--output-file", "--max-tokens", "--gen-topp", "--gen-minp", "--repetition-penalty", "--sampling", "--seed",
        "--stream", "--batch-size", "--device", "--dtype", "--threads"})
    CHECK(contains(help.out, flag));
}

TEST_CASE("text grows by whole characters, spelt in bytes or not, and ends as the line") {
  const auto vocabulary = tokenizer(330, true);
  const program::StoryText text(vocabulary, std::string("Once  upon "));
  CHECK(text.prompt_ids().front() == 1);
  std::vector<token_t> ids = text.prompt_ids();
  for (const token_t id : vocabulary.encode("a dragon \u9F8D, a caf\u00E9 \U0001F409!")) ids.push_back(id);
  CHECK(ids.size() > 20);  // four of the characters are spelt in bytes
  CHECK(text.line(ids) == "Once  upon a dragon \u9F8D, a caf\u00E9 \U0001F409!");
  program::GrowingText growing;
  std::string grown;
  for (std::size_t n = text.prompt_ids().size(); n <= ids.size(); ++n) {
    const std::string line = text.line(std::span(ids).first(n));
    grown += growing.grow(line, n == ids.size());
    CHECK(grown.find("\uFFFD") == std::string::npos);
  }
  CHECK(grown == text.line(ids));
  ids.push_back(4 + 0xE9);  // a byte that begins a character which never comes
  program::GrowingText broken;
  CHECK(broken.grow(text.line(ids), false) == grown);
  CHECK(broken.grow(text.line(ids), true) == "\uFFFD");
}

TEST_CASE("whitespace and control characters of a continuation become one space; those of the prompt stay") {
  const auto vocabulary = tokenizer(330, true);
  const auto byte = [](int value) { return static_cast<token_t>(4 + value); };
  const auto line = [&](const std::string& prompt, const std::vector<int>& bytes) {
    const program::StoryText text(vocabulary, prompt);
    std::vector<token_t> ids = text.prompt_ids();
    for (const int value : bytes) ids.push_back(byte(value));
    return text.line(ids);
  };
  CHECK(line("Lily  and", {'\n', '\t', ' ', 'b', '\r', '\n', 'c', 0x1B, 0, 'd'}) == "Lily  and b c d");
  CHECK(line("Lily and\t", {'\n', ' ', 'b'}) == "Lily and\tb");
  CHECK(line("Lily and ", {'b', 0xE2, 0x80, 0xA8, 0xC2, 0x85, 'c', ' '}) == "Lily and b c ");
  CHECK(line("", {'b'}) == "b");
  CHECK(line(" ", {}) == " ");
  CHECK_THROWS_AS(line("two\nlines", {}), ArgumentError);
}

/// Byte-level BPE without merges: ids are bytes. Then comes a token that begins and ends texts, or none.
ByteLevelBpe bytes(bool has_bos = true) {
  BytePairs pairs;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    detail::append_utf8(token, detail::byte_alphabet()[static_cast<std::size_t>(byte)]);
    pairs.vocabulary.emplace_back(token, byte);
  }
  if (has_bos) pairs.vocabulary.emplace_back("<|endoftext|>", 256);
  return ByteLevelBpe(pairs, {.bos = has_bos ? 256 : -1, .eos = has_bos ? 256 : -1});
}

/// The line of a prompt and of bytes that a model adds to it.
std::string line_of_bytes(const std::string& prompt, std::string_view more) {
  const program::StoryText text(bytes(), prompt, false);
  std::vector<token_t> ids = text.prompt_ids();
  for (const char c : more) ids.push_back(static_cast<unsigned char>(c));
  return text.line(ids);
}

TEST_CASE("byte-level BPE: spaces at the end of the prompt are tokens, and a continuation is appended as it is") {
  const program::StoryText text(bytes(), std::string("Lily said "), false);
  CHECK(text.prompt_ids() == bytes().encode("Lily said "));
  CHECK(text.prompt_ids().back() == ' ');
  CHECK(text.ends_in_space_token());
  CHECK(!program::StoryText(bytes(), std::string("Lily said"), false).ends_in_space_token());
  CHECK(!program::StoryText(tokenizer(330, true), std::string("Lily said ")).ends_in_space_token());
  CHECK(line_of_bytes("Lily", "'s mom") == "Lily's mom");
  CHECK(line_of_bytes("Lily", " ran\n\n\thome ") == "Lily ran home ");
  CHECK(line_of_bytes("Lily  said ", "hi") == "Lily  said hi");
  CHECK(line_of_bytes("Lily  said ", " hi") == "Lily  said hi");
  CHECK(line_of_bytes("a caf\u00E9", " \u9F8D") == "a caf\u00E9 \u9F8D");
}

TEST_CASE("BOS begins a prompt where the model was trained so, and stands for an empty one anyway") {
  CHECK(program::StoryText(bytes(), std::string("a"), true).prompt_ids() == std::vector<token_t>{256, 'a'});
  CHECK(program::StoryText(bytes(), std::string("a"), false).prompt_ids() == std::vector<token_t>{'a'});
  const program::StoryText nothing(bytes(), std::string(), false);
  CHECK(nothing.prompt_ids() == std::vector<token_t>{256});
  CHECK(nothing.line(std::vector<token_t>{256, 'a'}) == "a");
  CHECK(program::StoryText(bytes(false), std::string("a"), true).prompt_ids() == std::vector<token_t>{'a'});
  CHECK_THROWS_WITH_AS(program::StoryText(bytes(false), std::string(), false),
                       "[prompt] it has no tokens, and the tokenizer has no BOS to begin with instead: give a word",
                       ArgumentError);
}

TEST_CASE("characters of several tokens are shown when they are whole; bytes that are not UTF-8 are U+FFFD") {
  const program::StoryText text(bytes(), std::string("A "), false);
  const std::string more = "caf\u00E9 \u9F8D \U0001F409!";
  std::vector<token_t> ids = text.prompt_ids();
  program::GrowingText growing;
  std::string grown;
  std::vector<std::string> parts;
  for (const char c : more) {
    ids.push_back(static_cast<unsigned char>(c));
    parts.emplace_back(growing.grow(text.line(ids), false));
    grown += parts.back();
    CHECK(grown.find("\uFFFD") == std::string::npos);
  }
  CHECK(grown == "A " + more);
  CHECK(parts == std::vector<std::string>{"A c", "a", "f", "", "\u00E9", " ", "", "", "\u9F8D", " ", "", "", "",
                                          "\U0001F409", "!"});
  // As Unicode recommends (3.9, "Best Practices for Using U+FFFD"), and Python and Rust do it.
  CHECK(line_of_bytes("A", "\xFF") == "A\uFFFD");
  CHECK(line_of_bytes("A", "\xE9\xBEx") == "A\uFFFDx");
  CHECK(line_of_bytes("A", "\xF0\x9F\x90\xE9\xBE") == "A\uFFFD\uFFFD");
  CHECK(line_of_bytes("A", "\xED\xA0\x80\xC0\x80") == "A\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  CHECK(line_of_bytes("A", "\xF4\x90\x80\x80\xF4\x8F\xBF\xBF") == "A\uFFFD\uFFFD\uFFFD\uFFFD\U0010FFFF");
  CHECK(line_of_bytes("A", "\xE0\x9F\xBF\xE0\xA0\x80") == "A\uFFFD\uFFFD\uFFFD\u0800");
}

}  // namespace
