// SPDX-License-Identifier: MIT
// LINK: io
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <storylm/data/stories.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
using Strings = std::vector<std::string>;

namespace {

Strings read_all(StoryReader& reader) {
  Strings stories;
  for (std::string story; reader.next(story);) stories.push_back(story);
  return stories;
}
Strings read_all(const std::vector<std::filesystem::path>& inputs, StoryReaderOptions options = {}) {
  StoryReader reader(inputs, options);
  return read_all(reader);
}
/// The stories of a file of that name with that content.
Strings stories_of(std::string_view name, std::string_view content) {
  const TemporaryFolder folder;
  write_bytes(folder / name, content);
  return read_all({folder / name});
}
std::string failure(std::string_view content) {
  return error_of([&] { (void)stories_of("shard.json", content); });
}

}  // namespace

TEST_CASE("the stories of a shard come in order; other keys are ignored") {
  CHECK(stories_of("a.json", "[]").empty());
  CHECK(stories_of("a.json", " [ ] \n").empty());
  CHECK(stories_of("a.json", R"([{"story": "One."}, {"a": [{"story": "no"}], "story": "Two.", "instruction": {"prompt:":
    "x", "words": ["story", "}", "]"], "features": [], "story": "no"}, "n": [1, -2.5e3, true, null]}])") ==
        Strings{"One.", "Two."});
  CHECK(stories_of("a.json", "\xEF\xBB\xBF[{\"story\":\"after a byte order mark\"}]") ==
        Strings{"after a byte order mark"});
  CHECK(stories_of("a.json", R"([{"story": ""}, {"st\u006fry": "by an escape"}])") == Strings{"", "by an escape"});
}

TEST_CASE("escapes, invalid UTF-8 and lone surrogates do not end a shard") {
  CHECK(stories_of("a.json", R"([{"story": "\n\n\"Hi\" \\ \/ \t \u00e9 \ud83d\ude00"}])") ==
        Strings{"\n\n\"Hi\" \\ / \t \u00E9 \U0001F600"});
  CHECK(stories_of("a.json",
                   "[{\"story\": \"a\xFF"
                   "b\xC3\"}, {\"story\": \"c\"}]") == Strings{"a\xFF"
                                                               "b\xC3",
                                                               "c"});
  CHECK(stories_of(
            "a.json",
            R"([{"story": "a\ud83d b\udc00\ud83d\ude00"}, {"story": "\\ud83d"}, {"x": "\ud800", "story": "c"}])") ==
        Strings{"a\uFFFD b\uFFFD\U0001F600", "\\ud83d", "c"});
}

TEST_CASE("records and files larger than the read buffer are read whole") {
  std::string shard = "[";
  Strings expected;
  for (std::size_t size :
       {std::size_t{10}, std::size_t{1} << 20U, (std::size_t{1} << 20U) - 30, std::size_t{5'000'000}, std::size_t{3}}) {
    expected.emplace_back(size, static_cast<char>('a' + expected.size()));
    for (std::size_t i = 100; i < size; i += 1000) expected.back()[i] = '\n';
    std::string escaped;
    for (const char c : expected.back()) escaped += c == '\n' ? std::string("\\n") : std::string(1, c);
    shard += (expected.size() > 1 ? ", " : "") + ("{\"story\": \"" + escaped + "\"}");
  }
  CHECK(stories_of("a.json", shard + "]") == expected);
}

