// SPDX-License-Identifier: MIT
// Runs the program as a user does.
// LINK: io sentencepiece
// TIMEOUT: 300
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <storylm/data/token_file.hpp>
#include <storylm/text/sentencepiece.hpp>

#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

/// Runs `prefix prepare_stories flags`.
Result prepare(const std::string& flags, const std::string& prefix = "") {
  const TemporaryFolder folder;
  const std::string command = prefix + " '" STORYLM_BIN_DIR "/prepare_stories' " + flags + " > '" +
                              (folder / "out").string() + "' 2> '" + (folder / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(folder / "out"), read_bytes(folder / "err")};
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}
std::ptrdiff_t line_count(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }
std::size_t files_in(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder)) return 0;
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

std::string story(std::size_t i) {
  const std::vector<std::string> who{"Lily", "Ben", "Tom", "Anna", "the big dog", "a small bird"};
  const std::vector<std::string> what{"ran", "played", "slept", "sang", "was happy", "saw a tree"};
  std::ostringstream text;
  text << "Once upon a time, " << who[i % 6] << ' ' << what[i / 6 % 6] << ".\\nThen " << who[i / 36 % 6] << ' '
       << what[i / 5 % 6] << ". The End " << i << '.';
  return text.str();
}

/// Two shards of stories, some of which need cleaning.
void write_shards(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (std::size_t shard = 0; shard < 2; ++shard) {
    std::string json = "[";
    for (std::size_t i = 0; i < 100; ++i) {
      json += (i == 0 ? "" : ", ") + std::string("{\"story\": \"\\n\\n") + story(100 * shard + i) +
              "\", \"instruction\": {\"prompt:\": \"Write\", \"features\": []}, \"source\": \"GPT-4\"}";
    }
    write_bytes(folder / ("data0" + std::to_string(shard) + ".json"), json + ", {\"story\": \" \\n\"}]");
  }
}

std::string paths(const std::filesystem::path& input, const std::filesystem::path& output) {
  return "--input '" + input.string() + "' --output-dir '" + output.string() + "'";
}

const std::vector<std::string> outputs{"bpe.model", "bpe.settings.json", "bpe.vocab", "stories.tokens", "stories.txt"};

}  // namespace

TEST_CASE("shards become stories, tokenizer and tokens; threads change nothing; a tokenizer that is there is used") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  const Result first = prepare(paths(folder / "shards", folder / "a") + " --vocab-size 320 --threads 1");
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(contains(first.out, "stories     200"));
  CHECK(contains(first.out, "320 pieces, trained in"));
  CHECK(contains(first.out, "peak memory"));
  CHECK(contains(first.err, "200  stories kept"));
  CHECK(contains(first.err, "2  stories dropped: empty"));
  CHECK(files_in(folder / "a") == outputs.size());

  const std::vector<std::string> stories = lines_of(folder / "a/stories.txt");
  REQUIRE(stories.size() == 200);
  CHECK(stories[7] == "Once upon a time, Ben played. Then Lily played. The End 7.");
  const auto tokenizer = SentencePieceTokenizer::load(folder / "a/bpe.model");
  CHECK(lines_of(folder / "a/bpe.vocab").size() == 320);
  CHECK(lines_of(folder / "a/bpe.vocab")[2] == "</s>\t0");
  const TokenFile tokens(folder / "a/stories.tokens");
  tokens.verify();
  CHECK(tokens.info().tokenizer_hash == tokenizer.hash());
  CHECK(tokens.info().vocab_size == 320);
  REQUIRE(tokens.size() == 200);
  for (std::size_t i = 0; i < stories.size(); ++i) {
    std::vector<token_t> ids(static_cast<std::size_t>(tokens.length(static_cast<index_t>(i))));
    tokens.read(static_cast<index_t>(i), ids);
    CHECK(tokenizer.decode(ids) == stories[i]);
  }

  CHECK(prepare(paths(folder / "shards", folder / "b") + " --vocab-size 320 --threads 2").code == 0);
  CHECK(prepare(paths(folder / "shards", folder / "c") + " --vocab-size 320 --threads 5").code == 0);
  const Result again = prepare(paths(folder / "shards", folder / "a") + " --vocab-size 320");
  CHECK(again.code == 0);
  CHECK(contains(again.out, "the one that was there"));
  for (const std::string& name : outputs) {
    CAPTURE(name);
    CHECK(read_bytes(folder / ("a/" + name)) == read_bytes(folder / ("b/" + name)));
    CHECK(read_bytes(folder / ("a/" + name)) == read_bytes(folder / ("c/" + name)));
  }
}

