// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/io/tokenizer_json.hpp>
#include <storylm/text/hugging_face_tokenizer.hpp>

#include "io_support.hpp"
#include "tokenizer_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

using Ids = std::vector<token_t>;

std::filesystem::path models() { return reference_folder() / "hugging_face"; }

/// A folder with the files named, of folder `from`.
void copy_files(const std::filesystem::path& from, const TemporaryFolder& to,
                std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    std::filesystem::copy_file(from / name, to / name, std::filesystem::copy_options::overwrite_existing);
  }
}

}  // namespace

TEST_CASE("GPT-2's kind: tokenizer.json, and vocab.json with merges.txt, are the same") {
  const LoadedTokenizer one = load_tokenizer(models() / "gpt2");
  const LoadedTokenizer two = load_tokenizer(reference_folder() / "tokenizers/gpt2_files");
  CHECK(one.tokenizer.hash() == two.tokenizer.hash());
  for (const LoadedTokenizer* loaded : {&one, &two}) {
    const AnyTokenizer& tokenizer = loaded->tokenizer;
    CHECK(tokenizer.vocab_size() == 512);
    CHECK(tokenizer.bos() == 0);
    CHECK(tokenizer.eos() == 0);
    CHECK(tokenizer.unk() == 0);
    CHECK(tokenizer.pad() == -1);
    CHECK(!loaded->adds_bos);
    CHECK(!loaded->adds_eos);
    const Ids plain = tokenizer.encode("the<|endoftext|>");
    CHECK(plain.size() > 2);  // text, as far as encode() is concerned
    CHECK(tokenizer.decode(plain) == "the<|endoftext|>");
    CHECK(tokenizer.decode(Ids{0}).empty());
  }
  CHECK(one.adds_bos_is_stated);  // transformers 5 writes a post-processor
  CHECK(!two.adds_bos_is_stated);
  CHECK(load_tokenizer(models() / "gpt2/tokenizer.json").tokenizer.hash() == one.tokenizer.hash());
  const AnyTokenizer parsing = load_tokenizer(models() / "gpt2", {.parse_special = true}).tokenizer;
  CHECK(parsing.encode("the<|endoftext|>").back() == 0);
  CHECK(parsing.get_if<WithAddedTokens<ByteLevelBpe>>() != nullptr);
}

TEST_CASE("GPT-2's kind: what the files beside it say counts") {
  const TemporaryFolder folder;
  copy_files(reference_folder() / "tokenizers/gpt2_files", folder, {"vocab.json", "merges.txt"});
  const AnyTokenizer alone = load_tokenizer(folder.path()).tokenizer;
  CHECK(alone.bos() == 0);  // by its name
  CHECK(alone.eos() == 0);
  CHECK(alone.unk() == -1);
  const auto with_config = [&](std::string_view text) {
    write_bytes(folder / "tokenizer_config.json", text);
    return load_tokenizer(folder.path());
  };
  const LoadedTokenizer prefix = with_config(R"({"add_prefix_space": true, "add_bos_token": true, "bos_token": null})");
  CHECK(prefix.adds_bos);
  CHECK(prefix.adds_bos_is_stated);
  CHECK(prefix.tokenizer.bos() == -1);
  CHECK(prefix.tokenizer.eos() == 0);
  CHECK(prefix.tokenizer.encode("the dog") == alone.encode(" the dog"));
  CHECK(with_config(R"({"eos_token": "he"})").tokenizer.eos() == alone.encode("he")[0]);
  CHECK(contains(error_of([&] { (void)with_config(R"({"pad_token": "<pad>"})"); }),
                 "pad_token is \"<pad>\", which is neither in the vocabulary nor an added token with an id"));
  write_bytes(folder / "added_tokens.json", R"({"<pad>": 512, "<|endoftext|>": 0})");
  const AnyTokenizer padded = with_config(R"({"pad_token": "<pad>"})").tokenizer;
  CHECK(padded.pad() == 512);
  CHECK(padded.vocab_size() == 513);
  CHECK(padded.hash() != alone.hash());
  write_bytes(folder / "added_tokens.json", R"({"<pad>": 5})");
  CHECK(
      contains(error_of([&] { (void)load_tokenizer(folder.path()); }), "\"<pad>\" has the id 5, which is that of \""));
  write_bytes(folder / "added_tokens.json", R"({"he": 600})");
  CHECK(contains(error_of([&] { (void)load_tokenizer(folder.path()); }),
                 "\"he\" has the id 600, in the vocabulary it has "));
  write_bytes(folder / "added_tokens.json", R"({"<x>": 600, "<y>": 600})");
  CHECK(contains(error_of([&] { (void)load_tokenizer(folder.path()); }), "have the same id, 600"));
  write_bytes(folder / "added_tokens.json", R"({"<x>": 600})");
  CHECK(contains(error_of([&] { (void)with_config(R"({"added_tokens_decoder": {"601": {"content": "<x>"}}})"); }),
                 "the added token \"<x>\" has the ids 601 and 600"));
}