TEST_CASE("errors in a shard name the file, the byte and the reason") {
  CHECK(contains(failure(""), "shard.json\" at byte 0: expected ["));
  CHECK(contains(failure("{\"story\": \"x\"}"), "at byte 0: expected ["));
  CHECK(contains(failure("[{\"story\": \"x\"}"), "at byte 15: the file ends before ]"));
  CHECK(contains(failure("[{\"story\": \"x\"} {\"story\": \"y\"}]"), "at byte 16: expected , or ]"));
  CHECK(contains(failure("[{\"story\": \"x\"}] x"), "at byte 17: there is more after the array"));
  CHECK(contains(failure("[{\"story\": \"x\"}, "), "the file ends inside a record"));
  CHECK(contains(failure("[{\"story\": \"x\"}, {\"story\": \"y"), "the file ends inside a record"));
  CHECK(contains(failure("[{\"story\": \"x\"}, {\"story\": }]"), "at byte 27: not JSON"));
  CHECK(contains(failure("[{\"story\": \"x\"},]"), "at byte 16"));
  CHECK(contains(failure("[{\"story\": \"a\nb\"}]"), "at byte 13: not JSON"));
  CHECK(contains(failure("[{\"story\": \"x\"}, {\"stor\": \"y\"}]"), "at byte 17: the record has no \"story\""));
  CHECK(contains(failure("[{\"story\": 5}]"), "at byte 1: \"story\" is a number, expected a string"));
  CHECK(contains(failure("[{\"story\": null}]"), "is null"));
  CHECK(contains(failure("[{\"story\": true}]"), "is a boolean"));
  CHECK(contains(failure("[{\"story\": [\"x\"]}]"), "is an array"));
  CHECK(contains(failure("[{\"story\": {\"story\": \"x\"}}]"), "is an object"));
  CHECK(contains(failure("[{\"story\": \"x\", \"story\": \"y\"}]"), "has \"story\" 2 times"));
  CHECK(contains(failure("[\"story\"]"), "at byte 1: the record is not an object"));
  CHECK(contains(failure("[[\"story\"]]"), "the record is not an object"));
  CHECK(contains(failure("[5]"), "the record is not an object"));
  CHECK(contains(failure(std::string(2'000'000, '[')), "at byte "));
  CHECK(contains(failure("[{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}]"), "not JSON"));
  // The place is right in a record behind the read buffer too.
  const std::string before = "[{\"story\": \"" + std::string(3'000'000, 'x') + "\"}, ";
  CHECK(contains(failure(before + "{}]"), "at byte " + std::to_string(before.size()) + ": the record has no"));
}

TEST_CASE("a shard cut off anywhere gives the whole records before, then an error") {
  const std::string shard = R"([{"story": "One \"1\"."}, {"story": "Two."}, {"x": {"y": ["}"]}, "story": "Three."}])";
  for (std::size_t length = 0; length < shard.size(); ++length) {
    const TemporaryFolder folder;
    write_bytes(folder / "a.json", std::string_view(shard).substr(0, length));
    StoryReader reader({folder / "a.json"}, {.keep_going = true});
    const Strings stories = read_all(reader);
    CAPTURE(length);
    CHECK(stories.size() ==
          (length >= shard.find("}, {\"s") + 1) + (length >= shard.find("}, {\"x") + 1) + (length >= shard.size() - 1));
    CHECK(reader.counts().damaged_shards == 1);
    CHECK_THROWS_AS((void)read_all({folder / "a.json"}), FormatError);
  }
}

TEST_CASE("with keep_going records are skipped and counted, and the next shard follows a damaged one") {
  const TemporaryFolder folder;
  write_bytes(folder / "1.json", R"([{"story": "a"}, {"tale": "x"}, 7, {"story": "b"}])");
  write_bytes(folder / "2.json", R"([{"story": "c"}, {"story": "d"  "lost", {"story": "e"}])");
  write_bytes(folder / "3.json", R"([{"story": "f"}])");
  StoryReader reader({folder.path()}, {.keep_going = true});
  CHECK(read_all(reader) == Strings{"a", "b", "c", "f"});
  CHECK(reader.counts().read == 4);
  CHECK(reader.counts().without_story == 2);
  CHECK(reader.counts().damaged_shards == 1);
  CHECK(reader.counts().lost_bytes == 38);
  REQUIRE(reader.reports().size() == 3);
  CHECK(contains(reader.reports()[0], "1.json\" at byte 17: the record has no \"story\""));
  CHECK(contains(reader.reports()[2], "2.json\" at byte 32: not JSON"));
  CHECK(contains(reader.reports()[2], "the rest of the shard is lost: 38 bytes"));
  CHECK(reader.bytes_read() == reader.total_bytes());
}

