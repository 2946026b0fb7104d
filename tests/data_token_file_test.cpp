// SPDX-License-Identifier: MIT
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <storylm/core/random.hpp>
#include <storylm/data/token_file.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

using Stories = std::vector<std::vector<token_t>>;

Stories random_stories(index_t vocab_size) {
  Stories stories;
  RandomStream random(3);
  for (std::size_t i = 0; i < 60; ++i) {
    stories.emplace_back(i % 7 == 0 ? 0 : static_cast<std::size_t>(random.below(300)));
    for (token_t& token : stories.back())
      token = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
  }
  stories[1].assign(1, static_cast<token_t>(vocab_size - 1));
  return stories;
}

void write(const std::filesystem::path& path, const Stories& stories, index_t vocab_size) {
  TokenFileWriter writer(path, {.vocab_size = vocab_size, .tokenizer_hash = 0xFEEDU, .lowercase = true});
  for (const auto& story : stories) writer.add(story);
  writer.publish();
}

/// Changes the header and makes its checksum right again: what a hostile file would do.
template <class Change>
void forge(const std::filesystem::path& path, const Change& change) {
  std::string bytes = read_bytes(path);
  detail::TokenFileHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  change(header);
  header.header_hash = detail::header_hash(header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  write_bytes(path, bytes);
}

std::string open_error(const std::filesystem::path& path) {
  return error_of<FormatError>([&] { TokenFile file(path); });
}

}  // namespace

TEST_CASE("stories come back as they were written, in 16 or 32 bits") {
  const TemporaryFolder folder;
  for (const index_t vocab_size : {index_t{5120}, index_t{65536}, index_t{65537}, index_t{200000}}) {
    CAPTURE(vocab_size);
    const Stories stories = random_stories(vocab_size);
    write(folder / "t", stories, vocab_size);
    const TokenFile file(folder / "t");
    file.verify();
    CHECK(file.info().vocab_size == vocab_size);
    CHECK(file.info().tokenizer_hash == 0xFEEDU);
    CHECK(file.info().lowercase);
    REQUIRE(file.size() == static_cast<index_t>(stories.size()));
    index_t tokens = 0;
    for (std::size_t i = 0; i < stories.size(); ++i) {
      std::vector<token_t> story(static_cast<std::size_t>(file.length(static_cast<index_t>(i))));
      file.read(static_cast<index_t>(i), story);
      CHECK(story == stories[i]);
      tokens += file.length(static_cast<index_t>(i));
    }
    CHECK(file.info().tokens == tokens);
    const std::uint64_t width = vocab_size <= 65536 ? 2 : 4;
    const std::uint64_t token_bytes = (static_cast<std::uint64_t>(tokens) * width + 7) / 8 * 8;
    CHECK(std::filesystem::file_size(folder / "t") == 128 + token_bytes + (stories.size() + 1) * 8);
  }
}

