// SPDX-License-Identifier: MIT
/// @file
/// @brief A handle to a tokenizer whose type is known at run time only.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/text/tokenizer.hpp>

namespace storylm {

/// Any Tokenizer behind one type, for programs that learn from a file which one they need. Copies share the tokenizer;
/// any thread may use it.
class AnyTokenizer {
 public:
  /// Keeps `tokenizer`. Not explicit: whoever asks for an AnyTokenizer takes every tokenizer.
  template <class T>
  requires(!std::same_as<std::remove_cvref_t<T>, AnyTokenizer> && Tokenizer<std::remove_cvref_t<T>>)
      AnyTokenizer(T&& tokenizer)
      : tokenizer_(std::make_shared<const Model<std::remove_cvref_t<T>>>(std::forward<T>(tokenizer))) {}

  /// Ids are below this.
  [[nodiscard]] index_t vocab_size() const { return tokenizer_->vocab_size(); }
  /// Ids of `text`, without BOS and EOS. @throws what the tokenizer throws, as all of these
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const { return tokenizer_->encode(text); }
  /// The text of `tokens`.
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const { return tokenizer_->decode(tokens); }
  /// `text` as the model sees it.
  [[nodiscard]] std::string normalise(std::string_view text) const { return tokenizer_->normalise(text); }
  /// Begins a text; negative when there is none, like the next three.
  [[nodiscard]] token_t bos() const { return tokenizer_->bos(); }
  /// Ends a text.
  [[nodiscard]] token_t eos() const { return tokenizer_->eos(); }
  /// Fills up.
  [[nodiscard]] token_t pad() const { return tokenizer_->pad(); }
  /// Stands for what the vocabulary cannot spell.
  [[nodiscard]] token_t unk() const { return tokenizer_->unk(); }
  /// 64 bits that tell this vocabulary from any other.
  [[nodiscard]] std::uint64_t hash() const { return tokenizer_->hash(); }

  /// The tokenizer itself where it is a T, else null. Valid as long as this handle or a copy of it.
  template <class T>
  [[nodiscard]] const T* get_if() const noexcept {
    const auto* const model = dynamic_cast<const Model<T>*>(tokenizer_.get());
    return model == nullptr ? nullptr : &model->tokenizer;
  }

 private:
  struct Face {
    virtual ~Face() = default;
    virtual index_t vocab_size() const = 0;
    virtual std::vector<token_t> encode(std::string_view text) const = 0;
    virtual std::string decode(std::span<const token_t> tokens) const = 0;
    virtual std::string normalise(std::string_view text) const = 0;
    virtual token_t bos() const = 0;
    virtual token_t eos() const = 0;
    virtual token_t pad() const = 0;
    virtual token_t unk() const = 0;
    virtual std::uint64_t hash() const = 0;
  };
  template <class T>
  struct Model final : Face {
    explicit Model(T kept) : tokenizer(std::move(kept)) {}
    index_t vocab_size() const override { return tokenizer.vocab_size(); }
    std::vector<token_t> encode(std::string_view text) const override { return tokenizer.encode(text); }
    std::string decode(std::span<const token_t> tokens) const override { return tokenizer.decode(tokens); }
    std::string normalise(std::string_view text) const override { return tokenizer.normalise(text); }
    token_t bos() const override { return tokenizer.bos(); }
    token_t eos() const override { return tokenizer.eos(); }
    token_t pad() const override { return tokenizer.pad(); }
    token_t unk() const override { return tokenizer.unk(); }
    std::uint64_t hash() const override { return tokenizer.hash(); }
    T tokenizer;
  };

  std::shared_ptr<const Face> tokenizer_;
};
static_assert(Tokenizer<AnyTokenizer>);

}  // namespace storylm
