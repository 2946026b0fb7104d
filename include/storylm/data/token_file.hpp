// SPDX-License-Identifier: MIT
/// @file
/// @brief Tokenized stories in one memory-mapped file with header, checksums and story offsets.
///
/// Layout, little-endian: a header of 128 bytes (TokenFileHeader), the tokens of all stories one after another (uint16
/// when the vocabulary has at most 65536 pieces, else uint32), zero bytes up to a multiple of 8, and stories + 1
/// offsets (uint64, in tokens). Stories carry no BOS and no EOS: the loader adds them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/detail/memory_map.hpp>

namespace storylm {

/// What a token file says about itself.
struct TokenFileInfo {
  index_t vocab_size = 0;            ///< all tokens are below it
  std::uint64_t tokenizer_hash = 0;  ///< Tokenizer::hash() of the tokenizer that made the tokens
  bool lowercase = false;            ///< the text was lower-cased first
  index_t stories = 0;               ///< number of stories
  index_t tokens = 0;                ///< of all stories together, without BOS and EOS
};

namespace detail {

/// The first 128 bytes of a token file as they are on the disk.
struct TokenFileHeader {
  static constexpr std::array<char, 8> expected_magic{'S', 'T', 'O', 'R', 'Y', 'T', 'O', 'K'};
  static constexpr std::uint32_t current_version = 1;

  std::array<char, 8> magic = expected_magic;
  std::uint32_t version = current_version;
  std::uint32_t token_width = 0;  // bytes a token
  std::uint64_t vocab_size = 0;
  std::uint64_t stories = 0;
  std::uint64_t tokens = 0;
  std::uint64_t tokenizer_hash = 0;
  std::uint64_t flags = 0;         // bit 0: lower-cased
  std::uint64_t payload_hash = 0;  // XXH64 of everything after the header
  std::array<std::uint64_t, 7> reserved{};
  std::uint64_t header_hash = 0;  // XXH64 of the 120 bytes before it
};
static_assert(sizeof(TokenFileHeader) == 128 && std::is_trivially_copyable_v<TokenFileHeader>);
static_assert(std::endian::native == std::endian::little, "storylm: files are little-endian");

inline constexpr std::uint64_t max_narrow_vocab = 65536;  // the largest whose ids fit 16 bits

[[nodiscard]] inline std::uint64_t header_hash(const TokenFileHeader& header) {
  return hash64(std::as_bytes(std::span(&header, 1)).first(offsetof(TokenFileHeader, header_hash)));
}
/// Zero bytes between `bytes` of tokens and the offsets.
[[nodiscard]] constexpr std::uint64_t token_padding(std::uint64_t bytes) { return (8 - bytes % 8) % 8; }

}  // namespace detail

/// A token file opened for reading. A cheap handle: copies share the mapping, and any thread may read.
class TokenFile {
 public:
  /// Maps the file and checks header, size and offsets; verify() checks the tokens.
  /// @throws IoError when it cannot be read
  /// @throws FormatError when it is not a whole token file; names file and byte offset
  explicit TokenFile(std::filesystem::path path)
      : path_(std::move(path)), map_(std::make_shared<detail::MemoryMap>(path_, op)) {
    const std::span<const std::byte> bytes = map_->bytes();
    require(bytes.size() >= sizeof(header_), bytes.size(), "the file ends inside the header: it has ", bytes.size(),
            " of at least ", sizeof(header_), " bytes");
    std::memcpy(&header_, bytes.data(), sizeof(header_));
    require(header_.magic == detail::TokenFileHeader::expected_magic, 0, "this is not a token file of prepare_stories");
    require(header_.version == detail::TokenFileHeader::current_version, offsetof(detail::TokenFileHeader, version),
            "format version ", header_.version, ", this program reads version ",
            detail::TokenFileHeader::current_version);
    require(header_.header_hash == detail::header_hash(header_), offsetof(detail::TokenFileHeader, header_hash),
            "the header is damaged: its checksum does not match");
    require(header_.vocab_size > 0 && header_.vocab_size <= 0x7FFFFFFFU, offsetof(detail::TokenFileHeader, vocab_size),
            "a vocabulary of ", header_.vocab_size, " pieces");
    const std::uint32_t width = header_.vocab_size <= detail::max_narrow_vocab ? 2 : 4;
    require(header_.token_width == width, offsetof(detail::TokenFileHeader, token_width), "tokens of ",
            header_.token_width, " bytes, expected ", width);
    // Counts are compared by division first: hostile ones must not overflow the sum below.
    const std::uint64_t payload = bytes.size() - sizeof(header_);
    require(header_.tokens <= payload / width, offsetof(detail::TokenFileHeader, tokens), header_.tokens,
            " tokens do not fit in a file of ", bytes.size(), " bytes");
    require(header_.stories < payload / 8, offsetof(detail::TokenFileHeader, stories), header_.stories,
            " stories do not fit in a file of ", bytes.size(), " bytes");
    const std::uint64_t token_bytes = header_.tokens * width;
    offsets_at_ = sizeof(header_) + token_bytes + detail::token_padding(token_bytes);
    const std::uint64_t expected = offsets_at_ + (header_.stories + 1) * 8;
    require(bytes.size() == expected, std::min<std::uint64_t>(bytes.size(), expected), "the file has ", bytes.size(),
            " bytes, its header asks for ", expected);
    check_offsets();
  }

