// SPDX-License-Identifier: MIT
// Rows, files and page of compare_stories, without models.
// LINK: io
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "../examples/comparison.hpp"
#include "../examples/comparison_files.hpp"
#include "../examples/comparison_page.hpp"
#include "../examples/comparison_table.hpp"
#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
using program::ComparisonSchedule;
using program::RowFiles;

namespace {

constexpr std::array<SamplingPolicy, 3> policies{SamplingPolicy::softmax, SamplingPolicy::logits_as_weights,
                                                 SamplingPolicy::inverse_temperature};

boost::json::object key_of(int seed) {
  return {{"prompt", "Once \"upon\" a time"}, {"seed", seed}, {"temperature", 0.1}, {"max_tokens", 256}};
}
program::WrittenRow written_row() {
  return {.stories = {"Once upon a time.", "", "\u00FC <|end", "last"},
          .tokens = {5, 1, 7, 2},
          .ended = {true, false, true, true},
          .drawn = 14,
          .seconds = 0.1};
}

TEST_CASE("the report's four settings with each policy, then the baselines; what draws the same is done once") {
  const std::vector<std::string> names{"gpt2-xl", "GPT2 XL", "../<odd>"};
  const std::vector<SamplerOptions> samplers(3, SamplerOptions{.temperature = 1.0, .top_k = 50});
  const auto rows = program::comparison_rows("best", policies, names, samplers, 7);
  REQUIRE(rows.size() == 15);
  std::string same;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i].sampler.seed == 7);
    CHECK(rows[i].writer == (i < 12 ? 0 : i - 11));
    if (rows[i].same_as) same += std::to_string(i) + "=" + std::to_string(*rows[i].same_as) + " ";
  }
  // Logits as weights: T cancels, so rows of one k are one. Inverse temperature at 1 is softmax at 1.
  CHECK(same == "5=4 7=6 9=1 10=2 ");
  CHECK(program::sampler_text(rows[0].sampler) == "softmax, T = 0.1, k = 3");
  CHECK(program::sampler_text(rows[5].sampler) == "logits-as-weights, T = 1, k = 3");
  CHECK(program::sampler_text(rows[12].sampler) == "softmax, T = 1, k = 50");
  CHECK(program::sampler_text({.temperature = 0.7, .top_p = 0.9, .min_p = 0.05}) ==
        "softmax, T = 0.7, every k, p = 0.9, min p = 0.05");
  CHECK(rows[0].file == "checkpoint-softmax-t0.1-k3");
  CHECK(rows[10].file == rows[2].file);
  CHECK(rows[12].file == "baseline-gpt2-xl");
  CHECK(rows[13].file == "baseline-gpt2-xl-2");
  CHECK(rows[14].file == "baseline-odd");
  CHECK(program::file_name_part("../..") == "model");
}

TEST_CASE("rows are kept and taken up again bit for bit") {
  const TemporaryFolder folder;
  const RowFiles files(folder / "out", false);
  CHECK(!files.written("row", key_of(1)));
  files.keep("row", key_of(1), written_row());
  const auto row = files.written("row", key_of(1));
  REQUIRE(row);
  CHECK(row->stories == written_row().stories);
  CHECK(row->tokens == written_row().tokens);
  CHECK(row->ended == written_row().ended);
  CHECK(row->drawn == 14);
  CHECK(row->seconds == 0.1);

  CHECK(!files.scored("row", key_of(2)));
  const program::ScoredRow scored{.scores = {{.tokens = 3, .nll = 0.1 + 0.2, .targets = 4, .bytes = 9}, {}},
                                  .seconds = 1.0 / 3.0};
  files.keep("row", key_of(2), scored);
  const auto again = files.scored("row", key_of(2));
  REQUIRE(again);
  CHECK(again->scores == scored.scores);
  CHECK(again->seconds == scored.seconds);
  const program::ScoredRow infinite{.scores = {{.tokens = 1, .nll = std::numeric_limits<double>::infinity()}}};
  CHECK(contains(error_of<Error>([&] { files.keep("other", key_of(2), infinite); }), "not a finite number"));
  CHECK(!files.scored("other", key_of(2)));
  // Scores of older stories do not outlive them.
  files.keep("row", key_of(1), written_row());
  CHECK(!files.scored("row", key_of(2)));
  // Nor does what is known of them, when new ones cannot be written.
  std::filesystem::remove(files.stories_path("row"));
  std::filesystem::create_directory(files.stories_path("row"));
  CHECK_THROWS_AS(files.keep("row", key_of(1), written_row()), WriteError);
  CHECK(!std::filesystem::exists(files.written_path("row")));
  CHECK(!files.written("row", key_of(1)));
}