TEST_CASE("--lowercase lower-cases stories and is recorded; --max-stories stops early") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  REQUIRE(prepare(paths(folder / "shards", folder / "a") + " --vocab-size 320 --lowercase --max-stories 150").code ==
          0);
  const std::vector<std::string> stories = lines_of(folder / "a/stories.txt");
  CHECK(stories.size() == 150);
  CHECK(stories[0] == "once upon a time, lily ran. then lily ran. the end 0.");
  CHECK(SentencePieceTokenizer::load(folder / "a/bpe.model").lowercase());
  CHECK(TokenFile(folder / "a/stories.tokens").info().lowercase);
  const Result mixed = prepare(paths(folder / "shards", folder / "a") + " --vocab-size 320");
  CHECK(mixed.code == 2);
  CHECK(contains(mixed.err, "is for lower-cased text: --lowercase is missing"));
}

TEST_CASE("text files are read too, and without byte fallback unknown characters are UNK") {
  const TemporaryFolder folder;
  std::string text;
  for (std::size_t i = 0; i < 200; ++i) text += story(i) + "\r\n<|endoftext|>\r\n";
  write_bytes(folder / "a.txt", text);
  REQUIRE(prepare(paths(folder / "a.txt", folder / "a") + " --vocab-size 70 --no-byte-fallback").code == 0);
  CHECK(lines_of(folder / "a/stories.txt").size() == 200);
  const auto tokenizer = SentencePieceTokenizer::load(folder / "a/bpe.model");
  CHECK(tokenizer.decode(tokenizer.encode("Lily 中")) == "Lily  \u2047 ");
  CHECK(contains(prepare(paths(folder / "a.txt", folder / "a") + " --vocab-size 70").err,
                 "--no-byte-fallback is missing"));
}

TEST_CASE("bad flags and bad files end with one line and exit code 2, and write nothing") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  write_bytes(folder / "cut.json", "[{\"story\": \"One.\"}, {\"story\": \"Two");
  write_bytes(folder / "none.json", "[{\"story\": \"One.\"}, {\"tale\": \"Two\"}]");
  write_bytes(folder / "empty.txt", "");
  write_bytes(folder / "file", "");
  struct Case {
    std::string flags;
    std::string expected;
  };
  const std::string out = (folder / "out").string();
  const std::string good = paths(folder / "shards", folder / "out");
  for (const Case& c : std::vector<Case>{
           {"", "--input is required"},
           {good + " --nonsense", "--nonsense"},
           {good + " --vocab-size many", "--vocab-size"},
           {good + " --vocab-size 0", "--vocab-size must be positive: 0"},
           {good + " --vocab-size 100", "a vocabulary of 100 is too small"},
           {good + " --max-stories -1", "--max-stories must not be negative: -1"},
           {good + " --threads -1", "--threads must be in [0, 4096]: -1"},
           {paths(folder / "nothing", out), "No such file or directory"},
           {paths(folder / "file", out), "is neither a folder nor a .json or .txt file"},
           {paths(folder / "cut.json", out), "cut.json\" at byte 34: the file ends inside a record"},
           {paths(folder / "none.json", out), "none.json\" at byte 20: the record has no \"story\""},
           {paths(folder / "empty.txt", out), "there is not one story in the input"},
           {paths(folder / "shards", folder / "file"), "cannot make the folder"},
       }) {
    CAPTURE(c.flags);
    const Result result = prepare(c.flags);
    CHECK(result.code == 2);
    CHECK(result.out == "");
    CHECK(line_count(result.err) == 1);
    CHECK(result.err.starts_with("prepare_stories: "));
    CHECK(contains(result.err, c.expected));
    CHECK(files_in(folder / "out") == 0);
  }
}

TEST_CASE("of several bad shards the first in their order is named, whatever the number of threads") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  std::string large = read_bytes(folder / "shards/data00.json");  // several blocks, and the bad record in its last
  large.resize(large.rfind(", {"));
  const std::string records = large.substr(1);
  while (large.size() < 2'000'000) large += ", " + records;
  write_bytes(folder / "shards/data02.json", large + ", {\"tale\": 1}]");
  write_bytes(folder / "shards/data03.json", "[{\"story\": 5}]");
  for (const std::string threads : {"1", "2", "5"}) {
    const Result result = prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320 --threads " + threads);
    CHECK(result.code == 2);
    CHECK(line_count(result.err) == 1);
    CHECK(contains(result.err, "data02.json\" at byte " + std::to_string(large.size() + 2) + ": the record has no"));
    CHECK(files_in(folder / "out") == 0);
  }
}