  /// The file it was opened from.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// What the header says.
  [[nodiscard]] TokenFileInfo info() const noexcept {
    return {.vocab_size = static_cast<index_t>(header_.vocab_size),
            .tokenizer_hash = header_.tokenizer_hash,
            .lowercase = (header_.flags & 1U) != 0,
            .stories = static_cast<index_t>(header_.stories),
            .tokens = static_cast<index_t>(header_.tokens)};
  }
  /// Number of stories.
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(header_.stories); }
  /// Tells this content from any other; a resumed run compares it.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return header_.header_hash; }
  /// Number of tokens of story `story` in [0, size()).
  [[nodiscard]] index_t length(index_t story) const noexcept {
    return static_cast<index_t>(offset(story + 1) - offset(story));
  }

  /// Copies the first `out.size()` tokens of story `story`; at most length(story).
  /// @throws FormatError when one of them is not in the vocabulary: the file was damaged after it was made
  void read(index_t story, std::span<token_t> out) const {
    const std::uint64_t first = offset(story);
    if (header_.token_width == 2) {
      copy<std::uint16_t>(first, out);
    } else {
      copy<std::uint32_t>(first, out);
    }
  }

  /// Has the operating system begin to read the first `count` tokens of story `story` from the disk, if they are not in
  /// memory; waits for nothing. A hint: read() gives the same without it.
  void prefetch(index_t story, index_t count) const noexcept {
    map_->prefetch(static_cast<std::size_t>(sizeof(header_) + offset(story) * header_.token_width),
                   static_cast<std::size_t>(count) * header_.token_width);
  }

  /// Reads the whole file: its checksum, and that every token is in the vocabulary. @throws FormatError
  void verify() const {
    const std::uint64_t hash = detail::hash64(map_->bytes().subspan(sizeof(header_)));
    require(hash == header_.payload_hash, sizeof(header_), "the file is damaged: the checksum of its tokens is ",
            detail::hash_text(hash), ", expected ", detail::hash_text(header_.payload_hash));
    std::vector<token_t> tokens(4096);
    for (std::uint64_t first = 0; first < header_.tokens; first += tokens.size()) {
      const std::span<token_t> out(tokens.data(), std::min<std::uint64_t>(tokens.size(), header_.tokens - first));
      if (header_.token_width == 2) {
        copy<std::uint16_t>(first, out);
      } else {
        copy<std::uint32_t>(first, out);
      }
    }
  }

 private:
  static constexpr std::string_view op = "TokenFile";

  template <class... Parts>
  void require(bool ok, std::uint64_t at, const Parts&... parts) const {
    expects<FormatError>(ok, op, path_, " at byte ", at, ": ", parts...);
  }

