// SPDX-License-Identifier: MIT
// LINK: io
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/json.hpp>
#include <storylm/io/tokenizer_files.hpp>

#include "io_support.hpp"
#include "tokenizer_support.hpp"

using namespace storylm;
using namespace storylm::test;
namespace json = boost::json;

namespace {

std::filesystem::path gpt2_json() { return reference_folder() / "hugging_face/gpt2/tokenizer.json"; }
std::filesystem::path gpt2_files() { return reference_folder() / "tokenizers/gpt2_files"; }

const json::object& gpt2() {
  static const json::value document = io::read_json(gpt2_json());
  return document.get_object();
}

/// The message that the small GPT-2's tokenizer.json gives, changed by `change`; "" when it is read.
std::string refused(const std::function<void(json::object&)>& change) {
  const TemporaryFolder folder;
  json::object document = gpt2();
  change(document);
  write_bytes(folder / "tokenizer.json", io::json_text(document));
  std::string message = error_of([&] {
    const io::ByteLevelBpeFile file = io::byte_level_bpe_of(io::read_tokenizer_json(folder / "tokenizer.json"));
    (void)ByteLevelBpe(file.pairs, file.options);
  });
  if (!message.empty()) CHECK(contains(message, (folder / "tokenizer.json").string() + ": "));
  return message;
}
/// The same, one field of a part of it changed.
std::string refused_field(std::string_view part, std::string_view field, const json::value& value) {
  return refused([&](json::object& document) {
    (part.empty() ? document : document[{part.data(), part.size()}].as_object())[{field.data(), field.size()}] = value;
  });
}

}  // namespace

TEST_CASE("tokenizer.json and vocab.json with merges.txt are the same tokenizer") {
  const io::TokenizerJson whole = io::read_tokenizer_json(gpt2_json());
  const io::ByteLevelBpeFile one = io::byte_level_bpe_of(whole);
  const io::ByteLevelBpeFile two = io::read_vocab_and_merges(gpt2_files() / "vocab.json", gpt2_files() / "merges.txt");
  CHECK(one.pairs.vocabulary.size() == 512);
  CHECK(one.pairs.merges == two.pairs.merges);
  CHECK(ByteLevelBpe(one.pairs, one.options).hash() == ByteLevelBpe(two.pairs, two.options).hash());
  CHECK(two.pairs.lines.front() == 2);
  REQUIRE(whole.added.size() == 1);
  CHECK(whole.added[0].text == "<|endoftext|>");
  CHECK(whole.added[0].id == 0);
  CHECK(whole.added[0].special);
  CHECK(whole.adds_bos == false);
  CHECK(whole.adds_eos == false);
  // Merges as older files have them.
  std::size_t merges = 0;
  CHECK(refused([&](json::object& document) {
          for (json::value& merge : document["model"].as_object()["merges"].as_array()) {
            merge = std::string(merge.as_array()[0].as_string()) + ' ' + std::string(merge.as_array()[1].as_string());
            ++merges;
          }
          document["model"].as_object().erase("type");
          document["model"].as_object().erase("byte_fallback");
          document["model"].as_object().erase("ignore_merges");
          document["pre_tokenizer"].as_object().erase("use_regex");
        }) == "");
  CHECK(merges == one.pairs.merges.size());
}

TEST_CASE("what a tokenizer.json asks for is done") {
  const TemporaryFolder folder;
  json::object document = gpt2();
  document["pre_tokenizer"].as_object()["add_prefix_space"] = true;
  document["pre_tokenizer"].as_object()["use_regex"] = false;
  document["pre_tokenizer"] =
      json::object{{"type", "Sequence"}, {"pretokenizers", json::array{document["pre_tokenizer"]}}};
  document["normalizer"] = json::object{{"type", "Sequence"}, {"normalizers", json::array{}}};
  document["model"].as_object()["ignore_merges"] = true;
  document["model"].as_object()["unk_token"] = "<|endoftext|>";
  document["model"].as_object()["dropout"] = 0.0;
  document["post_processor"] = json::parse(
      R"({"type": "Sequence", "processors": [{"type": "ByteLevel", "trim_offsets": true}, {"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": [], "special_tokens": {}}]})");
  document["added_tokens"].as_array().push_back(json::parse(
      R"({"id": 600, "content": "<x>", "lstrip": true, "rstrip": true, "normalized": true, "special": false})"));
  write_bytes(folder / "tokenizer.json", io::json_text(document));
  const io::TokenizerJson whole = io::read_tokenizer_json(folder / "tokenizer.json");
  const io::ByteLevelBpeFile file = io::byte_level_bpe_of(whole);
  CHECK(file.options.add_prefix_space);
  CHECK(!file.options.use_regex);
  CHECK(file.options.ignore_merges);
  CHECK(whole.adds_bos == true);
  CHECK(whole.adds_eos == true);
  REQUIRE(whole.added.size() == 2);
  CHECK(whole.added[1].id == 600);
  CHECK(whole.added[1].left_strip);
  CHECK(whole.added[1].right_strip);
  CHECK(whole.added[1].normalized);
  CHECK(!whole.added[1].special);
  document["post_processor"] = nullptr;
  write_bytes(folder / "tokenizer.json", io::json_text(document));
  CHECK(!io::read_tokenizer_json(folder / "tokenizer.json").adds_bos.has_value());
}