TEST_CASE("text is cut at <|endoftext|>, or at line ends where there is none") {
  CHECK(stories_of("a.txt", "One.\n\nMore.\n<|endoftext|>\nTwo.\n<|endoftext|>\n") == Strings{"One.\n\nMore.", "Two."});
  CHECK(stories_of("a.txt", "One.<|endoftext|>cut off") == Strings{"One.", "cut off"});
  CHECK(stories_of("a.txt", "One.\r\n<|endoftext|>\r\nTwo.\r\n") == Strings{"One.", "Two."});
  CHECK(stories_of("a.txt", "<|endoftext|><|endoftext|>Two.") == Strings{"", "", "Two."});
  CHECK(stories_of("a.txt", "One.\nTwo.\r\n\n  \nThree.") == Strings{"One.", "Two.", "Three."});
  CHECK(stories_of("a.txt", "").empty());
  CHECK(stories_of("a.txt", "\n\n").empty());
  CHECK(stories_of("a.txt", "One <|endoftex|> still.\n") == Strings{"One <|endoftex|> still."});
}

TEST_CASE("separators are found wherever the read buffer ends") {
  constexpr std::size_t buffer = std::size_t{1} << 20U;
  for (std::size_t shift = 0; shift < 16; ++shift) {
    const std::string first(buffer - shift, 'a');
    const std::string second(2 * buffer, 'b');
    CAPTURE(shift);
    const Strings stories = stories_of("a.txt", first + "<|endoftext|>" + second + "<|endoftext|>c");
    REQUIRE(stories.size() == 3);
    CHECK(stories[0] == first);
    CHECK(stories[1] == second);
    CHECK(stories[2] == "c");
  }
}

TEST_CASE("a folder stands for its shards in the order of their names, and inputs can be mixed") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "shards");
  for (const std::string_view name : {"10", "02", "01"}) {
    write_bytes(folder / ("shards/data" + std::string(name) + ".json"), "[{\"story\": \"" + std::string(name) + "\"}]");
  }
  write_bytes(folder / "shards/readme.md", "no shard");
  write_bytes(folder / "shards/bpe.settings.json", "{}");
  write_bytes(folder / "more.txt", "line\n");
  CHECK(read_all({folder / "more.txt", folder / "shards", folder / "shards/data02.json"}) ==
        Strings{"line", "01", "02", "10", "02"});
}

TEST_CASE("inputs that cannot be read are refused before anything is done") {
  const TemporaryFolder folder;
  const auto refused = [](const std::filesystem::path& path) {
    return error_of<Error>([&] { StoryReader reader({path}); });
  };
  CHECK(contains(refused(folder / "none.json"), "none.json\": "));
  CHECK(contains(refused(folder / "none.json"), "No such file or directory"));
  CHECK(contains(refused(folder.path()), "has no .json files"));
  write_bytes(folder / "a.csv", "x");
  CHECK(contains(refused(folder / "a.csv"), "is neither a folder nor a .json or .txt file"));
  std::filesystem::create_directory(folder / "folder.json");
  CHECK(contains(refused(folder / "folder.json"), "has no .json files"));
  CHECK(contains(refused(folder.path()), "is a folder, not a file"));
  REQUIRE(::mkfifo((folder / "pipe.txt").c_str(), 0600) == 0);
  CHECK(contains(refused(folder / "pipe.txt"), "is a special file"));
  CHECK(contains(error_of<Error>([] { StoryReader reader({}); }), "there is no input"));
}

TEST_CASE("the real data is read whole") {
  const char* const data = std::getenv("STORYLM_REAL_DATA");
  if (data == nullptr) {
    MESSAGE("skipped: STORYLM_REAL_DATA does not name the folder of real data");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "tinystories";
  const Strings records = read_all({folder / "two_real_records.json"});
  REQUIRE(records.size() == 2);
  CHECK(records[0].starts_with("\n\nLily and Ben are friends."));
  CHECK(read_all({folder / "v2_train_first10000lines.txt"}).size() == 1728);
}