TEST_CASE("memory does not grow with the input") {
  const TemporaryFolder folder;
  const auto peak = [&](std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += story(text.size() % 977) + "\n";
    write_bytes(folder / "a.txt", text);
    // A sample of everything would grow too; so the tokenizer is made once, from little.
    const Result result = prepare(paths(folder / "a.txt", folder / "out") + " --vocab-size 320 --threads 2");
    REQUIRE(result.code == 0);
    const std::string_view before = "peak memory ";
    return std::stod(result.out.substr(result.out.find(before) + before.size()));  // MB
  };
  (void)peak(200'000);
  const double little = peak(8'000'000);
  CHECK(peak(64'000'000) < little + 20.0 + 8.0);  // 8: offsets, 8 bytes a story
}

TEST_CASE("a vocabulary too large names the largest possible one, which works") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  const Result result = prepare(paths(folder / "shards", folder / "out"));  // 5120
  CHECK(result.code == 2);
  const std::string_view before = "the largest possible one has ";
  REQUIRE(contains(result.err, before));
  CHECK(files_in(folder / "out") == 0);
  const std::string largest = std::to_string(std::stol(result.err.substr(result.err.find(before) + before.size())));
  CHECK(prepare(paths(folder / "shards", folder / "out") + " --vocab-size " + largest).code == 0);
  const Result other = prepare(paths(folder / "shards", folder / "out") + " --vocab-size 300");
  CHECK(other.code == 2);
  CHECK(contains(other.err, "has " + largest + " pieces, --vocab-size asks for 300"));
}

TEST_CASE("--keep-going keeps what can be kept and says what was lost") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  write_bytes(folder / "shards/data02.json",
              "[{\"story\": \"One.\"}, {\"tale\": \"Two\"}, {\"story\": \"Three.\"}, {\"story");
  const Result result = prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320 --keep-going");
  CHECK(result.code == 0);
  CHECK(lines_of(folder / "out/stories.txt").size() == 202);
  CHECK(contains(result.err, "data02.json\" at byte 20: the record has no \"story\""));
  CHECK(contains(result.err, "the rest of the shard is lost: 7 bytes"));
  CHECK(contains(result.err, "1  records dropped: no string \"story\""));
  CHECK(contains(result.err, "1  shards cut off at a syntax error"));
}

TEST_CASE("what an interrupted run left is no obstacle, and another run at the same time is noticed") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  std::filesystem::create_directory(folder / "out");
  write_bytes(folder / "out/.stories.txt.partial", std::string(100'000, 'x'));
  write_bytes(folder / "out/.stories.tokens.partial", "x");
  write_bytes(folder / "out/stories.txt", "an older one\n");
  CHECK(prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320").code == 0);
  CHECK(files_in(folder / "out") == outputs.size());
  CHECK(lines_of(folder / "out/stories.txt").size() == 200);

  detail::AtomicFile other(folder / "out/stories.txt");
  const Result result = prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320");
  CHECK(result.code == 1);
  CHECK(contains(result.err, "another program is writing"));
}

TEST_CASE("when the disk is full the exit code is 1 and the old files are untouched") {
  const TemporaryFolder folder;
  write_shards(folder / "shards");
  REQUIRE(prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320 --max-stories 50").code == 0);
  const std::string before = read_bytes(folder / "out/stories.tokens");
  // The size of files is limited to 4 KiB.
  const Result result = prepare(paths(folder / "shards", folder / "out") + " --vocab-size 320", "ulimit -f 8;");
  CHECK(result.code == 1);
  CHECK(contains(result.err, "cannot write"));
  CHECK(read_bytes(folder / "out/stories.tokens") == before);
  CHECK(files_in(folder / "out") == outputs.size());
}

TEST_CASE("SIGINT and SIGTERM end it with 130 and 143, and nothing half is left") {
  const TemporaryFolder folder;
  std::string text;
  while (text.size() < 40'000'000) text += story(text.size()) + "\n";
  write_bytes(folder / "large.txt", text);
  for (const int code : {130, 143}) {
    CAPTURE(code);
    const std::string signal = code == 130 ? "INT" : "TERM";
    const Result result = prepare(paths(folder / "large.txt", folder / "out") + " --vocab-size 320",
                                  std::string("timeout --preserve-status -s ") + signal + " 0.15");
    CHECK(result.code == code);
    CHECK(contains(result.err, "stopped; nothing was written"));
    CHECK(files_in(folder / "out") == 0);
  }
}

TEST_CASE("one story of many megabytes needs little more memory than itself") {
  const TemporaryFolder folder;
  std::string json = "[{\"story\": \"";
  while (json.size() < 20'000'000) json += story(json.size());
  write_bytes(folder / "a.json", json + "\"}]");
  const Result result = prepare(paths(folder / "a.json", folder / "out") + " --vocab-size 320 --threads 1");
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(lines_of(folder / "out/stories.txt").size() == 1);
  const std::string_view before = "peak memory ";
  REQUIRE(contains(result.out, before));
  CHECK(std::stod(result.out.substr(result.out.find(before) + before.size())) < 500.0);  // MB
}

TEST_CASE("--help explains every flag with its default") {
  const Result result = prepare("--help");
  CHECK(result.code == 0);
  for (const std::string_view flag : {"--input", "--output-dir", "--vocab-size", "5120", "--max-stories", "--lowercase",
                                      "--no-byte-fallback", "--keep-going", "--threads", "--seed"}) {
    CHECK(contains(result.out, flag));
  }
}