TEST_CASE("how a caller once cut and filled up texts is no part of the tokenizer") {
  CHECK(refused_field("", "truncation", json::object{{"max_length", 5}}) == "");
  CHECK(refused_field("", "padding", json::object{{"pad_id", 0}}) == "");
}

TEST_CASE("what is not done is refused by its name") {
  CHECK(refused([](json::object&) {}) == "");
  CHECK(contains(refused_field("", "version", "2.0"), "\"version\" is \"2.0\", expected \"1.0\""));
  CHECK(contains(refused_field("", "surprise", 1), "it has \"surprise\", which is not known"));
  CHECK(contains(refused_field("", "normalizer", json::object{{"type", "NFC"}}), "the normalizer \"NFC\""));
  CHECK(contains(refused_field("", "decoder", json::object{{"type", "WordPiece"}}), "the decoder \"WordPiece\""));
  CHECK(contains(refused_field("", "decoder", nullptr), "1 pre-tokenizers and 0 decoders"));
  CHECK(contains(refused_field("", "pre_tokenizer", nullptr), "0 pre-tokenizers and 1 decoders"));
  CHECK(contains(refused_field("", "pre_tokenizer", json::object{{"type", "Whitespace"}}),
                 "the pre-tokenizer \"Whitespace\""));
  CHECK(contains(refused([](json::object& document) {  // as Llama 3's
                   document["pre_tokenizer"] = json::object{
                       {"type", "Sequence"},
                       {"pretokenizers", json::array{json::object{{"type", "Split"}}, document["pre_tokenizer"]}}};
                 }),
                 "the pre-tokenizer \"Split\" is not supported"));
  CHECK(contains(refused_field("pre_tokenizer", "behaviour", 1), "the pre-tokenizer has \"behaviour\""));
  CHECK(contains(refused_field("post_processor", "type", "BertProcessing"), "the post-processor \"BertProcessing\""));
  CHECK(contains(refused_field("post_processor", "single",
                               json::parse(R"([{"SpecialToken": {}}, {"SpecialToken": {}}, {"Sequence": {}}])")),
                 "at most one token before"));
  CHECK(contains(refused_field("model", "type", "WordPiece"), "the model \"WordPiece\" is not supported"));
  CHECK(contains(refused_field("model", "dropout", 0.1), "\"dropout\" is not supported"));
  CHECK(contains(refused_field("model", "continuing_subword_prefix", "##"), "\"continuing_subword_prefix\" is \"##\""));
  CHECK(contains(refused_field("model", "end_of_word_suffix", "</w>"), "\"end_of_word_suffix\" is \"</w>\""));
  CHECK(contains(refused_field("model", "cache", 1), "the model has \"cache\", which is not known"));
  const auto added = [](std::string_view text) {
    return refused([&](json::object& document) {
      document["added_tokens"].as_array().push_back(json::parse({text.data(), text.size()}));
    });
  };
  CHECK(contains(added(R"({"id": 1, "content": "<x>", "single_word": true})"), "\"<x>\" is a \"single_word\""));
  CHECK(contains(added(R"({"id": 1, "content": ""})"), "an added token with id 1 has no text"));
  CHECK(contains(added(R"({"id": -1, "content": "<x>"})"), "\"<x>\" has the id -1, which is negative"));
  CHECK(contains(added(R"({"content": "<x>"})"), "\"id\" is missing"));
  CHECK(contains(added(R"({"id": 1, "content": "<x>", "colour": 1})"), "an added token has \"colour\""));
}

TEST_CASE("a SentencePiece vocabulary is refused, with what to do") {
  const std::string advice = "put that file beside it";
  CHECK(contains(refused_field("model", "byte_fallback", true), advice));
  CHECK(contains(refused_field("model", "type", "Unigram"), "(the model \"Unigram\")"));
  CHECK(contains(refused_field("", "pre_tokenizer", json::object{{"type", "Metaspace"}}), "(\"Metaspace\")"));
  CHECK(contains(refused_field("", "normalizer", json::object{{"type", "Prepend"}}), "(\"Prepend\")"));
  const std::filesystem::path mistral = reference_folder() / "hugging_face/mistral/tokenizer.json";
  const io::TokenizerJson whole = io::read_tokenizer_json(mistral);
  CHECK(whole.adds_bos == true);
  CHECK(whole.added.size() == 15);
  CHECK(contains(error_of([&] { (void)io::byte_level_bpe_of(whole); }), advice));
}