TEST_CASE("GPT-2's kind: BOS and EOS that nothing names are <|endoftext|> for GPT-2's class alone") {
  const TemporaryFolder folder;
  copy_files(models() / "gpt2", folder, {"tokenizer.json"});
  const auto with_config = [&](std::string_view text) {
    write_bytes(folder / "tokenizer_config.json", text);
    return load_tokenizer(folder.path()).tokenizer;
  };
  for (const std::string_view config :
       {"{}", R"({"tokenizer_class": "GPT2Tokenizer"})", R"({"tokenizer_class": "GPT2TokenizerFast"})"}) {
    CAPTURE(config);
    CHECK(with_config(config).bos() == 0);
    CHECK(with_config(config).eos() == 0);
  }
  const AnyTokenizer other = with_config(R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  CHECK(other.bos() == -1);
  CHECK(other.eos() == -1);
  CHECK(with_config(R"({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})").eos() == 0);

  // Of the space before a text other classes ask tokenizer.json.
  const std::string space = R"(", "add_prefix_space": true})";
  const Ids bare = with_config("{}").encode("the dog");
  CHECK(with_config(R"({"tokenizer_class": "PreTrainedTokenizerFast)" + space).encode("the dog") == bare);
  CHECK(with_config(R"({"tokenizer_class": "GPT2Tokenizer)" + space).encode("the dog") != bare);

  // The vocabulary need not have it: tokenizer_config.json may add it.
  const TemporaryFolder without;
  write_bytes(without / "vocab.json", [&] {
    boost::json::value vocabulary = io::read_json(reference_folder() / "tokenizers/gpt2_files/vocab.json");
    vocabulary.as_object().erase("<|endoftext|>");
    return io::json_text(vocabulary);
  }());
  copy_files(reference_folder() / "tokenizers/gpt2_files", without, {"merges.txt"});
  CHECK(load_tokenizer(without.path()).tokenizer.eos() == -1);
  write_bytes(without / "tokenizer_config.json",
              R"({"added_tokens_decoder": {"600": {"content": "<|endoftext|>", "special": true}}})");
  CHECK(load_tokenizer(without.path()).tokenizer.bos() == 600);
  CHECK(load_tokenizer(without.path()).tokenizer.eos() == 600);
}

TEST_CASE("what a tokenizer.json puts around a text must be BOS and EOS") {
  const TemporaryFolder folder;
  copy_files(models() / "gpt2", folder, {"tokenizer_config.json"});
  const auto with_single = [&](std::string_view single) {
    boost::json::value document = io::read_json(models() / "gpt2/tokenizer.json");
    document.as_object()["post_processor"].as_object()["single"] = io::parse_json(single);
    write_bytes(folder / "tokenizer.json", io::json_text(document));
    return load_tokenizer(folder.path());
  };
  const LoadedTokenizer both = with_single(
      R"([{"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {}}, {"SpecialToken": {"id": "<|endoftext|>"}}])");
  CHECK(both.adds_bos);
  CHECK(both.adds_eos);
  const auto refusal = [&](std::string_view single) { return error_of([&] { (void)with_single(single); }); };
  CHECK(contains(refusal(R"([{"SpecialToken": {"id": "A"}}, {"Sequence": {}}])"),
                 "the post-processor puts \"A\" before a text, which is not its BOS"));
  CHECK(contains(refusal(R"([{"Sequence": {}}, {"SpecialToken": {"id": "A"}}])"),
                 "the post-processor puts \"A\" behind a text, which is not its EOS"));
  CHECK(contains(refusal(R"([{"SpecialToken": {"id": "<none>"}}, {"Sequence": {}}])"),
                 "the post-processor puts \"<none>\" before a text, which is not its BOS"));
}