TEST_CASE("a table does not outlive a row that it tells of") {
  const TemporaryFolder folder;
  const RowFiles files(folder / "out", true);
  const auto table_outlives = [&](const auto& row, const char* name) {
    for (const auto& path : {files.page_path(), files.table_path()}) write_bytes(path, "table");
    files.keep(name, key_of(1), row);
    CHECK(std::filesystem::exists(files.page_path()) == std::filesystem::exists(files.table_path()));
    return std::filesystem::exists(files.page_path());
  };
  const program::ScoredRow scored{.scores = {{.tokens = 3, .nll = 2, .targets = 4, .bytes = 9}}};
  CHECK(table_outlives(written_row(), "row"));  // it is new
  CHECK(table_outlives(scored, "row"));
  CHECK(!table_outlives(scored, "row"));
  CHECK(!table_outlives(written_row(), "row"));
  CHECK(table_outlives(scored, "row"));
  CHECK(table_outlives(written_row(), "other"));
}

TEST_CASE("a row of other settings, a changed or damaged one is refused, or redone when told so") {
  const TemporaryFolder folder;
  {
    const RowFiles files(folder / "out", false);
    files.keep("row", key_of(1), written_row());
    files.keep("changed", key_of(1), written_row());
    files.keep("lost", key_of(1), written_row());
    files.keep("damaged", key_of(1), written_row());
    poke(files.stories_path("changed"), 3, 'x');
    std::filesystem::remove(files.stories_path("lost"));
    write_bytes(files.written_path("damaged"), "{\"key\": {");
    const std::string seed = error_of([&] { static_cast<void>(files.written("row", key_of(2))); });
    CHECK(contains(seed, "row.stories.json"));
    CHECK(contains(seed, "was made with seed 1, now it is 2"));
    CHECK(contains(seed, "--redo"));
    boost::json::object more = key_of(1);
    more["dtype"] = "bfloat16";
    CHECK(contains(error_of([&] { static_cast<void>(files.written("row", more)); }),
                   "dtype not said, now it is \"bfloat16\""));
    boost::json::object less = key_of(1);
    less.erase("seed");
    CHECK(contains(error_of([&] { static_cast<void>(files.written("row", less)); }), "more settings"));
    CHECK(
        contains(error_of([&] { static_cast<void>(files.written("changed", key_of(1))); }), "is not what was written"));
    CHECK(contains(error_of([&] { static_cast<void>(files.written("damaged", key_of(1))); }), "damaged.stories.json"));
    CHECK(contains(error_of([&] { static_cast<void>(files.written("lost", key_of(1))); }), "lost.txt"));
    CHECK(contains(error_of<WriteError>([&] { RowFiles(folder / "out", false); }), "another comparison"));
  }
  const RowFiles files(folder / "out", true);
  CHECK(files.written("row", key_of(1)));
  CHECK(!files.written("row", key_of(2)));
  CHECK(!files.written("changed", key_of(1)));
  CHECK(!files.written("damaged", key_of(1)));
  CHECK(!files.written("lost", key_of(1)));
  write_bytes(folder / "file", "");
  CHECK(contains(error_of<WriteError>([&] { RowFiles(folder / "file", false); }), "cannot make"));
}

TEST_CASE("stories as a file: empty ones stay, and none can hold the separator") {
  const std::vector<std::string> stories{"", "a", "", "  b ", ""};
  CHECK(RowFiles::split(RowFiles::join(stories)) == stories);
  CHECK(RowFiles::split("").empty());
  CHECK(RowFiles::storable("x <|endoftext|><|endoftext|> y") == "x < |endoftext|>< |endoftext|> y");
}

TEST_CASE("a model's identity is what its files hold") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  write_bytes(folder / "a/config.json", "{}");
  write_bytes(folder / "a/merges.txt", "a b");
  std::string weights(std::size_t{70} << 20U, 'w');
  write_bytes(folder / "a/model.safetensors", weights);
  const auto a = program::model_identity(folder / "a");
  CHECK(a.bytes == weights.size() + 5);
  std::filesystem::copy(folder / "a", folder / "b");
  write_bytes(folder / "b/README.txt", "not of the model");
  CHECK(program::model_identity(folder / "b").hash == a.hash);
  poke(folder / "b/merges.txt", 0, 'c');
  CHECK(program::model_identity(folder / "b").hash != a.hash);
  poke(folder / "b/merges.txt", 0, 'a');
  CHECK(program::model_identity(folder / "b").hash == a.hash);
  // Weights that differ everywhere behind the first MiB, and by one byte at the end.
  std::fill(weights.begin() + (2 << 20), weights.end(), 'v');
  write_bytes(folder / "b/model.safetensors", weights);
  CHECK(program::model_identity(folder / "b").hash != a.hash);
  write_bytes(folder / "one.safetensors", "abc");
  const auto one = program::model_identity(folder / "one.safetensors");
  program::expects_identity(folder / "one.safetensors", one.hash);
  poke(folder / "one.safetensors", 2, 'd');
  CHECK(contains(error_of([&] { program::expects_identity(folder / "one.safetensors", one.hash); }), "was replaced"));
  CHECK(program::model_identity(folder / "one.safetensors").hash != one.hash);
  std::filesystem::create_directories(folder / "empty");
  CHECK(contains(error_of<IoError>([&] { static_cast<void>(program::model_identity(folder / "empty")); }), "no model"));
  CHECK_THROWS_AS(static_cast<void>(program::model_identity(folder / "nowhere")), IoError);
}

