// SPDX-License-Identifier: MIT
// LINK: sentencepiece
// TIMEOUT: 120
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/text/sentencepiece_encoder.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

/// A small text in which most letters occur.
std::vector<std::string> sentences() {
  const std::vector<std::string> who{"Lily", "Ben", "The big dog", "A quick brown fox", "Mom", "Zoe's jumpy vixen"};
  const std::vector<std::string> what{"played with", "looked for", "was kind to", "gave a box of quartz to", "hugged"};
  const std::vector<std::string> whom{"the cat.", "a bird in the tree.", "his friends.", "every child!",
                                      "\"me,\" she said."};
  std::vector<std::string> all;
  for (const auto& a : who) {
    for (const auto& b : what) {
      for (const auto& c : whom) all.push_back(a + ' ' + b + ' ' + c);
    }
  }
  return all;
}

const SentencePieceTokenizer& with_bytes() {
  static const SentencePieceTokenizer tokenizer = train_sentencepiece(sentences(), {.vocab_size = 380});
  return tokenizer;
}

std::string random_text(RandomStream& random, std::size_t words) {
  const std::vector<std::string> parts{"cat", "Lily",   "tree.",    "é",        "e\u0301", "\u0301", "中文",
                                       "😀",   "\u3000", "x\u200By", "…",        "½",       "<s>",    "▁",
                                       "ﬁ",   "a",      "\xFF",     "\xE2\x82", "<0x41>",  "１２",   "'"};
  std::string text;
  for (std::size_t i = 0; i < words; ++i) {
    if (i != 0) text += ' ';
    for (std::uint64_t n = random.below(3) + 1; n > 0; --n)
      text += parts[static_cast<std::size_t>(random.below(parts.size()))];
  }
  return text;
}

/// Sentences as SentencePiece takes them.
class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::vector<std::string>& lines) : lines_(lines) {}
  [[nodiscard]] bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return lines_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  std::size_t at_ = 0;
};

std::vector<token_t> encode_with(SentencePieceEncoder& encoder, std::string_view text) {
  std::vector<token_t> tokens;
  encoder.encode(text, tokens);
  return tokens;
}

}  // namespace

TEST_CASE("special tokens have their fixed ids, and text comes back") {
  const SentencePieceTokenizer& tokenizer = with_bytes();
  CHECK(tokenizer.vocab_size() == 380);
  CHECK(tokenizer.unk() == 0);
  CHECK(tokenizer.bos() == 1);
  CHECK(tokenizer.eos() == 2);
  CHECK(tokenizer.pad() == 3);
  CHECK(tokenizer.piece(1) == "<s>");
  CHECK(tokenizer.byte_fallback());
  for (const std::string& sentence : sentences()) {
    const std::vector<token_t> tokens = tokenizer.encode(sentence);
    CHECK(tokens.size() < sentence.size());
    CHECK(tokenizer.decode(tokens) == sentence);
  }
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.decode({}) == "");
  CHECK(tokenizer.decode(std::vector<token_t>{1, 2, 3}) == "");
}

TEST_CASE("with byte fallback unknown characters come back; without, they are UNK") {
  const std::string text = "Lily saw 中 and 😀";
  CHECK(with_bytes().decode(with_bytes().encode(text)) == text);
  const auto tokenizer = train_sentencepiece(sentences(), {.vocab_size = 124, .byte_fallback = false});
  CHECK(!tokenizer.byte_fallback());
  const std::vector<token_t> tokens = tokenizer.encode("Lily 中");
  CHECK(std::count(tokens.begin(), tokens.end(), tokenizer.unk()) == 1);
  CHECK(tokenizer.decode(tokens) == "Lily  \u2047 ");
}

TEST_CASE("the same text and options give the same model, byte for byte") {
  const auto again = train_sentencepiece(sentences(), {.vocab_size = 380});
  CHECK(again.model_bytes() == with_bytes().model_bytes());
  CHECK(again.hash() == with_bytes().hash());
  CHECK(train_sentencepiece(sentences(), {.vocab_size = 370}).hash() != with_bytes().hash());
}