TEST_CASE("Llama's kind has the ids of transformers, special tokens as text and parsed") {
  // "legacy": text behind a special token begins with a space, as in transformers 4; else as in 5.
  for (const std::string name : {"llama", "mistral"}) {
    CAPTURE(name);
    const AnyTokenizer plain = load_tokenizer(models() / name).tokenizer;
    const AnyTokenizer parsing = load_tokenizer(models() / name, {.parse_special = true}).tokenizer;
    const auto* const added = plain.get_if<WithAddedTokens<SentencePieceTokenizer>>();
    REQUIRE(added != nullptr);
    const std::size_t lines = compare_with_reference(name + ".txt", [&](std::string_view text, bool parse_special) {
      while (text.starts_with(' ')) text.remove_prefix(1);
      const Ids ids = (parse_special ? parsing : plain).encode(text);
      if (name == "mistral") CHECK(added->decode(ids, true) == text);
      return ids;
    });
    CHECK(lines > 2000);
  }
}

TEST_CASE("Llama's kind: special tokens, policies, texts of added tokens") {
  for (const std::string name : {"llama", "mistral"}) {
    CAPTURE(name);
    const LoadedTokenizer loaded = load_tokenizer(models() / name);
    const AnyTokenizer& tokenizer = loaded.tokenizer;
    CHECK(tokenizer.vocab_size() == 512);
    CHECK(tokenizer.unk() == 0);
    CHECK(tokenizer.bos() == 1);
    CHECK(tokenizer.eos() == 2);
    CHECK(tokenizer.pad() == -1);
    CHECK(loaded.adds_bos);
    CHECK(loaded.adds_bos_is_stated);
    CHECK(!loaded.adds_eos);
    CHECK(tokenizer.decode(Ids{1, 501, 500, 2}) == "<|user|>");  // the others are special
    Ids ids = tokenizer.encode("the dog");
    CHECK(tokenizer.decode(ids) == "the dog");
    ids.insert(ids.begin(), 1);
    ids.push_back(500);
    CHECK(tokenizer.decode(ids) == "the dog");
  }
  const auto parsed = [](const char* name, std::string_view text) {
    return load_tokenizer(models() / name, {.parse_special = true}).tokenizer.encode(text);
  };
  const Ids dog = load_tokenizer(models() / "llama").tokenizer.encode("dog");
  Ids expected = dog;
  expected.push_back(500);
  expected.insert(expected.end(), dog.begin(), dog.end());
  CHECK(parsed("llama", "dog<|end_of_turn|>dog") == expected);
  CHECK(parsed("mistral", "dog<|end_of_turn|> dog") == expected);
  CHECK(parsed("mistral", "dog<|end_of_turn|>dog") != expected);
}

