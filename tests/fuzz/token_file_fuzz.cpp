// SPDX-License-Identifier: MIT
/// @file
/// @brief Token files: what opens gives all its stories; what verifies does so without an error.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/data/token_file.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

void read_all(const std::filesystem::path& path) {
  static_cast<void>(refusal(
      [&] {
        const TokenFile file(path);
        const bool whole = refusal([&] { file.verify(); }, path.string()).empty();
        must(file.info().stories == file.size(), "the stories of info()");
        index_t tokens = 0;
        std::vector<token_t> story;
        for (index_t i = 0; i < file.size(); ++i) {
          must(file.length(i) >= 0 && tokens + file.length(i) <= file.info().tokens, "a story beyond the tokens");
          tokens += file.length(i);
          story.resize(static_cast<std::size_t>(file.length(i)));
          file.prefetch(i, file.length(i));
          const std::string message = refusal([&] { file.read(i, story); }, path.string());
          must(message.empty() || !whole, "a verified file that cannot be read", message);
          if (!message.empty()) continue;
          for (const token_t token : story)
            must(token >= 0 && token < file.info().vocab_size, "a token beyond the vocabulary");
        }
        must(tokens == file.info().tokens, "tokens of no story");
      },
      path.string()));
}

}  // namespace

void run(std::string_view input) {
  read_all(folder().write("x.tokens", input));
  // The same with checksums that are right: else nothing behind them is ever reached.
  detail::TokenFileHeader header;
  if (input.size() < sizeof header) return;
  std::memcpy(&header, input.data(), sizeof header);
  header.payload_hash = detail::hash64(input.substr(sizeof header));
  header.header_hash = detail::header_hash(header);
  std::string bytes(input);
  std::memcpy(bytes.data(), &header, sizeof header);
  read_all(folder().write("x.tokens", bytes));
  // And with counts that ask for the file's size, as far as that can be had.
  header.version = detail::TokenFileHeader::current_version;
  header.magic = detail::TokenFileHeader::expected_magic;
  header.token_width = header.vocab_size <= detail::max_narrow_vocab ? 2 : 4;
  const std::uint64_t rest = input.size() - sizeof header;
  if (rest < 8) return;
  header.stories %= rest / 8;
  header.tokens = (rest - (header.stories + 1) * 8) / header.token_width;
  header.header_hash = detail::header_hash(header);
  std::memcpy(bytes.data(), &header, sizeof header);
  read_all(folder().write("x.tokens", bytes));
}

void seeds(Seeds& made) {
  for (const index_t vocabulary : {300, 70000}) {
    TokenFileWriter writer(folder().path() / "seed",
                           {.vocab_size = vocabulary, .tokenizer_hash = 7, .lowercase = true});
    const std::vector<token_t> story{1, 2, 299, 0, 5};
    writer.add(story);
    writer.add(std::span(story).first(0));
    writer.add(std::span(story).first(2));
    writer.publish();
    made.add_file(folder().path() / "seed");
  }
  TokenFileWriter(folder().path() / "seed", {.vocab_size = 1}).publish();
  made.add_file(folder().path() / "seed");
  made.words({"STORYTOK"});
}

}  // namespace storylm::fuzz