  [[nodiscard]] std::uint64_t offset(index_t i) const noexcept {
    std::uint64_t value;
    std::memcpy(&value, map_->bytes().data() + offsets_at_ + static_cast<std::uint64_t>(i) * 8, sizeof(value));
    return value;
  }

  void check_offsets() const {
    std::uint64_t previous = 0;
    for (std::uint64_t i = 0; i <= header_.stories; ++i) {
      const std::uint64_t value = offset(static_cast<index_t>(i));
      const std::uint64_t at = offsets_at_ + i * 8;
      require(i != 0 || value == 0, at, "the first story begins at token ", value, ", expected 0");
      require(value >= previous && value <= header_.tokens, at, "story ", i, " begins at token ", value, ", after ",
              previous, " of ", header_.tokens);
      previous = value;
    }
    require(previous == header_.tokens, offsets_at_ + header_.stories * 8, "the last story ends at token ", previous,
            ", expected ", header_.tokens);
  }

  template <class Stored>
  void copy(std::uint64_t first, std::span<token_t> out) const {
    const std::uint64_t from = sizeof(header_) + first * sizeof(Stored);
    const std::byte* source = map_->bytes().data() + from;
    for (std::size_t i = 0; i < out.size(); ++i) {
      Stored token;
      std::memcpy(&token, source + i * sizeof(Stored), sizeof(Stored));
      require(token < header_.vocab_size, from + i * sizeof(Stored), "token ", token, " is not in the vocabulary of ",
              header_.vocab_size);
      out[i] = static_cast<token_t>(token);
    }
  }

  std::filesystem::path path_;
  std::shared_ptr<const detail::MemoryMap> map_;
  detail::TokenFileHeader header_;
  std::uint64_t offsets_at_ = 0;
};

/// Writes a token file story by story; in memory are the offsets only. The file is complete or absent.
class TokenFileWriter {
 public:
  /// @param path the file that publish() makes
  /// @param info vocab_size, tokenizer_hash and lowercase; the counts are found out
  /// @throws WriteError when the file cannot be made
  TokenFileWriter(std::filesystem::path path, const TokenFileInfo& info) : file_(std::move(path)) {
    expects<ArgumentError>(info.vocab_size > 0 && info.vocab_size <= 0x7FFFFFFF, op,
                           "vocab_size must be in [1, 2147483647]: ", info.vocab_size);
    header_.vocab_size = static_cast<std::uint64_t>(info.vocab_size);
    header_.token_width = header_.vocab_size <= detail::max_narrow_vocab ? 2 : 4;
    header_.tokenizer_hash = info.tokenizer_hash;
    header_.flags = info.lowercase ? 1 : 0;
    file_.write(std::as_bytes(std::span(&header_, 1)));
  }

  /// Appends a story, without BOS and EOS. @throws ArgumentError when a token is not in the vocabulary
  void add(std::span<const token_t> tokens) {
    const std::size_t end = tokens.size();
    add(tokens, std::span(&end, 1));
  }
  /// Appends several stories, which lie one after another in `tokens`; story i of them ends before ends[i].
  /// @throws ArgumentError when a token is not in the vocabulary; then none of them is appended
  void add(std::span<const token_t> tokens, std::span<const std::size_t> ends) {
    check(tokens, ends);
    if (header_.token_width == 2) {
      append_as<std::uint16_t>(tokens);
    } else {
      append_as<std::uint32_t>(tokens);
    }
    for (const std::size_t end : ends) offsets_.push_back(header_.tokens + end);
    header_.tokens += tokens.size();
  }

  /// Completes the file under its temporary name, for publish() or AtomicFile::publish_all(). Nothing follows it.
  detail::AtomicFile& finish() {
    constexpr std::array<std::byte, 8> zeros{};
    append(std::span(zeros).first(detail::token_padding(header_.tokens * header_.token_width)));
    append(std::as_bytes(std::span(offsets_)));
    header_.stories = offsets_.size() - 1;
    header_.payload_hash = payload_hash_.value();
    header_.header_hash = detail::header_hash(header_);
    file_.overwrite(0, std::as_bytes(std::span(&header_, 1)));
    return file_;
  }
  /// finish(), and the file appears. @throws WriteError
  void publish() { finish().publish(); }

