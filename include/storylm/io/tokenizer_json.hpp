// SPDX-License-Identifier: MIT
/// @file
/// @brief A SentencePiece model as the tokenizer.json of Hugging Face's tokenizers, normaliser and all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/sentencepiece_model.hpp>

namespace storylm::detail {

/// RFC 4648.
inline std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve(bytes.size() / 3 * 4 + 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8U | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    for (unsigned i = 0; i < 4; ++i) text += at + i <= bytes.size() ? digits[group >> (18U - 6U * i) & 63U] : '=';
  }
  return text;
}

/// Two pieces that become one; the longer the list of them, the later.
struct PieceMerge {
  float score = 0.0F;  // of the whole
  std::string_view left;
  std::string_view right;
};

/// All ways to make a piece of two, in the order in which SentencePiece prefers them: by score; two ways to make the
/// same piece from left to right, as it takes the leftmost first.
inline std::vector<PieceMerge> piece_merges(const io::SentencePieceModel& model) {
  std::unordered_set<std::string_view> normal;
  for (const io::Piece& piece : model.pieces) {
    if (piece.kind == io::PieceKind::normal) normal.insert(piece.text);
  }
  std::vector<PieceMerge> merges;
  for (const io::Piece& piece : model.pieces) {
    if (piece.kind != io::PieceKind::normal) continue;
    const std::string_view text = piece.text;
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) continue;  // inside a character
      if (normal.contains(text.substr(0, cut)) && normal.contains(text.substr(cut)))
        merges.push_back({piece.score, text.substr(0, cut), text.substr(cut)});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const PieceMerge& a, const PieceMerge& b) { return a.score > b.score; });
  return merges;
}