TEST_CASE("remaining time: from the model itself, else from the sizes of those that had a turn") {
  using Kind = ComparisonSchedule::Kind;
  ComparisonSchedule schedule;
  const auto small = schedule.add(Kind::write, 100, 10);
  const auto second = schedule.add(Kind::write, 100, 10);
  const auto large = schedule.add(Kind::write, 1000, 10);
  const auto judge = schedule.add(Kind::judge, 2000, 10);
  CHECK(!schedule.remaining());
  schedule.at(small, 5, 5);  // a second a story: 5 + 10 + 100 + 200
  CHECK(*schedule.remaining() == doctest::Approx(315));
  schedule.at(small, 10, 10);
  schedule.at(second, 10, 10);
  schedule.at(large, 2, 10);  // five seconds a story; judging: 2000 bytes at 30 s / (2000 + 2000)
  CHECK(*schedule.remaining() == doctest::Approx(40 + 10 * 2000 * 30.0 / 4000));
  schedule.at(large, 10, 50);
  schedule.at(judge, 4, 2);
  CHECK(*schedule.remaining() == doctest::Approx(3));
  schedule.at(judge, 10, 5);
  CHECK(*schedule.remaining() == 0);
}

program::Comparison comparison() {
  const std::vector<evaluate::StoryScore> scores{{.tokens = 10, .nll = 20, .targets = 10, .bytes = 40},
                                                 {.tokens = 30, .nll = 75, .targets = 30, .bytes = 100},
                                                 {}};
  program::TableRow row{.model = "<b>best</b> & 'co'",
                        .sampling = "softmax, T = 0.1, k = 3",
                        .prompt = "Once <i>upon</i>",
                        .stories_file = "stories/best.txt",
                        .ended = 2,
                        .max_tokens = 256,
                        .mean_tokens = 20.5,
                        .mean_characters = 70,
                        .drawn = 100,
                        .seconds = 2,
                        .summary = evaluate::summarise(scores),
                        .example = "<script>alert(\"1\")</script> \x1B[31m \xFF\u009B end"};
  program::TableRow twin = row;
  twin.sampling = "logits-as-weights, T = 1, k = 3";
  twin.same_as = 0;
  program::TableRow empty{.model = "empty",
                          .prompt = row.prompt,
                          .max_tokens = 128,
                          .summary = evaluate::summarise(std::vector<evaluate::StoryScore>(3))};
  program::TableRow single = row;
  single.summary = evaluate::summarise(std::vector<evaluate::StoryScore>(scores.begin(), scores.begin() + 1));
  return {.prompt = "Once <i>upon</i>",
          .seed = 18446744073709551615U,
          .quantity = 3,
          .max_tokens = 256,
          .judge = "judge & \"jury\"",
          .policy = "no BOS",
          .rows = {row, twin, empty, single}};
}

