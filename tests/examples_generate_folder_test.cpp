// SPDX-License-Identifier: MIT
// generate_stories with Hugging Face folders, against the tokens that transformers draws from them.
// LINK: io sentencepiece
// PROGRAMS: generate_stories
// TIMEOUT: 300
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <doctest/doctest.h>

#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/model_source.hpp"
#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

const std::filesystem::path references = std::filesystem::path(STORYLM_TEST_DIR) / "reference/hugging_face";
constexpr std::size_t prompt_tokens = 8;

Result generate(const std::filesystem::path& model, const std::vector<std::string>& flags) {
  const TemporaryFolder folder;
  std::vector<std::string> arguments{STORYLM_BIN_DIR "/generate_stories", "--checkpoint-path", model.string()};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  Process process(arguments, folder / "out", folder / "err");
  const int code = process.wait();
  return {code, read_bytes(folder / "out"), read_bytes(folder / "err")};
}

/// The most likely tokens after the first eight, those with ids 0 to 2 left out, as transformers draws them.
std::vector<token_t> greedy_ids(const std::string& name) {
  return io::SafetensorsFile(references / (name + ".safetensors")).read<token_t>("greedy", Shape{208});
}

/// A spelling for each of 512 ids: the first eight of the text are letters, which a prompt can name; other ids of the
/// text are "[their number]"; bytes are those that do not occur there, three special tokens aside.
std::vector<std::string> spellings(const std::vector<token_t>& text) {
  std::vector<std::string> spelt(512);
  spelt[0] = "<s>";
  spelt[1] = "<pad>";
  spelt[2] = "<unk>";
  std::set<char> letters;
  for (std::size_t i = 0; i < prompt_tokens; ++i) {
    std::string& letter = spelt[static_cast<std::size_t>(text[i])];
    if (!letter.empty()) continue;
    letter = std::string(1, static_cast<char>('a' + letters.size()));
    letters.insert(letter.front());
  }
  for (const token_t id : text)
    if (std::string& name = spelt[static_cast<std::size_t>(id)]; name.empty()) name = "[" + std::to_string(id) + "]";
  int byte = 0;
  for (std::size_t id = 0; id < spelt.size(); ++id) {
    while (byte < 256 && letters.contains(static_cast<char>(byte))) ++byte;
    if (!spelt[id].empty()) continue;
    spelt[id] = byte < 256 ? std::string(1, static_cast<char>(byte++)) : "[" + std::to_string(id) + "]";
  }
  REQUIRE(byte == 256);
  return spelt;
}
std::string text_of(const std::vector<std::string>& spelt, std::span<const token_t> ids) {
  std::string text;
  for (const token_t id : ids) text += spelt[static_cast<std::size_t>(id)];
  return text;
}

void write_json(const std::filesystem::path& path, const boost::json::value& value) {
  write_bytes(path, io::json_text(value));
}
/// Changes one field of a JSON file.
void set_field(const std::filesystem::path& path, const char* key, const boost::json::value& value) {
  boost::json::object object = io::as_object(io::read_json(path), path.string());
  object[key] = value;
  write_json(path, object);
}

/// Config and weights of a reference folder, without its tokenizer.
void copy_model(const std::string& name, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const auto& file : std::filesystem::directory_iterator(references / name)) {
    const std::string file_name = file.path().filename().string();
    if (file_name.starts_with("model") || file_name == "config.json" || file_name == "generation_config.json")
      std::filesystem::copy(file.path(), folder / file_name);
  }
}

