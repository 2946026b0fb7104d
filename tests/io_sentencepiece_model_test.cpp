// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
#include <cstddef>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/io/tokenizer_json.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

SentencePieceTokenizer tokenizer(bool byte_fallback) {
  const std::vector<std::string> text{"Once upon a time Lily ran home.",
                                      "The big dog saw a small bird. Lily was happy."};
  return train_sentencepiece(text, {.vocab_size = byte_fallback ? 290 : 50, .byte_fallback = byte_fallback});
}

/// A field of a protocol buffer: bytes, or a number below 128.
std::string field(unsigned number, std::string_view bytes) {
  std::string text;
  const unsigned key = number << 3U | 2U;
  if (key >= 128) text += static_cast<char>((key & 127U) | 128U);
  text += static_cast<char>(key >= 128 ? key >> 7U : key);
  return (text += static_cast<char>(bytes.size())) += bytes;
}
std::string field(unsigned number, unsigned value) {
  const unsigned key = number << 3U;
  std::string text;
  if (key >= 128) text += static_cast<char>((key & 127U) | 128U);
  text += static_cast<char>(key >= 128 ? key >> 7U : key);
  return text += static_cast<char>(value);
}
std::string piece(std::string_view text, unsigned kind = 1) { return field(1, field(1, text) + field(3, kind)); }

boost::json::object json_of(const io::SentencePieceModel& model, bool lowercase = false, bool adds_bos = true) {
  return io::as_object(io::parse_json(io::tokenizer_json(model, lowercase, adds_bos)), "tokenizer.json");
}
std::string kinds_of(const boost::json::array& steps) {
  std::string all;
  for (const auto& step : steps) all += std::string(step.at("type").get_string().c_str()) + ' ';
  return all;
}

}  // namespace

TEST_CASE("a model says what SentencePiece says of it") {
  for (const bool byte_fallback : {true, false}) {
    const SentencePieceTokenizer expected = tokenizer(byte_fallback);
    const io::SentencePieceModel model = io::read_sentencepiece_model(expected.model_bytes(), "it");
    REQUIRE(static_cast<index_t>(model.pieces.size()) == expected.vocab_size());
    std::ostringstream vocabulary;
    for (const io::Piece& p : model.pieces) vocabulary << p.text << '\t' << p.score << '\n';
    CHECK(vocabulary.str() == expected.vocab_text());
    CHECK(model.model == io::PieceModel::bpe);
    CHECK(model.unk == expected.unk());
    CHECK(model.bos == expected.bos());
    CHECK(model.eos == expected.eos());
    CHECK(model.pad == expected.pad());
    CHECK(model.has_bytes() == byte_fallback);
    CHECK(model.charsmap.size() > 100000);  // nmt_nfkc
    CHECK(model.add_dummy_prefix);
    CHECK(model.remove_extra_whitespaces);
    CHECK(model.escape_whitespaces);
    CHECK(!model.space_is_suffix);
    CHECK(model.pieces[0].kind == io::PieceKind::unknown);
    CHECK(model.pieces[1].kind == io::PieceKind::control);
    CHECK(model.pieces[4].kind == (byte_fallback ? io::PieceKind::byte : io::PieceKind::normal));
    CHECK(model.pieces.back().kind == io::PieceKind::normal);
  }
}

TEST_CASE("what a file does not say is what the format says") {
  const io::SentencePieceModel model = io::read_sentencepiece_model(piece("a"), "it");
  CHECK(model.model == io::PieceModel::unigram);
  CHECK(model.bos == -1);
  CHECK(model.add_dummy_prefix);
  const io::SentencePieceModel other = io::read_sentencepiece_model(
      piece("[B]", 3) + piece("</s>", 3) + piece("<s>") + field(2, field(3, 2U) + field(24, 1U) + field(46, "[B]")) +
          field(3, field(3, 0U) + field(4, 0U) + field(5, 0U)) + field(5, "skipped"),
      "it");
  CHECK(other.model == io::PieceModel::bpe);
  CHECK(other.bos == 0);
  CHECK(other.eos == 1);
  CHECK(other.unk == -1);
  CHECK(other.space_is_suffix);
  CHECK(!other.add_dummy_prefix);
  CHECK(!other.remove_extra_whitespaces);
  CHECK(!other.escape_whitespaces);
}

TEST_CASE("what is no model is refused") {
  const auto error = [](std::string_view bytes) {
    return error_of([&] { static_cast<void>(io::read_sentencepiece_model(bytes, "it")); });
  };
  CHECK(contains(error(""), "it is not a SentencePiece model: no pieces"));
  CHECK(contains(error("\x0A\x05xy"), "something is cut off at byte 2 of 4"));
  CHECK(contains(error("\x0B"), "a field of unknown kind"));
  CHECK(contains(error(std::string(11, '\xFF')), "a number of more than 64 bits"));
  CHECK(contains(error(piece("a", 7)), "a piece is of kind 7"));
  CHECK(contains(error(piece("a") + field(2, field(3, 5U))), "its model is of type 5"));

  // A file that is cut anywhere is one that fails, or one with fewer pieces; never one that is read beyond its end.
  const std::string whole = tokenizer(false).model_bytes().substr(0, 600);
  std::size_t refused = 0;
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    refused += error({exact.data(), exact.size()}).empty() ? 0 : 1;
  }
  CHECK(refused > whole.size() / 2);
}