TEST_CASE("several stories at once give the file of one after another; a token too large is none of its stories") {
  for (const index_t vocab_size : {index_t{500}, index_t{70'000}}) {
    const TemporaryFolder folder;
    const Stories stories = random_stories(vocab_size);
    write(folder / "one_by_one", stories, vocab_size);
    TokenFileWriter writer(folder / "at_once",
                           {.vocab_size = vocab_size, .tokenizer_hash = 0xFEEDU, .lowercase = true});
    for (std::size_t first = 0; first < stories.size(); first += 7) {
      std::vector<token_t> tokens;
      std::vector<std::size_t> ends;
      for (std::size_t i = first; i < std::min(first + 7, stories.size()); ++i) {
        tokens.insert(tokens.end(), stories[i].begin(), stories[i].end());
        ends.push_back(tokens.size());
      }
      writer.add(tokens, ends);
      const index_t before = writer.tokens();
      for (const token_t bad : {static_cast<token_t>(vocab_size), token_t{-1}}) {
        const std::vector<token_t> wrong{1, 2, bad, 3};
        const std::vector<std::size_t> wrong_ends{1, 2, 2, 4};
        const std::string error = error_of<ArgumentError>([&] { writer.add(wrong, wrong_ends); });
        CHECK(contains(error, "story " + std::to_string(std::min(first + 7, stories.size()) + 3) + " holds token " +
                                  std::to_string(bad) + ", the vocabulary has " + std::to_string(vocab_size)));
        CHECK(writer.tokens() == before);
      }
    }
    writer.add({}, {});
    writer.publish();
    CHECK(read_bytes(folder / "at_once") == read_bytes(folder / "one_by_one"));
  }
}

TEST_CASE("what is read ahead is in memory before it is touched") {
  const TemporaryFolder folder;
  constexpr index_t stories = 1'000'000;  // of 20 tokens: 48 MB, more than is read around what open() looks at
  {
    TokenFileWriter writer(folder / "t", {.vocab_size = 500});
    std::vector<token_t> tokens(20 * 10'000, 7);
    std::vector<std::size_t> ends(10'000);
    for (std::size_t i = 0; i < ends.size(); ++i) ends[i] = 20 * (i + 1);
    for (index_t i = 0; i < stories; i += 10'000) writer.add(tokens, ends);
    writer.publish();
  }
  const detail::InputFile input(folder / "t", "test");
  REQUIRE(::posix_fadvise(input.descriptor(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  const TokenFile file(folder / "t");
  const detail::MemoryMap map(folder / "t", "test");
  constexpr index_t story = stories / 2;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t at = (sizeof(detail::TokenFileHeader) + 40 * static_cast<std::size_t>(story)) / page * page;
  const auto in_memory = [&] {
    unsigned char resident = 0;
    void* const address = const_cast<std::byte*>(map.bytes().data() + at);
    REQUIRE(::mincore(address, page, &resident) == 0);
    return (resident & 1U) != 0;
  };
  if (in_memory()) {
    MESSAGE("skipped: this file system keeps files in memory");
    return;
  }
  file.prefetch(story, 20);
  for (int wait = 0; wait < 5000 && !in_memory(); ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(in_memory());
}

TEST_CASE("reading ahead changes nothing, at the ends of the file and for empty stories too") {
  const TemporaryFolder folder;
  const Stories stories = random_stories(500);
  write(folder / "t", stories, 500);
  const TokenFile file(folder / "t");
  for (index_t i = 0; i < file.size(); ++i) file.prefetch(i, file.length(i));
  for (index_t i = 0; i < file.size(); ++i) {
    std::vector<token_t> story(static_cast<std::size_t>(file.length(i)));
    file.read(i, story);
    CHECK(story == stories[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("a file without stories is a file") {
  const TemporaryFolder folder;
  write(folder / "t", {}, 10);
  const TokenFile file(folder / "t");
  file.verify();
  CHECK(file.size() == 0);
}

TEST_CASE("the writer refuses tokens outside the vocabulary, and then leaves nothing") {
  const TemporaryFolder folder;
  for (const token_t wrong : {-1, 10}) {
    const std::string message = error_of<ArgumentError>([&] { write(folder / "t", {{1, 2}, {3, wrong}}, 10); });
    CHECK(contains(message, "story 1 holds token " + std::to_string(wrong) + ", the vocabulary has 10"));
  }
  CHECK(std::filesystem::is_empty(folder.path()));
  CHECK_THROWS_AS(write(folder / "t", {}, 0), ArgumentError);
}

TEST_CASE("a file cut off anywhere, or longer than it says, is refused") {
  const TemporaryFolder folder;
  write(folder / "t", random_stories(5120), 5120);
  const std::string whole = read_bytes(folder / "t");
  for (std::size_t length = 0; length < whole.size(); length += length < 200 ? 1 : 97) {
    write_bytes(folder / "cut", std::string_view(whole).substr(0, length));
    CAPTURE(length);
    CHECK(contains(open_error(folder / "cut"), "at byte "));
  }
  write_bytes(folder / "long", whole + "x");
  CHECK(contains(open_error(folder / "long"), "its header asks for"));
}

TEST_CASE("any changed byte is found: in header and offsets at once, in tokens by verify()") {
  const TemporaryFolder folder;
  write(folder / "t", {{1, 2, 3}, {}, {4, 5, 6, 7}}, 5120);
  const std::string whole = read_bytes(folder / "t");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    write_bytes(folder / "changed", whole);
    poke(folder / "changed", at, static_cast<char>(whole[at] ^ 0x10));
    CAPTURE(at);
    CHECK_THROWS_AS(TokenFile(folder / "changed").verify(), FormatError);
  }
}

TEST_CASE("hostile headers are refused, naming file, byte and reason") {
  const TemporaryFolder folder;
  const auto forged = [&](const auto& change) {
    write(folder / "t", {{1, 2, 3}, {4, 5, 6, 7}}, 5120);
    forge(folder / "t", change);
    const std::string message = open_error(folder / "t");
    CHECK(contains(message, (folder / "t").string()));
    return message;
  };
  using Header = detail::TokenFileHeader;
  constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t count :
       {huge, huge / 2, huge / 8, huge / 8 + 1, std::uint64_t{1} << 62U, std::uint64_t{1000}}) {
    CAPTURE(count);
    CHECK(contains(forged([&](Header& h) { h.tokens = count; }), "at byte 32"));
    CHECK(contains(forged([&](Header& h) { h.stories = count; }), "at byte 24"));
  }
  CHECK(contains(forged([](Header& h) { h.stories = 1; }), "its header asks for"));
  CHECK(contains(forged([](Header& h) { h.version = 9; }), "format version 9, this program reads version 1"));
  CHECK(contains(forged([](Header& h) { h.token_width = 0; }), "tokens of 0 bytes, expected 2"));
  CHECK(contains(forged([](Header& h) { h.token_width = 4; }), "tokens of 4 bytes, expected 2"));
  CHECK(contains(forged([](Header& h) { h.vocab_size = 0; }), "a vocabulary of 0 pieces"));
  CHECK(contains(forged([](Header& h) { h.vocab_size = huge; }), "a vocabulary of"));
  CHECK(contains(forged([](Header& h) { h.magic[0] = 'X'; }), "not a token file"));
  // Fewer pieces than the tokens use: found when they are read, and by verify().
  write(folder / "t", {{1, 2, 3}, {4, 5, 6, 7}}, 5120);
  forge(folder / "t", [](Header& h) { h.vocab_size = 6; });
  const TokenFile file(folder / "t");
  std::vector<token_t> story(4);
  CHECK(contains(error_of<FormatError>([&] { file.read(1, story); }), "token 6 is not in the vocabulary of 6"));
  CHECK_THROWS_AS(file.verify(), FormatError);
}

TEST_CASE("offsets that overlap, run backwards or leave the file are refused") {
  const TemporaryFolder folder;
  const auto offsets = [&](std::vector<std::uint64_t> values) {
    write(folder / "t", {{1, 2, 3, 4}, {5, 6, 7, 8}}, 5120);
    std::string bytes = read_bytes(folder / "t");
    std::memcpy(bytes.data() + bytes.size() - values.size() * 8, values.data(), values.size() * 8);
    write_bytes(folder / "t", bytes);
    return open_error(folder / "t");
  };
  CHECK(offsets({0, 4, 8}).empty());
  CHECK(contains(offsets({1, 4, 8}), "the first story begins at token 1"));
  CHECK(contains(offsets({0, 9, 8}), "story 1 begins at token 9"));
  CHECK(contains(offsets({0, 4, 3}), "story 2 begins at token 3, after 4"));
  CHECK(contains(offsets({0, 4, 7}), "the last story ends at token 7, expected 8"));
  CHECK(contains(offsets({0, ~std::uint64_t{0}, 8}), "story 1 begins"));
}

TEST_CASE("folders, missing files and text are no token files") {
  const TemporaryFolder folder;
  CHECK(contains(error_of<IoError>([&] { TokenFile file(folder.path()); }), "is a folder"));
  CHECK(contains(error_of<IoError>([&] { TokenFile file(folder / "none"); }), "No such file"));
  write_bytes(folder / "text", std::string(500, 'x'));
  CHECK(contains(open_error(folder / "text"), "this is not a token file"));
}

TEST_CASE("fingerprints tell contents apart") {
  const TemporaryFolder folder;
  write(folder / "a", {{1, 2}, {3}}, 10);
  write(folder / "b", {{1}, {2, 3}}, 10);
  write(folder / "c", {{1, 2}, {3}}, 10);
  CHECK(TokenFile(folder / "a").fingerprint() == TokenFile(folder / "c").fingerprint());
  CHECK(TokenFile(folder / "a").fingerprint() != TokenFile(folder / "b").fingerprint());
  CHECK(TokenLists({{1, 2}, {3}}).fingerprint() != TokenLists({{1}, {2, 3}}).fingerprint());
}