/// A reference folder in which nothing ends a text, with those spellings as its vocabulary.
void write_folder(const std::filesystem::path& folder, const std::string& name, const std::vector<std::string>& spelt) {
  copy_model(name, folder);
  for (const char* file : {"config.json", "generation_config.json"}) set_field(folder / file, "eos_token_id", nullptr);
  boost::json::object vocabulary;
  for (std::size_t id = 0; id < spelt.size(); ++id) {
    std::string token = spelt[id];
    if (token.size() == 1) {
      const auto byte = static_cast<unsigned char>(token.front());
      token.clear();
      detail::append_utf8(token, detail::byte_alphabet()[byte]);
    }
    vocabulary[token] = id;
  }
  write_json(folder / "vocab.json", vocabulary);
  write_bytes(folder / "merges.txt", "#version: 0.2\n");
  write_json(folder / "tokenizer_config.json",
             {{"bos_token", "<s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}, {"add_bos_token", false}});
}

/// Flags for one story of the reference: the most likely token each time.
std::vector<std::string> greedy(const std::string& prompt, const std::vector<std::string>& more = {}) {
  std::vector<std::string> flags{"--prompt", prompt, "--gen-topk", "1", "--gen-quantity", "1"};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

/// The folder of a family, made once, its text and how that is spelt.
struct Family {
  TemporaryFolder parent;
  std::filesystem::path folder;
  std::vector<token_t> ids;
  std::vector<std::string> spelt;
  std::string prompt;

  explicit Family(const std::string& name)
      : folder(parent / name),
        ids(greedy_ids(name)),
        spelt(spellings(ids)),
        prompt(text_of(spelt, std::span(ids).first(prompt_tokens))) {
    write_folder(folder, name, spelt);
  }
  static const Family& gpt2() {
    static const Family family("gpt2");
    return family;
  }
};

TEST_CASE("the most likely story of a folder is the one that transformers writes, beyond Mistral's window") {
  for (const char* name : {"gpt2", "llama", "mistral"}) {
    CAPTURE(name);
    const Family family(name);
    const Result result = generate(family.folder, greedy(family.prompt, {"--max-tokens", "208"}));
    CAPTURE(result.err);
    REQUIRE(result.code == 0);
    CHECK(result.out == text_of(family.spelt, family.ids) + "\n");
    CHECK(contains(result.err, "1 story, 200 tokens"));
  }
}

TEST_CASE("in other batches, as a stream and in bfloat16 too") {
  const Family& family = Family::gpt2();
  const std::vector<std::string> flags{"--prompt", family.prompt, "--gen-topk",        "9",  "--gen-quantity", "3",
                                       "--seed",   "5",           "--gen-temperature", "1.5"};
  const Result three = generate(family.folder, flags);
  CAPTURE(three.err);
  REQUIRE(three.code == 0);
  const auto lines = three.lines();
  CHECK(std::set<std::string>(lines.begin(), lines.end()).size() == 3);
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--batch-size", "2"}, {"--stream"}, {"--threads", "2"}}) {
    auto with = flags;
    with.insert(with.end(), more.begin(), more.end());
    CHECK(generate(family.folder, with).out == three.out);
  }
  const Result narrow = generate(family.folder, greedy(family.prompt, {"--dtype", "bfloat16", "--max-tokens", "30"}));
  CAPTURE(narrow.err);
  REQUIRE(narrow.code == 0);
  REQUIRE(narrow.lines().size() == 1);
  CHECK(narrow.lines()[0].starts_with(text_of(family.spelt, std::span(family.ids).first(prompt_tokens + 1))));
}

TEST_CASE("a folder's stories have up to 256 tokens unless more are asked for") {
  const Family& family = Family::gpt2();
  const auto story = [&](const std::vector<std::string>& flags) {
    const Result result = generate(family.folder, greedy(family.prompt, flags));
    CAPTURE(result.err);
    CHECK(result.code == 0);
    return result.err.substr(result.err.find("1 story"));
  };
  CHECK(contains(story({}), "1 story, 248 tokens"));
  CHECK(contains(story({"--max-tokens", "320"}), "1 story, 312 tokens"));
  const Result refused = generate(family.folder, greedy(family.prompt, {"--max-tokens", "321"}));
  CHECK(refused.code == 2);
  CHECK(contains(refused.err, "--max-tokens must be in [1, 320]: 321"));
}

TEST_CASE("a story ends by every EOS of config.json and generation_config.json, and where a turn ends") {
  const Family& family = Family::gpt2();
  const auto expected = [&](std::size_t tokens) {
    return text_of(family.spelt, std::span(family.ids).first(tokens)) + "\n";
  };
  /// Where an id comes first in the continuation.
  const auto first = [&](token_t id) {
    const auto begin = family.ids.begin() + prompt_tokens;
    return static_cast<std::size_t>(std::find(begin, family.ids.end(), id) - family.ids.begin());
  };
  /// A token that the continuation has for the first time there, or later: not one of the prompt's letters.
  const auto new_at = [&](std::size_t at) {
    const auto old = [&](std::size_t i) {
      return std::find(family.ids.begin(), family.ids.begin() + static_cast<std::ptrdiff_t>(i), family.ids[i]) !=
             family.ids.begin() + static_cast<std::ptrdiff_t>(i);
    };
    while (old(at)) ++at;
    return family.ids[at];
  };
  const token_t early = new_at(prompt_tokens + 3);
  const token_t late = new_at(first(early) + 1);
  const TemporaryFolder parent;
  const std::filesystem::path folder = parent / "ends";
  std::filesystem::copy(family.folder, folder, std::filesystem::copy_options::recursive);

  set_field(folder / "config.json", "eos_token_id", late);
  CHECK(generate(folder, greedy(family.prompt)).out == expected(first(late)));
  set_field(folder / "generation_config.json", "eos_token_id", boost::json::array{late, early});
  CHECK(generate(folder, greedy(family.prompt)).out == expected(first(early)));

  for (const char* file : {"config.json", "generation_config.json"}) set_field(folder / file, "eos_token_id", nullptr);
  boost::json::object vocabulary = io::as_object(io::read_json(folder / "vocab.json"), "vocab.json");
  vocabulary.erase(family.spelt[static_cast<std::size_t>(late)]);
  write_json(folder / "vocab.json", vocabulary);
  const boost::json::object end{{"content", "<|im_end|>"}, {"special", true}};
  set_field(folder / "tokenizer_config.json", "added_tokens_decoder", boost::json::object{{std::to_string(late), end}});
  const Result turn = generate(folder, greedy(family.prompt));
  CAPTURE(turn.err);
  CHECK(turn.out == expected(first(late)));
}

TEST_CASE("an empty prompt is BOS; a space at the end of a prompt is kept, and said to be a token") {
  const Family& family = Family::gpt2();
  const Result nothing = generate(family.folder, greedy("", {"--max-tokens", "20"}));
  CAPTURE(nothing.err);
  REQUIRE(nothing.code == 0);
  CHECK(contains(nothing.err, "1 story, 19 tokens"));
  const Result spaced = generate(family.folder, greedy(family.prompt + " ", {"--max-tokens", "20"}));
  CHECK(spaced.code == 0);
  CHECK(contains(spaced.err, "1 story, 11 tokens"));  // of 20, eight and the space are the prompt's
  CHECK(contains(spaced.err, "is a token of its own"));
  CHECK(spaced.out.starts_with(family.prompt + " "));
  CHECK(generate(family.folder, greedy(family.prompt, {"--max-tokens", "20"})).err.find("token of its own") ==
        std::string::npos);
}

/// Llama's reference folder with a SentencePiece model of 150 tokens and one token added.
void write_sentencepiece_folder(const std::filesystem::path& folder, const boost::json::object& tokenizer_config) {
  copy_model("llama", folder);
  std::vector<std::string> sentences;
  const std::vector<std::string> who{"Lily", "Ben", "Tom", "Anna", "the big dog", "a small bird", "her mom"};
  const std::vector<std::string> what{"ran home", "played", "slept", "sang", "was happy", "saw a tree", "said hello"};
  for (std::size_t i = 0; i < 343; ++i) {
    sentences.push_back("Once upon a time, " + who[i % 7] + " " + what[i / 7 % 7] + ". Then " + who[i / 49] +
                        " was glad.");
  }
  train_sentencepiece(sentences, {.vocab_size = 150, .byte_fallback = false}).save(folder / "tokenizer.model");
  write_json(folder / "tokenizer_config.json", tokenizer_config);
  write_json(folder / "added_tokens.json", boost::json::object{{"<|end_of_turn|>", 150}, {"<|im_start|>", 151}});
}

TEST_CASE("SentencePiece: BOS as the folder says; ids that the tokenizer does not have are never drawn") {
  const TemporaryFolder parent;
  write_sentencepiece_folder(parent / "usual", {{"additional_special_tokens", {"<|end_of_turn|>", "<|im_start|>"}}});
  const std::vector<std::string> flags{"--gen-quantity",    "20", "--gen-topk", "0",
                                       "--gen-temperature", "3",  "--seed",     "9"};
  const Result all = generate(parent / "usual", flags);
  CAPTURE(all.err);
  REQUIRE(all.code == 0);  // a token from beyond the vocabulary could not be decoded
  CHECK(all.lines().size() == 20);
  for (const std::string& line : all.lines()) CHECK(line.starts_with("Once upon a time "));

  std::filesystem::copy(parent / "usual", parent / "without", std::filesystem::copy_options::recursive);
  set_field(parent / "without/tokenizer_config.json", "add_bos_token", false);
  const Result without = generate(parent / "without", flags);
  CHECK(without.code == 0);
  CHECK(without.out != all.out);
  CHECK(generate(parent / "without", {"--tokenizer-path", (parent / "usual").string(), "--gen-quantity", "20",
                                      "--gen-topk", "0", "--gen-temperature", "3", "--seed", "9"})
            .out == all.out);

  const program::ModelSource source(parent / "usual");
  const LoadedTokenizer loaded = source.tokenizer();
  CHECK(loaded.adds_bos);
  CHECK(loaded.tokenizer.vocab_size() == 152);
  const GenerateOptions options = source.generate_options(loaded.tokenizer, {.top_k = 4});
  CHECK(options.sampler.top_k == 4);
  CHECK(options.ends(2));
  CHECK(options.ends(150));
  CHECK(!options.ends(1));
  const std::set<token_t> banned(options.banned.begin(), options.banned.end());
  CHECK(banned.size() == options.banned.size());
  // Beyond UNK, BOS, PAD and ids without a token: 151, which begins what someone says.
  for (const token_t id : {0, 1, 3, 151, 152, 400, 511}) CHECK(banned.contains(id));
  for (const token_t id : {2, 4, 149, 150}) CHECK(!banned.contains(id));
}

TEST_CASE("what is no model, or has no tokenizer that fits, is refused with a word about what to do") {
  const TemporaryFolder parent;
  const auto refused = [](const std::filesystem::path& model, const std::vector<std::string>& words,
                          const std::vector<std::string>& flags = {}) {
    const Result result = generate(model, flags);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    for (const std::string& word : words) CHECK(contains(result.err, word));
  };
  const Family& family = Family::gpt2();
  copy_model("gpt2", parent / "alone");
  refused(parent / "alone", {"holds no tokenizer", "vocab.json and merges.txt"});
  refused(family.folder / "model.safetensors", {"is a part of a Hugging Face folder: give the folder", "gpt2"});
  refused(family.folder / "config.json", {"is a part of a Hugging Face folder"});
  std::filesystem::create_directories(parent / "empty");
  refused(parent / "empty", {"neither a Hugging Face folder", "no config.json", "no checkpoint_best.safetensors"});
  write_bytes(parent / "empty/checkpoint_last.safetensors", "x");
  refused(parent / "empty", {"give its checkpoint_last.safetensors"});

  const std::filesystem::path large = parent / "large";
  std::filesystem::copy(family.folder, large, std::filesystem::copy_options::recursive);
  boost::json::object vocabulary = io::as_object(io::read_json(large / "vocab.json"), "vocab.json");
  vocabulary["one more"] = 512;
  write_json(large / "vocab.json", vocabulary);
  refused(large, {"has 512 tokens, but", "has 513"});
  std::filesystem::copy(family.folder, parent / "broken", std::filesystem::copy_options::recursive);
  set_field(parent / "broken/config.json", "activation_function", "tanh");
  refused(parent / "broken", {"\"activation_function\" is \"tanh\""});
}

TEST_CASE("a model that does not fit into memory is refused before it is tried, with the numbers and what helps") {
  const auto message = [](const program::MemoryNeeds& needs, double available) {
    return error_of<ArgumentError>([&] { program::expects_memory(needs, available); });
  };
  const program::MemoryNeeds seven_billion{
      .weights = 7.24e9, .dtype = "float32", .weight_bytes = 4.0, .more = 0.0, .what = {}};
  CHECK(message(seven_billion, 29e9).empty());
  CHECK(message(seven_billion, 24e9) ==
        "[program] the model does not fit into memory: in float32 its 7.24 billion weights take 29.0 GB, but this "
        "machine has 24.0 GB; with --dtype bfloat16 it takes 14.5 GB");
  CHECK(message(seven_billion, 14e9).find("with --dtype") == std::string::npos);
  program::MemoryNeeds narrow = seven_billion;
  narrow.dtype = "bfloat16";
  narrow.weight_bytes = 2.0;
  CHECK(message(narrow, 24e9).empty());
  narrow.more = 12e9;
  narrow.what = "for keys and values (--batch-size)";
  CHECK(message(narrow, 24e9) ==
        "[program] the model does not fit into memory: in bfloat16 its 7.24 billion weights take 14.5 GB, and 12.0 GB "
        "more for keys and values (--batch-size), but this machine has 24.0 GB");
  CHECK(program::memory_of_machine() > 1e8);

  // A folder of a model that is one and a half times as large as this machine's memory: a file of zeros without blocks.
  constexpr std::int64_t width = 4096;
  constexpr std::int64_t hidden = 14336;
  constexpr std::int64_t block = 4 * width * width + 3 * width * hidden;
  const auto layers = static_cast<std::int64_t>(1.5 * program::memory_of_machine() / 4.0 / block);
  const TemporaryFolder parent;
  const std::filesystem::path folder = parent / "huge";
  std::filesystem::create_directories(folder);
  boost::json::object header;
  std::int64_t end = 0;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t size = 2;
    for (const std::int64_t extent : shape) size *= extent;
    header[name] = {{"dtype", "BF16"}, {"shape", boost::json::value_from(shape)}, {"data_offsets", {end, end + size}}};
    end += size;
  };
  add("model.embed_tokens.weight", {512, width});
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + '.';
    for (const char* part : {"q", "k", "v", "o"}) add(name + "self_attn." + part + "_proj.weight", {width, width});
    for (const char* part : {"gate", "up"}) add(name + "mlp." + part + "_proj.weight", {hidden, width});
    add(name + "mlp.down_proj.weight", {width, hidden});
    for (const char* part : {"input", "post_attention"}) add(name + part + "_layernorm.weight", {width});
  }
  add("model.norm.weight", {width});
  const std::string beginning = with_length(io::json_text(header));
  write_bytes(folder / "model.safetensors", beginning);
  std::filesystem::resize_file(folder / "model.safetensors", beginning.size() + static_cast<std::size_t>(end));
  write_json(folder / "config.json", {{"architectures", {"LlamaForCausalLM"}},
                                      {"model_type", "llama"},
                                      {"hidden_size", width},
                                      {"intermediate_size", hidden},
                                      {"num_hidden_layers", layers},
                                      {"num_attention_heads", 32},
                                      {"vocab_size", 512},
                                      {"tie_word_embeddings", true}});
  const std::string tokenizer = Family::gpt2().folder.string();
  const Result result = generate(folder, {"--tokenizer-path", tokenizer, "--prompt", "a"});
  CAPTURE(result.err);
  CHECK(result.code == 2);
  CHECK(contains(result.err, "the model does not fit into memory: in float32 its "));
  CHECK(contains(result.err, "keys and values of 32 stories of 256 tokens (--batch-size, --max-tokens)"));
}

}  // namespace