/// What happens to text before it is cut, in the order in which SentencePiece does it.
inline boost::json::object tokenizer_normalizer(const io::SentencePieceModel& model, bool lowercase) {
  using boost::json::object;
  boost::json::array steps;
  const auto replace = [](std::string_view what, std::string_view pattern, std::string_view content) {
    return object{{"type", "Replace"}, {"pattern", object{{what, pattern}}}, {"content", content}};
  };
  if (lowercase) steps.push_back(object{{"type", "Lowercase"}});
  if (!model.charsmap.empty())
    steps.push_back(object{{"type", "Precompiled"}, {"precompiled_charsmap", base64(model.charsmap)}});
  if (model.remove_extra_whitespaces) {  // \A and \z: the ends of the text, not of lines
    steps.push_back(replace("Regex", "\\A +", ""));
    steps.push_back(replace("Regex", " {2,}", " "));
    steps.push_back(replace("Regex", " +\\z", ""));
  }
  if (model.add_dummy_prefix) steps.push_back(object{{"type", "Prepend"}, {"prepend", "\u2581"}});
  if (model.escape_whitespaces) steps.push_back(replace("String", " ", "\u2581"));
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

/// From pieces back to text.
inline boost::json::object tokenizer_decoder(const io::SentencePieceModel& model) {
  using boost::json::object;
  boost::json::array steps;
  steps.push_back(object{{"type", "Replace"}, {"pattern", object{{"String", "\u2581"}}}, {"content", " "}});
  if (model.has_bytes()) steps.push_back(object{{"type", "ByteFallback"}});
  steps.push_back(object{{"type", "Fuse"}});
  if (model.add_dummy_prefix) steps.push_back(object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

/// BOS before every text.
inline boost::json::object tokenizer_bos_template(const std::string& bos, token_t id) {
  using boost::json::array;
  using boost::json::object;
  const auto special = [&](int type) { return object{{"SpecialToken", object{{"id", bos}, {"type_id", type}}}}; };
  const auto text = [](std::string_view name, int type) {
    return object{{"Sequence", object{{"id", name}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", array{special(0), text("A", 0)}},
          {"pair", array{special(0), text("A", 0), special(1), text("B", 1)}},
          {"special_tokens", object{{bos, object{{"id", bos}, {"ids", array{id}}, {"tokens", array{bos}}}}}}};
}

/// The pieces and how text is cut into them.
inline boost::json::object tokenizer_model(const io::SentencePieceModel& model) {
  using boost::json::array;
  using boost::json::object;
  if (model.model == io::PieceModel::unigram) {
    array vocabulary;
    for (const io::Piece& piece : model.pieces) vocabulary.push_back(array{piece.text, piece.score});
    object unigram{
        {"type", "Unigram"}, {"unk_id", nullptr}, {"vocab", vocabulary}, {"byte_fallback", model.has_bytes()}};
    if (model.unk >= 0) unigram["unk_id"] = model.unk;
    return unigram;
  }
  object vocabulary;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) vocabulary[model.pieces[id].text] = id;
  array merges;
  for (const PieceMerge& merge : piece_merges(model)) {
    std::string line(merge.left);  // one string rather than two: older releases read it as well
    merges.push_back(boost::json::string((line += ' ') += merge.right));
  }
  object bpe{{"type", "BPE"},
             {"dropout", nullptr},
             {"unk_token", nullptr},
             {"continuing_subword_prefix", nullptr},
             {"end_of_word_suffix", nullptr},
             {"fuse_unk", true},
             {"byte_fallback", model.has_bytes()},
             {"vocab", vocabulary},
             {"merges", merges}};
  if (model.unk >= 0) bpe["unk_token"] = model.pieces[static_cast<std::size_t>(model.unk)].text;
  return bpe;
}

}  // namespace storylm::detail

namespace storylm::io {

/// The text of a tokenizer.json with the same ids, which any program can load that uses Hugging Face's tokenizers.
/// Control pieces are special tokens there: in a text "<s>" is BOS, as it is in every tokenizer.json.
/// @param lowercase text is lower-cased first
/// @param adds_bos texts begin with BOS unless the caller says otherwise
/// @throws ArgumentError when a tokenizer.json cannot say it: word and character models, spaces after words, a space in
/// a piece, pieces that are user-defined (SentencePiece finds them in normalised text, and puts no space behind them)
/// or unused (it merges them, and takes them apart again)
[[nodiscard]] inline std::string tokenizer_json(const SentencePieceModel& model, bool lowercase, bool adds_bos) {
  using boost::json::object;
  constexpr std::string_view op = "tokenizer.json";
  expects<ArgumentError>(model.model == PieceModel::bpe || model.model == PieceModel::unigram, op,
                         "the tokenizer must be a BPE or a unigram model, not of type ", static_cast<int>(model.model));
  expects<ArgumentError>(!model.space_is_suffix, op, "a tokenizer with treat_whitespace_as_suffix has no equal there");
  boost::json::array added;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    const bool control = piece.kind == PieceKind::control || piece.kind == PieceKind::unknown;
    expects<ArgumentError>(control || !piece.text.empty(), op, "piece ", id, " is empty");
    expects<ArgumentError>(control || piece.text.find(' ') == std::string::npos, op, "piece ", id,
                           " has a space: ", quoted(piece.text));
    const bool user_defined = piece.kind == PieceKind::user_defined;
    expects<ArgumentError>(!user_defined && piece.kind != PieceKind::unused, op, "piece ", id, ": ", quoted(piece.text),
                           " is ", user_defined ? "user-defined" : "unused", ", which has no equal there");
    if (!control) continue;
    added.push_back(object{{"id", id},
                           {"content", piece.text},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", true}});
  }
  object document{{"version", "1.0"},
                  {"truncation", nullptr},
                  {"padding", nullptr},
                  {"added_tokens", added},
                  {"normalizer", detail::tokenizer_normalizer(model, lowercase)},
                  {"pre_tokenizer", nullptr},
                  {"post_processor", nullptr},
                  {"decoder", detail::tokenizer_decoder(model)},
                  {"model", detail::tokenizer_model(model)}};
  if (adds_bos && model.bos >= 0)
    document["post_processor"] =
        detail::tokenizer_bos_template(model.pieces[static_cast<std::size_t>(model.bos)].text, model.bos);
  return json_text(document);
}

}  // namespace storylm::io