TEST_CASE("Llama's kind: tokenizer.model alone, with other special tokens, without its prefix space") {
  const TemporaryFolder folder;
  copy_files(models() / "llama", folder, {"tokenizer.model"});
  const LoadedTokenizer alone = load_tokenizer(folder.path());
  const LoadedTokenizer file = load_tokenizer(folder / "tokenizer.model");
  for (const LoadedTokenizer* loaded : {&alone, &file}) {
    CHECK(loaded->tokenizer.vocab_size() == 500);
    CHECK(loaded->tokenizer.bos() == 1);
    CHECK(loaded->adds_bos);
    CHECK(!loaded->adds_bos_is_stated);
    REQUIRE(loaded->tokenizer.get_if<SentencePieceTokenizer>() != nullptr);
  }
  CHECK(alone.tokenizer.hash() == file.tokenizer.hash());
  // As Starling has it: a chat model's end of a turn came to Mistral's vocabulary. Special tokens of the model's own do
  // not make it another.
  write_bytes(folder / "tokenizer_config.json",
              R"({"bos_token": "<s>", "unk_token": {"content": "<unk>"}, "add_bos_token": false})");
  const LoadedTokenizer named = load_tokenizer(folder.path());
  CHECK(named.tokenizer.hash() == file.tokenizer.hash());
  CHECK(!named.adds_bos);
  CHECK(named.adds_bos_is_stated);
  write_bytes(folder / "added_tokens.json", R"({"<|end_of_turn|>": 500})");
  write_bytes(folder / "special_tokens_map.json", R"({"eos_token": "<|end_of_turn|>", "pad_token": "</s>"})");
  const AnyTokenizer turn = load_tokenizer(folder.path()).tokenizer;
  CHECK(turn.vocab_size() == 501);
  CHECK(turn.eos() == 500);
  CHECK(turn.pad() == 2);
  CHECK(turn.decode(Ids{500}).empty());
  CHECK(turn.hash() != file.tokenizer.hash());
  write_bytes(folder / "tokenizer_config.json", R"({"add_prefix_space": false})");
  const AnyTokenizer bare = load_tokenizer(folder.path()).tokenizer;
  CHECK(bare.encode(" dog") == file.tokenizer.encode("dog"));
  CHECK(bare.decode(bare.encode(" dog")) == " dog");
  write_bytes(folder / "added_tokens.json", R"({"<|end_of_turn|>": 499})");
  CHECK(contains(error_of([&] { (void)load_tokenizer(folder.path()); }),
                 "\"<|end_of_turn|>\" has the id 499, which is that of \""));
}

TEST_CASE("Llama's kind: a tokenizer.json beside tokenizer.model has its pieces") {
  const TemporaryFolder folder;
  copy_files(models() / "mistral", folder, {"tokenizer.model"});
  const auto with_model = [&](auto&& change) {
    boost::json::value document = io::read_json(models() / "mistral/tokenizer.json");
    change(document.as_object()["model"].as_object());
    write_bytes(folder / "tokenizer.json", io::json_text(document));
    return error_of([&] { (void)load_tokenizer(folder.path()); });
  };
  using boost::json::object;
  CHECK(with_model([](object&) {}).empty());
  CHECK(contains(with_model([](object& model) {
                   object& vocabulary = model["vocab"].as_object();
                   std::swap(vocabulary["d"], vocabulary["o"]);
                 }),
                 "in tokenizer.model that is "));
  CHECK(contains(with_model([](object& model) { model["vocab"].as_object()["<new>"] = 510; }),
                 "\"<new>\" has the id 510, in tokenizer.model there is none such"));
  CHECK(contains(with_model([](object& model) { model["vocab"].as_object()["<new>"] = -1; }), "has the id -1"));
  CHECK(
      contains(with_model([](object& model) { model["vocab"].as_object().erase("d"); }), "the vocabulary lacks \"d\""));
  CHECK(with_model([](object& model) { model["vocab"].as_object().erase("<s>"); }).empty());  // an added token
  CHECK(contains(with_model([](object& model) { model.erase("vocab"); }), "\"vocab\" is missing"));

  // A unigram model has an array.
  const auto as_array = [](object& model, std::size_t skipped) {
    boost::json::array tokens(model["vocab"].as_object().size());
    for (const auto& [text, id] : model["vocab"].as_object())
      tokens[id.to_number<std::size_t>()] = boost::json::array{text, -1.0};
    if (skipped < tokens.size()) tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(skipped));
    model = object{{"type", "Unigram"}, {"vocab", tokens}};
  };
  CHECK(with_model([&](object& model) { as_array(model, 1000); }).empty());
  CHECK(contains(with_model([&](object& model) { as_array(model, 300); }), " has the id 300, in tokenizer.model that"));
  CHECK(contains(with_model([&](object& model) {
                   model = object{{"type", "Unigram"}, {"vocab", boost::json::array{1}}};
                 }),
                 "a token of \"vocab\" is 1, expected"));
}