TEST_CASE("damaged vocabularies and merges are refused, with the token or the line") {
  const auto vocabulary = [](std::string_view token, const json::value& id) {
    return refused([&](json::object& document) {
      document["model"].as_object()["vocab"].as_object()[{token.data(), token.size()}] = id;
    });
  };
  CHECK(contains(vocabulary("<x>", 5), "have the same id, 5"));
  CHECK(contains(vocabulary("<x>", -5), "\"<x>\" has the id -5, which is negative"));
  CHECK(contains(vocabulary("<x>", 5'000'000'000), "the id of \"<x>\" is 5000000000, expected an integer from"));
  CHECK(contains(vocabulary("<x>", 500'000), "\"<x>\" has the id 500000, too large for 513 tokens"));
  CHECK(contains(vocabulary("<x>", 1.5), "the id of \"<x>\" is 1.5E0, expected an integer"));
  CHECK(contains(vocabulary("<x>", "a"), "the id of \"<x>\" is \"a\", expected an integer"));
  CHECK(vocabulary("<x>", 1000) == "");  // a hole is none of ours
  CHECK(contains(refused_field("model", "vocab", json::array{}), "\"vocab\" is missing or no object"));
  CHECK(contains(refused_field("model", "merges", 1), "\"merges\" is missing or no array"));
  CHECK(contains(refused_field("", "model", 1), "\"model\" is missing or no object"));
  const auto merge = [](const json::value& value) { return refused_field("model", "merges", json::array{value}); };
  CHECK(contains(merge(json::array{"a", "<none>"}), "merge 1: \"a\" and \"<none>\": the vocabulary has no \"<none>\""));
  CHECK(contains(merge(json::array{"a", "b", "c"}), "merge 1 has 3 tokens, expected two"));
  CHECK(contains(merge(json::array{"a", 1}), "an element of a merge is 1, expected a string"));
  CHECK(contains(merge("a  b"), "merge 1: \"a  b\" is not two tokens with one space between them"));

  const TemporaryFolder folder;
  const auto file = [&](std::string_view text) {
    write_bytes(folder / "merges.txt", text);
    return error_of([&] {
      (void)ByteLevelBpe(io::read_vocab_and_merges(gpt2_files() / "vocab.json", folder / "merges.txt").pairs);
    });
  };
  CHECK(file("#version: 0.2\nh e\n") == "");
  CHECK(file("#version: 0.2\r\nh e\r\n") == "");
  CHECK(file("h e") == "");
  CHECK(file("") == "");
  CHECK(contains(file("#version: 0.3\nh e\n"),
                 "merges.txt: line 1: \"#version: 0.3\": \"#version: 0.2\" on the first line"));
  CHECK(contains(file("h e\n#version: 0.2\n"), "merges.txt: line 2: \"#version: 0.2\": "));
  CHECK(contains(file("#version: 0.2\nh e\n\n"), "merges.txt: line 3: \"\" is not two tokens"));
  CHECK(contains(file("#version: 0.2\nh e x\n"), "line 2: \"h e x\" is not two tokens"));
  CHECK(contains(file("#version: 0.2\n he\n"), "line 2: \" he\" is not two tokens"));
  CHECK(contains(file("#version: 0.2\nhe \n"), "line 2: \"he \" is not two tokens"));
  CHECK(contains(file("#version: 0.2\nh e\nh \x01\n"), "merges.txt: line 3: \"h\" and "));

  const auto vocab_file = [&](std::string_view text) {
    write_bytes(folder / "vocab.json", text);
    return error_of([&] { (void)io::read_vocab_and_merges(folder / "vocab.json", gpt2_files() / "merges.txt"); });
  };
  CHECK(contains(vocab_file("{\"a\": 1,\n\"a\": 2}"), "vocab.json: line 2, byte "));
  CHECK(contains(vocab_file("{\"a\": 1"), "vocab.json: line 1"));
  CHECK(contains(vocab_file("[1]"), "the document is an array of 1"));
  CHECK(contains(vocab_file("{\"a\": \"\xFF\"}"), "vocab.json: line 1"));
  std::string deep = "{\"a\": ";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  CHECK(contains(vocab_file(deep), "vocab.json: line 1"));
  std::string nested = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}";
  for (int i = 0; i < 1000; ++i) nested = "{\"type\": \"Sequence\", \"pretokenizers\": [" + nested + "]}";
  write_bytes(folder / "tokenizer.json", "{\"version\": \"1.0\", \"model\": {}, \"pre_tokenizer\": " + nested + "}");
  CHECK(
      contains(error_of([&] { (void)io::read_tokenizer_json(folder / "tokenizer.json"); }), "tokenizer.json: line 1"));
  CHECK(
      contains(error_of<IoError>([&] { (void)io::read_vocab_and_merges(folder / "none", folder / "none"); }), "none"));
}

TEST_CASE("every cut of a tokenizer.json is refused") {
  const TemporaryFolder folder;
  const std::string whole = read_bytes(gpt2_json());
  for (std::size_t size = 0; size + 2 < whole.size(); size += 97) {
    write_bytes(folder / "tokenizer.json", std::string_view(whole).substr(0, size));
    CAPTURE(size);
    CHECK(!error_of([&] { (void)io::read_tokenizer_json(folder / "tokenizer.json"); }).empty());
  }
}

TEST_CASE("what the files beside a tokenizer say, in the forms of transformers 4 and 5") {
  const io::TokenizerConfig four = io::read_tokenizer_config(reference_folder() / "hugging_face/llama");
  CHECK(four.add_bos_token == true);
  CHECK(four.add_eos_token == false);
  CHECK(four.legacy == true);
  CHECK(!four.add_prefix_space.has_value());
  CHECK(four.bos == "<s>");
  CHECK(four.eos == "</s>");
  CHECK(four.pad == "");
  CHECK(four.unk == "<unk>");
  CHECK(four.added.size() == 15);  // those of added_tokens.json are among them
  const io::TokenizerConfig five = io::read_tokenizer_config(reference_folder() / "hugging_face/mistral");
  CHECK(!five.add_bos_token.has_value());
  CHECK(!five.legacy.has_value());
  CHECK(five.bos == "<s>");
  CHECK(five.added.empty());
  CHECK(!five.special.empty());

  const TemporaryFolder folder;
  const io::TokenizerConfig none = io::read_tokenizer_config(folder.path());
  CHECK(!none.bos.has_value());
  CHECK(none.added.empty());
  write_bytes(folder / "special_tokens_map.json",
              R"({"bos_token": {"content": "<b>", "lstrip": false}, "eos_token": "<other>",
                                                      "additional_special_tokens": ["<p>", {"content": "<q>"}]})");
  write_bytes(folder / "tokenizer_config.json",
              R"({"eos_token": "<e>", "pad_token": null, "extra_special_tokens": {"image": "<i>"}})");
  write_bytes(folder / "added_tokens.json", R"({"<x>": 7})");
  const io::TokenizerConfig both = io::read_tokenizer_config(folder.path());
  CHECK(both.bos == "<b>");
  CHECK(both.eos == "<e>");
  CHECK(both.pad == "");
  CHECK(!both.unk.has_value());
  CHECK(both.special == std::vector<std::string>{"<i>", "<p>", "<q>"});
  REQUIRE(both.added.size() == 1);
  CHECK(both.added[0].text == "<x>");
  CHECK(both.added[0].id == 7);
  CHECK(!both.added[0].special);

  const auto config = [&](std::string_view text) {
    write_bytes(folder / "tokenizer_config.json", text);
    return error_of([&] { (void)io::read_tokenizer_config(folder.path()); });
  };
  CHECK(contains(config(R"({"do_lower_case": true})"), "tokenizer_config.json: \"do_lower_case\" is true"));
  CHECK(contains(config(R"({"add_bos_token": "yes"})"), "\"add_bos_token\" is \"yes\", expected true or false"));
  CHECK(contains(config(R"({"bos_token": 1})"), "\"bos_token\" is 1, expected a string"));
  CHECK(contains(config(R"({"extra_special_tokens": 1})"), "expected an array or an object"));
  CHECK(
      contains(config(R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})"), "has the key \"x\", which is no id"));
  CHECK(contains(config(R"({"added_tokens_decoder": {"-1": {"content": "<x>"}}})"),
                 "has the key \"-1\", which is no id"));
  CHECK(contains(config(R"({"added_tokens_decoder": {"99999999999": {"content": "<x>"}}})"), "which is no id"));
  CHECK(contains(config(R"({"added_tokens_decoder": {"1": "<x>"}})"), "expected an object"));
  CHECK(config("{}") == "");
  write_bytes(folder / "added_tokens.json", R"({"<x>": -7})");
  CHECK(contains(config("{}"), "added_tokens.json: the added token \"<x>\" has the id -7, which is negative"));
  write_bytes(folder / "added_tokens.json", R"({"<x>": "7"})");
  CHECK(contains(config("{}"), "the id of \"<x>\" is \"7\", expected an integer"));
}