TEST_CASE("merges stand in the order in which SentencePiece prefers them") {
  io::SentencePieceModel model{.pieces = {{"<unk>", 0.0F, io::PieceKind::unknown},
                                          {"aa", -1.0F},
                                          {"aaa", -2.0F},
                                          {"\u2581a", -0.5F},
                                          {"a", -3.0F},
                                          {"\u2581", -4.0F},
                                          {"<0x41>", 0.0F, io::PieceKind::byte}},
                               .model = io::PieceModel::bpe,
                               .unk = 0};
  const boost::json::object json = json_of(model);
  const auto& bpe = json.at("model");
  CHECK(io::json_text(bpe.at("merges")) == "[\"\u2581 a\",\"a a\",\"a aa\",\"aa a\"]");
  CHECK(bpe.at("vocab").at("aaa") == 2);
  CHECK(bpe.at("unk_token") == "<unk>");
  CHECK(bpe.at("byte_fallback") == true);
  CHECK(json.at("post_processor").is_null());  // no BOS
}

TEST_CASE("tokenizer.json has all that is done to a text") {
  io::SentencePieceModel model = io::read_sentencepiece_model(tokenizer(true).model_bytes(), "it");
  boost::json::object json = json_of(model, true);
  CHECK(kinds_of(json.at("normalizer").at("normalizers").get_array()) ==
        "Lowercase Precompiled Replace Replace Replace Prepend Replace ");
  CHECK(kinds_of(json.at("decoder").at("decoders").get_array()) == "Replace ByteFallback Fuse Strip ");
  CHECK(json.at("post_processor").at("special_tokens").at("<s>").at("ids") == boost::json::array{1});
  CHECK(json.at("added_tokens").get_array().size() == 4);
  CHECK(json.at("added_tokens").at(2).at("content") == "</s>");
  CHECK(json.at("added_tokens").at(2).at("special") == true);

  model.charsmap.clear();
  model.add_dummy_prefix = model.remove_extra_whitespaces = false;
  json = json_of(model, false, false);
  CHECK(kinds_of(json.at("normalizer").at("normalizers").get_array()) == "Replace ");
  CHECK(kinds_of(json.at("decoder").at("decoders").get_array()) == "Replace ByteFallback Fuse ");
  CHECK(json.at("post_processor").is_null());

  model.model = io::PieceModel::unigram;
  json = json_of(model);
  CHECK(json.at("model").at("type") == "Unigram");
  CHECK(json.at("model").at("unk_id") == 0);
  CHECK(json.at("model").at("vocab").at(1).at(0) == "<s>");
}

TEST_CASE("what tokenizer.json cannot say is refused") {
  io::SentencePieceModel model = io::read_sentencepiece_model(tokenizer(false).model_bytes(), "it");
  const auto error = [&] { return error_of<ArgumentError>([&] { static_cast<void>(json_of(model)); }); };
  CHECK(error().empty());
  model.space_is_suffix = true;
  CHECK(contains(error(), "treat_whitespace_as_suffix"));
  model.space_is_suffix = false;
  for (const auto& [kind, word] :
       {std::pair{io::PieceKind::user_defined, "user-defined"}, {io::PieceKind::unused, "unused"}}) {
    io::SentencePieceModel other = model;
    other.pieces.push_back({"[name]", 0.0F, kind});
    for (const io::PieceModel type : {io::PieceModel::bpe, io::PieceModel::unigram}) {
      other.model = type;
      CHECK(contains(error_of<ArgumentError>([&] { static_cast<void>(json_of(other)); }),
                     "\"[name]\" is " + std::string(word) + ", which has no equal there"));
    }
  }
  model.pieces[20].text = "a b";
  CHECK(contains(error(), "piece 20 has a space: \"a b\""));
  model.pieces[20].text = "";
  CHECK(contains(error(), "piece 20 is empty"));
  model.model = io::PieceModel::word;
  CHECK(contains(error(), "must be a BPE or a unigram model"));
}

TEST_CASE("base64 of any length") {
  CHECK(storylm::detail::base64("").empty());
  CHECK(storylm::detail::base64("f") == "Zg==");
  CHECK(storylm::detail::base64("fo") == "Zm8=");
  CHECK(storylm::detail::base64("foo") == "Zm9v");
  CHECK(storylm::detail::base64("foobar\xFF") == "Zm9vYmFy/w==");
}

TEST_CASE("a field that is stored as another type is one that nobody knows, as for protobuf") {
  using namespace std::string_view_literals;
  const auto model = storylm::io::read_sentencepiece_model("\x08\x01\x0A\x05\x0A\x01\x61\x10\x01"sv, "x");
  REQUIRE(model.pieces.size() == 1);  // 08 01: a number where pieces are; 10 01: a number that is no score
  CHECK(model.pieces[0].text == "a");
  CHECK(model.pieces[0].score == 0.0F);
}
