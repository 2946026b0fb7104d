// SPDX-License-Identifier: MIT
/// @file
/// @brief What a SentencePiece .model file says, read without SentencePiece: pieces, scores, kinds, the normaliser.
///
/// The file is a protocol buffer, sentencepiece_model.proto of https://github.com/google/sentencepiece. Fields that
/// nobody here needs are skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/protocol_buffer.hpp>

namespace storylm::io {

/// What a piece is; the numbers are those of the file, and of GGUF's token types.
enum class PieceKind : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// One token of a vocabulary.
struct Piece {
  std::string text;                    ///< UTF-8 in which U+2581 is a space; "<0x41>" for a byte
  float score = 0.0F;                  ///< the higher, the earlier it is merged
  PieceKind kind = PieceKind::normal;  ///< what it stands for
};

/// How text is cut into pieces.
enum class PieceModel : std::uint8_t { unigram = 1, bpe = 2, word = 3, character = 4 };

/// A tokenizer as its .model file describes it.
struct SentencePieceModel {
  std::vector<Piece> pieces = {};          ///< by id
  PieceModel model = PieceModel::unigram;  ///< of the trainer
  std::string charsmap = {};               ///< the compiled rules that text goes through first; empty: none
  bool add_dummy_prefix = true;            ///< text begins with a space
  bool remove_extra_whitespaces = true;    ///< spaces at both ends go, runs of them become one
  bool escape_whitespaces = true;          ///< a space is U+2581
  bool space_is_suffix = false;            ///< pieces end in the space, not begin with it
  token_t unk = -1;                        ///< stands for what the vocabulary cannot spell; -1: there is none
  token_t bos = -1;                        ///< begins a text; -1: there is none
  token_t eos = -1;                        ///< ends a text; -1: there is none
  token_t pad = -1;                        ///< fills up; -1: there is none

  /// True when characters that no piece has are spelt in bytes.
  [[nodiscard]] bool has_bytes() const {
    for (const Piece& piece : pieces) {
      if (piece.kind == PieceKind::byte) return true;
    }
    return false;
  }
};

}  // namespace storylm::io

namespace storylm::detail {

/// What a file is not that is wrong.
inline constexpr std::string_view sentencepiece_kind = "a SentencePiece model";

inline float float_of_bits(std::uint64_t bits) {
  const auto low = static_cast<std::uint32_t>(bits);
  float value = 0.0F;
  std::memcpy(&value, &low, sizeof(value));
  return value;
}

inline io::Piece read_piece(std::string_view message, std::string_view name) {
  io::Piece piece;
  WireReader fields(message, name, sentencepiece_kind);
  for (WireField field; fields.next(field);) {
    if (field.is(1, WireKind::bytes)) piece.text = std::string(field.bytes);
    if (field.is(2, WireKind::four_bytes)) piece.score = float_of_bits(field.value);
    if (field.is(3, WireKind::varint)) {
      expects<FormatError>(field.value >= 1 && field.value <= 6, "SentencePieceModel", name, ": a piece is of kind ",
                           field.value, ", expected 1 to 6");
      piece.kind = static_cast<io::PieceKind>(field.value);
    }
  }
  return piece;
}

}  // namespace storylm::detail

namespace storylm::io {

/// @param bytes of a .model file
/// @param name what errors call it
/// @throws FormatError when they are not a SentencePiece model
[[nodiscard]] inline SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view name) {
  using detail::WireKind;
  SentencePieceModel model;
  std::string unk = "<unk>", bos = "<s>", eos = "</s>", pad = "<pad>";  // what the format says when the file does not
  detail::WireReader fields(bytes, name, detail::sentencepiece_kind);
  for (detail::WireField field; fields.next(field);) {
    detail::WireReader inner(field.bytes, name, detail::sentencepiece_kind);
    detail::WireField part;
    if (field.is(1, WireKind::bytes)) model.pieces.push_back(detail::read_piece(field.bytes, name));
    while (field.is(2, WireKind::bytes) && inner.next(part)) {  // how it was trained
      if (part.is(3, WireKind::varint)) {
        expects<FormatError>(part.value >= 1 && part.value <= 4, "SentencePieceModel", name, ": its model is of type ",
                             part.value, ", expected 1 to 4");
        model.model = static_cast<PieceModel>(part.value);
      }
      if (part.is(24, WireKind::varint)) model.space_is_suffix = part.value != 0;
      if (part.is(45, WireKind::bytes)) unk = std::string(part.bytes);
      if (part.is(46, WireKind::bytes)) bos = std::string(part.bytes);
      if (part.is(47, WireKind::bytes)) eos = std::string(part.bytes);
      if (part.is(48, WireKind::bytes)) pad = std::string(part.bytes);
    }
    while (field.is(3, WireKind::bytes) && inner.next(part)) {  // the normaliser
      if (part.is(2, WireKind::bytes)) model.charsmap = std::string(part.bytes);
      if (part.is(3, WireKind::varint)) model.add_dummy_prefix = part.value != 0;
      if (part.is(4, WireKind::varint)) model.remove_extra_whitespaces = part.value != 0;
      if (part.is(5, WireKind::varint)) model.escape_whitespaces = part.value != 0;
    }
  }
  expects<FormatError>(!model.pieces.empty(), "SentencePieceModel", name, " is not a SentencePiece model: no pieces");
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    const auto token = static_cast<token_t>(id);
    if (piece.kind == PieceKind::unknown && piece.text == unk) model.unk = token;
    if (piece.kind != PieceKind::control) continue;
    if (piece.text == bos) model.bos = token;
    if (piece.text == eos) model.eos = token;
    if (piece.text == pad) model.pad = token;
  }
  return model;
}

}  // namespace storylm::io