  /// Tokens added so far.
  [[nodiscard]] index_t tokens() const noexcept { return static_cast<index_t>(header_.tokens); }

 private:
  static constexpr std::string_view op = "TokenFileWriter";

  void check(std::span<const token_t> tokens, std::span<const std::size_t> ends) const {
    // As unsigned numbers: a negative one is too large too.
    std::uint32_t largest = 0;
    for (const token_t token : tokens) largest = std::max(largest, static_cast<std::uint32_t>(token));
    if (largest < header_.vocab_size) return;
    const auto bad = std::find_if(tokens.begin(), tokens.end(), [this](token_t token) {
      return static_cast<std::uint32_t>(token) >= header_.vocab_size;
    });
    const auto story = std::upper_bound(ends.begin(), ends.end(), static_cast<std::size_t>(bad - tokens.begin()));
    detail::fail<ArgumentError>(op, "story ", static_cast<std::ptrdiff_t>(offsets_.size()) - 1 + (story - ends.begin()),
                                " holds token ", *bad, ", the vocabulary has ", header_.vocab_size);
  }

  template <class Stored>
  void append_as(std::span<const token_t> tokens) {
    narrowed_.resize(tokens.size() * sizeof(Stored));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto token = static_cast<Stored>(tokens[i]);
      std::memcpy(narrowed_.data() + i * sizeof(Stored), &token, sizeof(Stored));
    }
    append(narrowed_);
  }

  void append(std::span<const std::byte> bytes) {
    payload_hash_.update(bytes);
    file_.write(bytes);
  }

  detail::AtomicFile file_;
  detail::TokenFileHeader header_;
  detail::Hash64 payload_hash_;
  std::vector<std::uint64_t> offsets_{0};
  std::vector<std::byte> narrowed_;
};

/// Stories held in memory: what a TokenFile is, for one's own token ids. Copies share them.
class TokenLists {
 public:
  /// Story i is the token ids stories[i], without BOS and EOS.
  explicit TokenLists(std::vector<std::vector<token_t>> stories)
      : stories_(std::make_shared<const std::vector<std::vector<token_t>>>(std::move(stories))) {
    detail::Hash64 hash;
    for (const std::vector<token_t>& story : *stories_) {
      const std::uint64_t length = story.size();
      hash.update(std::as_bytes(std::span(&length, 1)));
      hash.update(std::as_bytes(std::span(story)));
    }
    fingerprint_ = hash.value();
  }
  /// Number of stories.
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(stories_->size()); }
  /// Tells these stories from any others.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }
  /// Number of tokens of story `story`.
  [[nodiscard]] index_t length(index_t story) const noexcept { return static_cast<index_t>(list(story).size()); }
  /// Copies the first `out.size()` tokens of story `story`; at most length(story).
  void read(index_t story, std::span<token_t> out) const { std::copy_n(list(story).begin(), out.size(), out.begin()); }

 private:
  [[nodiscard]] const std::vector<token_t>& list(index_t story) const noexcept {
    return (*stories_)[static_cast<std::size_t>(story)];
  }

  std::shared_ptr<const std::vector<std::vector<token_t>>> stories_;
  std::uint64_t fingerprint_ = 0;
};

/// Where a StoryLoader gets stories from: a cheap handle whose copies share the data.
template <class S>
concept StorySource = std::copyable<S> && requires(const S& source, index_t story, std::span<token_t> out) {
  { source.size() } -> std::same_as<index_t>;
  { source.fingerprint() } -> std::same_as<std::uint64_t>;
  { source.length(story) } -> std::same_as<index_t>;
  source.read(story, out);
};
static_assert(StorySource<TokenFile> && StorySource<TokenLists>);

}  // namespace storylm