TEST_CASE("a model made from counted words has the pieces and scores of one made from the sentences") {
  std::vector<std::string> text = sentences();
  RandomStream random(5);
  for (int i = 0; i < 400; ++i) text.push_back(random_text(random, static_cast<std::size_t>(1 + random.below(9))));
  for (std::size_t i = 0; i < 100; ++i) text.push_back("  tab\there " + text[3 * i] + "\n\t line " + text[i] + ' ');
  text.push_back(std::string(20'000, 'q'));  // too long: left out
  for (const bool bytes : {true, false}) {
    std::string model;
    Lines lines(text);
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        std::string("--model_type=bpe --vocab_size=500 --character_coverage=0.9999 --max_sentence_length=16384 "
                    "--normalization_rule_name=nmt_nfkc --unk_id=0 --bos_id=1 --eos_id=2 --pad_id=3 "
                    "--self_test_sample_size=0 --minloglevel=3 --byte_fallback=") +
            (bytes ? "true" : "false"),
        &lines, &model);
    REQUIRE(status.ok());
    const auto ours = train_sentencepiece(text, {.vocab_size = 500, .byte_fallback = bytes});
    CHECK(ours.vocab_text() == SentencePieceTokenizer(model, false).vocab_text());
  }
}

TEST_CASE("a vocabulary too large names the largest possible one, which can be made") {
  for (const bool byte_fallback : {true, false}) {
    const std::string message = error_of<ArgumentError>(
        [&] { (void)train_sentencepiece(sentences(), {.vocab_size = 50000, .byte_fallback = byte_fallback}); });
    CHECK(contains(message, "a vocabulary of 50000 is too large for this text: the largest possible one has "));
    const index_t largest = std::stol(message.substr(message.find(" has ") + 5));
    CHECK(train_sentencepiece(sentences(), {.vocab_size = largest, .byte_fallback = byte_fallback}).vocab_size() ==
          largest);
    CHECK_THROWS_AS((void)train_sentencepiece(sentences(), {.vocab_size = largest + 1, .byte_fallback = byte_fallback}),
                    ArgumentError);
  }
}

TEST_CASE("a vocabulary too small, or no text, is said too") {
  const auto refused = [](const std::vector<std::string>& text, SentencePieceTrainOptions options) {
    return error_of<ArgumentError>([&] { (void)train_sentencepiece(text, options); });
  };
  CHECK(
      contains(refused(sentences(), {.vocab_size = 260}), "260 pieces are taken by UNK, BOS, EOS, PAD and 256 bytes"));
  CHECK(contains(refused(sentences(), {.vocab_size = -5}), "a vocabulary of -5 is too small"));
  const std::string small = refused(sentences(), {.vocab_size = 270});
  CHECK(contains(small, "too small for the characters of this text: it takes at least "));
  const index_t least = std::stol(small.substr(small.find("at least ") + 9));
  CHECK(train_sentencepiece(sentences(), {.vocab_size = least}).vocab_size() == least);
  CHECK(contains(refused({}, {}), "there is no text to train on"));
  CHECK(contains(refused({"", ""}, {}), "there is no text to train on"));
  CHECK(contains(refused({"\u200B"}, {.vocab_size = 300}), "[train_sentencepiece] "));
}

TEST_CASE("lower-casing is recorded beside the model and applied to what is encoded") {
  const TemporaryFolder folder;
  const auto tokenizer = train_sentencepiece(sentences(), {.vocab_size = 350, .lowercase = true});
  for (token_t token = 260; token < 350; ++token) CHECK(lower_case(tokenizer.piece(token)) == tokenizer.piece(token));
  tokenizer.save(folder / "bpe.model");
  const auto loaded = SentencePieceTokenizer::load(folder / "bpe.model");
  CHECK(loaded.lowercase());
  CHECK(loaded.hash() == tokenizer.hash());
  CHECK(loaded.normalise("Lily PLAYED") == "lily played");
  CHECK(loaded.encode("Lily PLAYED") == loaded.encode("lily played"));
  CHECK(loaded.decode(loaded.encode("Lily PLAYED with Ben")) == "lily played with ben");

  std::filesystem::remove(folder / "bpe.settings.json");
  CHECK(!SentencePieceTokenizer::load(folder / "bpe.model").lowercase());
  with_bytes().save(folder / "bpe.model");
  CHECK(!SentencePieceTokenizer::load(folder / "bpe.model").lowercase());
  write_bytes(folder / "bpe.model", tokenizer.model_bytes());  // the settings now belong to another model
  CHECK(contains(error_of([&] { (void)SentencePieceTokenizer::load(folder / "bpe.model"); }), "belongs to a model"));
}

TEST_CASE("files that are no models are refused by name") {
  const TemporaryFolder folder;
  const auto refused = [&](std::string_view bytes) {
    write_bytes(folder / "bpe.model", bytes);
    return error_of([&] { (void)SentencePieceTokenizer::load(folder / "bpe.model"); });
  };
  CHECK(contains(refused(""), "bpe.model is not a SentencePiece model: it is empty"));
  CHECK(contains(refused("{\"a\": 1}"), "bpe.model is not a SentencePiece model"));
  CHECK(
      contains(refused(std::string_view(with_bytes().model_bytes()).substr(0, 1000)), "is not a SentencePiece model"));
  CHECK(contains(error_of<IoError>([&] { (void)SentencePieceTokenizer::load(folder / "none"); }), "No such file"));
  CHECK(contains(error_of<IoError>([&] { (void)SentencePieceTokenizer::load(folder.path()); }), "is a folder"));
}

TEST_CASE("rules for characters that would lead the library out of its memory are refused before it sees them") {
  const auto message_of = [](std::string_view number, std::string_view bytes) {  // a field of a protocol buffer
    std::string field(number);
    std::size_t size = bytes.size();
    for (; size >= 0x80; size >>= 7U) field += static_cast<char>(size | 0x80U);
    return (field += static_cast<char>(size)).append(bytes);
  };
  const auto units = [](std::vector<std::uint32_t> set) {
    std::string bytes(1024, '\0');
    set.resize(256, 0x80000000U);  // leaves: nothing leads there
    for (std::size_t i = 0; i < 256; ++i)
      for (std::size_t b = 0; b < 4; ++b) bytes[4 * i + b] = static_cast<char>(set[i] >> (8 * b) & 0xFFU);
    return bytes;
  };
  const auto refused = [&](const std::string& charsmap) {
    const std::string model = with_bytes().model_bytes() + message_of("\x1A", message_of("\x12", charsmap));
    return error_of([&] { (void)SentencePieceTokenizer(model, false, "bpe.model").encode("a b"); });
  };
  const std::string size("\0\x04\0\0", 4);
  const std::string texts("b\0", 2);
  // Unit 0 leads to 128, from there by 'a' to 128 ^ 'a', which has a leaf beside it: the text at byte 0.
  constexpr std::uint32_t step = 1U << 10U, leaf = 1U << 8U, value = 1U << 31U, a = 'a';
  std::vector<std::uint32_t> one(256, value);
  one[0] = 128 * step;
  one[128 ^ a] = a | leaf | 1 * step;
  CHECK(refused(size + units(one) + texts) == "");
  CHECK(contains(refused(std::string("\0\x08\0\0", 4) + units(one) + texts), "the size of the trie"));
  CHECK(contains(refused("\x04"), "they are cut off"));
  CHECK(contains(refused(size + units(one) + "no end"), "the last text has no end"));
  auto wrong = one;
  wrong[0] = 1024 * step;
  CHECK(contains(refused(size + units(wrong) + texts), "a step out of the trie"));
  wrong = one;
  wrong[128 ^ a ^ 1] = value | 2;
  CHECK(contains(refused(size + units(wrong) + texts), "a text that is not there"));
  wrong = one;
  wrong[128 ^ a] = a | a * step;  // back to 128
  CHECK(contains(refused(size + units(wrong) + texts), "a way round in circles"));
  for (const std::uint32_t leaves : {32U, 33U}) {  // by the bytes 1, 1, 1, ... from one leaf to the next
    wrong.assign(256, value);
    wrong[0] = 128 * step;
    for (std::uint32_t at = 128; at < 128 + 2 * leaves; at += 2)
      wrong[at ^ 1] = 1 | leaf | ((at ^ 1) ^ (at + 2)) * step;
    CHECK(refused(size + units(wrong) + texts).empty() == (leaves == 32));
  }
  CHECK(contains(error_of([&] { (void)SentencePieceTokenizer(std::string("\x0B\x0C", 2), false, "x"); }),
                 "x is not a SentencePiece model: a field of unknown kind at byte 1 of 2"));
}

TEST_CASE("pieces that the library throws at are errors of the file") {
  // A unigram model with a piece of one zero byte, a key of no length in the library's trie.
  const std::string zero("\x0A\x03\x0A\x01\x00\x12\x02\x18\x01", 9);
  CHECK(contains(error_of([&] { (void)SentencePieceTokenizer(with_bytes().model_bytes() + zero, false, "bpe.model"); }),
                 "bpe.model is not a SentencePiece model"));
}

TEST_CASE("ids outside the vocabulary are refused") {
  for (const token_t wrong : {-1, 380}) {
    const std::vector<token_t> tokens{5, wrong};
    const std::string message = error_of<ArgumentError>([&] { (void)with_bytes().decode(tokens); });
    CHECK(contains(message, "token " + std::to_string(wrong) + " is not in the vocabulary of 380"));
    CHECK_THROWS_AS((void)with_bytes().piece(wrong), ArgumentError);
  }
}

TEST_CASE("long text gives the ids of its parts, and one long word is one text") {
  REQUIRE(with_bytes().words_are_independent());
  const std::string sentence = "Lily played with the cat. ";
  const std::vector<token_t> one = with_bytes().encode(sentence);
  std::string text;
  std::vector<token_t> expected;
  for (int i = 0; i < 5000; ++i) {  // 130 kB
    text += sentence;
    expected.insert(expected.end(), one.begin(), one.end());
  }
  CHECK(with_bytes().encode(text) == expected);
  const std::string word(200'000, 'a');
  CHECK(with_bytes().decode(with_bytes().encode(word)) == word);
}

TEST_CASE("the encoder that remembers words gives the tokenizer's ids") {
  SentencePieceEncoder encoder(with_bytes());
  RandomStream random(11);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(random, static_cast<std::size_t>(random.below(8)));
    CAPTURE(text);
    CHECK(encode_with(encoder, text) == with_bytes().encode(text));
  }
  for (const std::string_view text : {"", " ", "a", " a", "a ", "a  b", "a\tb", "a\nb", "  a  "}) {
    CAPTURE(text);
    CHECK(encode_with(encoder, text) == with_bytes().encode(text));
  }
  std::vector<token_t> several;
  encoder.append("Lily hugged", several);
  encoder.append("a bird", several);
  std::vector<token_t> expected = with_bytes().encode("Lily hugged");
  for (const token_t token : with_bytes().encode("a bird")) expected.push_back(token);
  CHECK(several == expected);
  const auto lower = train_sentencepiece(sentences(), {.vocab_size = 350, .lowercase = true});
  SentencePieceEncoder lower_encoder(lower);
  CHECK(encode_with(lower_encoder, "Lily PLAYED") == lower.encode("lily played"));
}

TEST_CASE("a sample is uniform over the stream, repeats from its seed, and cuts no character") {
  int counts[40] = {};
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SentenceSample sample(10, seed);
    for (int i = 0; i < 40; ++i) sample.add(std::to_string(i));
    CHECK(sample.seen() == 40);
    REQUIRE(sample.sentences().size() == 10);
    for (const std::string& sentence : sample.sentences()) ++counts[std::stoi(sentence)];
  }
  for (const int count : counts) CHECK(std::abs(count - 500) < 100);  // five standard deviations of 19

  const auto drawn = [](std::uint64_t seed) {
    SentenceSample sample(5, seed);
    for (int i = 0; i < 1000; ++i) sample.add(std::to_string(i));
    return std::vector<std::string>(sample.sentences().begin(), sample.sentences().end());
  };
  CHECK(drawn(1) == drawn(1));
  CHECK(drawn(1) != drawn(2));

  SentenceSample sample(1000, 1);
  std::string text = "a";  // so that cuts fall inside characters
  while (text.size() < 50'000) text += "中";
  const std::string words = "ab cd";
  sample.add(text);
  sample.add(words);
  std::string joined;
  for (const std::string& part : sample.sentences()) {
    CHECK(part.size() <= SentenceSample::part_bytes);
    CHECK((static_cast<unsigned char>(part.front()) & 0xC0U) != 0x80U);
    joined += part;
  }
  CHECK(joined == text + words);
}

TEST_CASE("one word of a megabyte, which SentencePiece alone would not survive, can be trained on") {
  SentenceSample sample;
  std::string word;
  for (int i = 0; i < 100'000; ++i) word += sentences()[static_cast<std::size_t>(i % 150)].substr(0, 3);
  std::replace(word.begin(), word.end(), ' ', '_');
  sample.add(word);
  CHECK(train_sentencepiece(sample.sentences(), {.vocab_size = 300}).vocab_size() == 300);
}

TEST_CASE("models that others made load, and encode as SentencePiece does") {
  const char* const data = std::getenv("STORYLM_REAL_DATA");
  if (data == nullptr) {
    MESSAGE("skipped: STORYLM_REAL_DATA does not name the folder of real data");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "tokenizers";
  for (const std::string_view name :
       {"tok512.model", "smolgpt_tok4096.model", "es_tok4096.model", "llama2_tokenizer.model", "test_model.model",
        "test_ja_model.model", "arnoochka_tiny_tokenizer.model"}) {
    CAPTURE(name);
    const auto tokenizer = SentencePieceTokenizer::load(folder / name);
    sentencepiece::SentencePieceProcessor reference;
    REQUIRE(reference.Load((folder / name).string()).ok());
    SentencePieceEncoder encoder(tokenizer);
    std::ifstream stories(folder.parent_path() / "tinystories/v2_train_first10000lines.txt");
    std::string line;
    for (int i = 0; i < 1000 && std::getline(stories, line); ++i) {
      std::vector<int> expected;
      REQUIRE(reference.Encode(line, &expected).ok());
      CHECK(tokenizer.encode(line) == expected);
      CHECK(encode_with(encoder, line) == expected);
    }
    RandomStream random(5);
    for (int i = 0; i < 500; ++i) {
      const std::string text = random_text(random, static_cast<std::size_t>(random.below(8)));
      std::vector<int> expected;
      REQUIRE(reference.Encode(text, &expected).ok());
      CAPTURE(text);
      CHECK(encode_with(encoder, text) == expected);
    }
  }
}