TEST_CASE("the page: everything from outside is text, every row is there, a row without numbers says why") {
  const std::string html = program::comparison_html(comparison());
  CHECK(html.find("<script") == std::string::npos);
  CHECK(html.find("<b>") == std::string::npos);
  CHECK(html.find("<i>") == std::string::npos);
  CHECK(contains(html, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; \uFFFD[31m \uFFFD\uFFFD end"));
  CHECK(contains(html, "&lt;b&gt;best&lt;/b&gt; &amp; &#39;co&#39;"));
  CHECK(contains(html, "Once &lt;i&gt;upon&lt;/i&gt;"));
  CHECK(contains(html, "judge &amp; &quot;jury&quot;"));
  CHECK(contains(html, "<td class=\"problem\" colspan=\"7\">nothing to judge: none of the 3 stories"));
  CHECK(contains(html, "Row 2 has the stories of row 1"));
  CHECK(contains(html, "Row 1: 1 of 3 stories"));
  CHECK(contains(html, "of up to 256 tokens"));
  CHECK(contains(html, "Row 3 has stories of up to 128 tokens"));
  CHECK(html.find("Row 1 has stories") == std::string::npos);
  CHECK(html.find("nan") == std::string::npos);
  CHECK(html.find("inf") == std::string::npos);
  CHECK(html.find("http://") == std::string::npos);
  CHECK(html.find("https://") == std::string::npos);
  // 3 rows have a point; those with an error an interval of three lines.
  const auto count = [&html](std::string_view word) {
    int found = 0;
    for (std::size_t at = 0; (at = html.find(word, at)) != std::string::npos; ++at) ++found;
    return found;
  };
  CHECK(count("<circle") == 3);
  CHECK(count("<line") == 6);
  CHECK(count("<tr>") == 5);
  CHECK(count("<blockquote") == 3);
  CHECK(count("<h3") == 4);
  CHECK(count("<a href=") == 1);  // from the twin's example to its equal's
  CHECK(contains(html, "id=\"row-1\""));
  CHECK(contains(html, "<a href=\"#row-1\">row 1</a>"));
  CHECK(count("<td") == 3 * 13 + 7);
}

TEST_CASE("the table as text: columns are aligned, nothing is 0 that is not known") {
  auto all = comparison();
  all.rows[0].model = "b\u00E4r";
  all.rows[2].unsupported = "typical_p, bad_words_ids";
  const std::string text = program::comparison_text(all);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  REQUIRE(lines.size() == 5 + 5);
  for (std::size_t i = 1; i < 5; ++i) CHECK(program::count_characters(lines[i]) == program::count_characters(lines[0]));
  CHECK(contains(lines[0], "perplexity"));
  CHECK(contains(lines[1], "10.75"));  // exp(95 / 40)
  CHECK(contains(lines[1], "66.7 %"));
  CHECK(contains(lines[3], " -  "));
  CHECK(contains(lines[6], "Row 2 has the stories of row 1"));
  CHECK(lines[7] == "Row 3 does not follow typical_p, bad_words_ids of its folder's generation_config.json.");
}

TEST_CASE("intervals are those of Student's t with a degree of freedom less than there are samples") {
  CHECK(std::isnan(program::errors_of_95_percent(0)));
  CHECK(std::isnan(program::errors_of_95_percent(1)));
  // Quantiles of 97.5 %, from tables.
  const std::vector<std::pair<index_t, double>> degrees{{1, 12.706}, {2, 4.303},  {3, 3.182},      {4, 2.776},
                                                        {5, 2.571},  {6, 2.447},  {9, 2.262},      {19, 2.093},
                                                        {30, 2.042}, {99, 1.984}, {1000000, 1.960}};
  for (const auto& [freedom, t] : degrees) {
    CAPTURE(freedom);
    CHECK(std::abs(program::errors_of_95_percent(freedom + 1) - t) < 2e-3);
  }
}

TEST_CASE("JSON: full precision, null where there is no number") {
  const auto source = comparison();
  const auto document = io::parse_json(io::json_text(program::comparison_json(source)));
  const auto& rows = document.at("rows").as_array();
  REQUIRE(rows.size() == 4);
  const evaluate::Summary& s = source.rows[0].summary;
  CHECK(document.at("seed").to_number<std::uint64_t>() == source.seed);
  CHECK(rows[0].at("mean_nll").as_double() == s.mean_nll);
  CHECK(rows[0].at("standard_error").as_double() == s.standard_error);
  CHECK(rows[0].at("bits_per_byte").as_double() == s.bits_per_byte);
  const auto& interval = rows[0].at("perplexity_95_percent").as_array();
  CHECK(std::log(interval[1].as_double() / s.perplexity) == doctest::Approx(12.7062 * s.standard_error));
  CHECK(std::log(s.perplexity / interval[0].as_double()) == doctest::Approx(12.7062 * s.standard_error));
  CHECK(rows[0].at("tokens_per_second").as_double() == 50.0);
  CHECK(rows[0].at("same_as_row").is_null());
  CHECK(rows[0].at("problem").is_null());
  CHECK(rows[0].at("max_tokens").as_int64() == 256);
  CHECK(rows[2].at("max_tokens").as_int64() == 128);
  CHECK(rows[1].at("same_as_row").as_int64() == 1);
  for (const char* field : {"mean_nll", "standard_error", "perplexity", "perplexity_95_percent",
                            "perplexity_over_stories", "bits_per_byte", "tokens_per_second"}) {
    CAPTURE(field);
    CHECK(rows[2].at(field).is_null());
  }
  CHECK(contains(std::string(rows[2].at("problem").as_string()), "nothing to judge"));
  CHECK(rows[3].at("perplexity").is_double());
  CHECK(rows[3].at("perplexity_95_percent").is_null());
  // exp() has an end.
  auto wide = source;
  wide.rows[0].summary.standard_error = 1000;
  const auto ends = io::parse_json(io::json_text(program::comparison_json(wide)));
  CHECK(ends.at("rows").at(0).at("perplexity_95_percent").at(1).is_null());
}

}  // namespace