TEST_CASE("Llama's kind: the space before a text is that of tokenizer.json, where transformers follows it") {
  const TemporaryFolder folder;
  copy_files(models() / "mistral", folder, {"tokenizer.model"});
  const auto ids = [&](std::string_view text) { return load_tokenizer(folder.path()).tokenizer.encode(text); };
  const auto with = [&](std::string_view normalizer, std::string_view pre_tokenizer) {
    boost::json::value document = io::read_json(models() / "mistral/tokenizer.json");
    document.as_object()["normalizer"] = io::parse_json(normalizer);
    document.as_object()["pre_tokenizer"] = io::parse_json(pre_tokenizer);
    write_bytes(folder / "tokenizer.json", io::json_text(document));
  };
  const auto with_config = [&](std::string_view text) { write_bytes(folder / "tokenizer_config.json", text); };
  // As transformers 5.23 cuts these texts; <|user|> is an added token that is not special.
  const Ids space_dog = load_tokenizer(models() / "mistral").tokenizer.encode("dog");
  with_config("{}");
  with(R"({"type": "Sequence", "normalizers": []})", R"({"type": "Metaspace", "prepend_scheme": "never"})");
  const Ids dog = ids("dog");
  REQUIRE(dog != space_dog);
  const auto both = [](Ids first, const Ids& second) {
    first.push_back(501);
    first.insert(first.end(), second.begin(), second.end());
    return first;
  };
  const std::string two = "dog<|user|>dog";
  for (const std::string_view config :
       {"{}", R"({"add_prefix_space": false, "legacy": false})", R"({"add_prefix_space": true, "legacy": true})"}) {
    CAPTURE(config);
    with_config(config);
    with("null", R"({"type": "Metaspace", "prepend_scheme": "first"})");
    CHECK(ids("dog") == space_dog);
    CHECK(ids(two) == both(space_dog, dog));
    with("null", R"({"type": "Metaspace", "prepend_scheme": "always"})");
    CHECK(ids(two) == both(space_dog, space_dog));
    with("null", R"({"type": "Metaspace", "prepend_scheme": "never"})");
    CHECK(ids("dog") == dog);
    CHECK(ids(" dog") == space_dog);
    CHECK(ids(two) == both(dog, dog));
    with(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
             {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]})",
         "null");
    CHECK(ids("dog") == space_dog);
    CHECK(ids(" dog").size() == space_dog.size() + 1);  // both spaces, as SentencePiece has it
    CHECK(ids(two) == both(space_dog, space_dog));
    with(R"({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"})", "null");
    CHECK(ids("dog") == dog);
  }
  // Older files.
  with("null", R"({"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": true})");
  CHECK(ids(two) == both(space_dog, space_dog));
  with("null", R"({"type": "Metaspace", "prepend_scheme": "last"})");
  CHECK(contains(error_of([&] { (void)ids("dog"); }), "\"prepend_scheme\" is \"last\""));
  with(R"({"type": "Prepend", "prepend": "x"})", "null");
  CHECK(contains(error_of([&] { (void)ids("dog"); }), "\"Prepend\" puts \"x\" before a text"));

  // Llama's own class goes by tokenizer_config.json, but for the models that transformers knows to name it wrongly.
  const std::string class_says = R"({"tokenizer_class": "LlamaTokenizer", "legacy": true})";
  with("null", R"({"type": "Metaspace", "prepend_scheme": "first"})");
  with_config(class_says);
  write_bytes(folder / "config.json", R"({"model_type": "llama"})");
  CHECK(ids(two) == both(space_dog, space_dog));
  with_config(R"({"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": false})");
  CHECK(ids(two) == both(dog, dog));
  with_config(class_says);
  write_bytes(folder / "config.json", R"({"model_type": "mistral"})");
  CHECK(ids(two) == both(space_dog, dog));
}

TEST_CASE("a folder that a model was exported to has the tokenizer that it had, by its hash too") {
  const TemporaryFolder folder;
  const std::string model = read_bytes(models() / "llama/tokenizer.model");
  const SentencePieceTokenizer lower(model, true);
  lower.save(folder / "tokenizer.model");
  write_bytes(folder / "tokenizer.json", io::tokenizer_json(io::read_sentencepiece_model(model, "it"), true, true));
  const LoadedTokenizer loaded = load_tokenizer(folder.path());
  CHECK(loaded.tokenizer.hash() == lower.hash());
  CHECK(loaded.tokenizer.encode("The DOG") == lower.encode("the dog"));
  CHECK(loaded.adds_bos);
  CHECK(loaded.adds_bos_is_stated);
}

TEST_CASE("folders without a tokenizer, or with one of another kind, are refused with what to do") {
  const TemporaryFolder folder;
  CHECK(contains(error_of<IoError>([&] { (void)load_tokenizer(folder.path()); }),
                 "holds no tokenizer: expected tokenizer.model, tokenizer.json, or vocab.json and merges.txt"));
  CHECK(contains(error_of<IoError>([&] { (void)load_tokenizer(folder / "none.model"); }), "none.model"));
  copy_files(models() / "mistral", folder, {"tokenizer.json", "tokenizer_config.json"});
  CHECK(contains(error_of([&] { (void)load_tokenizer(folder.path()); }),
                 "is read from the tokenizer.model that it was made from: put that file beside it"));
  copy_files(models() / "mistral", folder, {"tokenizer.model"});
  CHECK(load_tokenizer(folder.path()).tokenizer.vocab_size() == 512);
}

TEST_CASE("GPT-2's own files and Llama 2's load") {
  const char* const data = std::getenv("STORYLM_REAL_DATA");
  if (data == nullptr) {
    MESSAGE("skipped: STORYLM_REAL_DATA does not name the folder of real data");
    return;
  }
  const std::filesystem::path files = std::filesystem::path(data) / "tokenizers";
  const TemporaryFolder folder;
  std::filesystem::copy_file(files / "gpt2_vocab.json", folder / "vocab.json");
  std::filesystem::copy_file(files / "gpt2_merges.txt", folder / "merges.txt");
  const LoadedTokenizer gpt2 = load_tokenizer(folder.path());
  CHECK(gpt2.tokenizer.vocab_size() == 50257);
  CHECK(gpt2.tokenizer.bos() == 50256);
  CHECK(gpt2.tokenizer.eos() == 50256);
  CHECK(!gpt2.adds_bos);
  const TemporaryFolder llama;
  std::filesystem::copy_file(files / "llama2_tokenizer.model", llama / "tokenizer.model");
  write_bytes(llama / "added_tokens.json", R"({"<|end_of_turn|>": 32000})");
  write_bytes(llama / "tokenizer_config.json", R"({"eos_token": "<|end_of_turn|>", "legacy": true})");
  const AnyTokenizer starling = load_tokenizer(llama.path(), {.parse_special = true}).tokenizer;
  CHECK(starling.vocab_size() == 32001);
  CHECK(starling.eos() == 32000);
  CHECK(starling.encode("Hello<|end_of_turn|>Hello") == Ids{15043, 32000, 15043});
}
