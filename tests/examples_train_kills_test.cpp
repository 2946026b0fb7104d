// SPDX-License-Identifier: MIT
// Runs killed at moments that chance chooses, and at each call that changes a file: they end as one that nobody
// touched. STORYLM_KILLS=100 takes that many kills and every call; scripts/kill_test.sh sets it.
// LINK: io
// PROGRAMS: make_stories prepare_stories train_stories course_06_exact_resume storylm_kill_at
// TIMEOUT: 3600
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "io_support.hpp"
#include "process_support.hpp"
#include "training_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

const char* const asked = std::getenv("STORYLM_KILLS");
const bool long_form = asked != nullptr;
/// Of the test with random moments.
const int wanted_kills = long_form ? std::atoi(asked) : 6;

constexpr const char* partial = ".checkpoint_last.safetensors.partial";
constexpr const char* last = "checkpoint_last.safetensors";
constexpr const char* previous = "checkpoint_previous.safetensors";

/// What was going on when runs were killed, as their folders show it.
struct Moments {
  int before_first_checkpoint = 0;
  int in_checkpoint = 0;  // a half-written file is left
  int between_names = 0;  // the new one has not its name yet, the old one has two
  int in_validation = 0;  // the step before has its line, the validation's has not
  int elsewhere = 0;

  void count(const std::filesystem::path& run) {
    std::error_code none;
    if (!exists(run / last)) {
      ++before_first_checkpoint;
    } else if (exists(run / previous) && std::filesystem::equivalent(run / last, run / previous, none)) {
      ++between_names;
    } else if (exists(run / partial)) {
      ++in_checkpoint;
    } else if (lines_in(run) % 6 == 5) {
      ++in_validation;
    } else {
      ++elsewhere;
    }
  }
};

/// The steps of a checkpoint that must be whole; 0 when there is none.
std::uint64_t whole(const std::filesystem::path& checkpoint) { return exists(checkpoint) ? step_of(checkpoint) : 0; }

/// How many calls that change files a program makes.
long calls_of(const std::vector<std::string>& program_arguments) {
  const TemporaryFolder folder;
  Process process(preloaded(program_arguments, {"STORYLM_COUNT_CALLS=" + (folder / "calls").string()}), folder / "out",
                  folder / "err");
  REQUIRE(process.wait() == 0);
  return std::strtol(read_bytes(folder / "calls").c_str(), nullptr, 10);
}

}  // namespace

TEST_CASE(
    "kill -9 at random moments, other threads each time: weights, moments, lists, samples, metrics, checkpoints") {
  const TemporaryFolder folder;
  const int steps = 24 + 8 * wanted_kills;
  REQUIRE(train(folder / "straight", steps, {{"--threads", "2"}}).code == 0);
  const auto run = folder / "run";
  std::mt19937 random(7);
  const auto between = [&](int least, int most) { return std::uniform_int_distribution<int>(least, most)(random); };
  Moments moments;
  int kills = 0;
  int starts = 0;
  while (kills < wanted_kills) {
    REQUIRE(++starts < 4 * wanted_kills + 20);
    const int way = between(0, 3);
    std::vector<std::string> all = arguments(run, steps,
                                             {{"--threads", std::to_string(between(1, 3))},
                                              {"--checkpoint-minutes", between(0, 1) == 0 ? "10" : "0.00001"}});
    if (way == 0) all = preloaded(all, {"STORYLM_KILL_AT=" + std::to_string(between(1, 90))});
    Process process(all, folder / "out", folder / "err");
    const std::ptrdiff_t lines = lines_in(run);
    const std::chrono::microseconds pause(between(0, way == 1 ? 300'000 : 20'000));
    if (way == 2) {
      static_cast<void>(process.wait_until([&] { return exists(run / partial); }));
      std::this_thread::sleep_for(pause / 10);
    } else if (way == 3) {
      static_cast<void>(process.wait_until([&] { return lines_in(run) > lines && lines_in(run) % 6 == 5; }));
      std::this_thread::sleep_for(pause);
    } else if (way == 1) {
      std::this_thread::sleep_for(pause);
    }
    if (way != 0) process.signal(SIGKILL);
    const int code = process.wait();
    CAPTURE(read_bytes(folder / "err"));
    if (code == 0) break;  // it came to its end
    REQUIRE(code == 128 + SIGKILL);
    ++kills;
    moments.count(run);
    CHECK(whole(run / last) >= whole(run / previous));
  }
  MESSAGE(kills, " kills: ", moments.before_first_checkpoint, " before the first checkpoint, ", moments.in_checkpoint,
          " while one was written, ", moments.between_names, " between its names, ", moments.in_validation,
          " in a validation, ", moments.elsewhere, " elsewhere");
  CHECK(kills == wanted_kills);
  REQUIRE(train(run, steps).code == 0);
  CHECK(same_end(run, folder / "straight"));
  CHECK(whole(run / previous) > 0);
}

TEST_CASE(
    "killed at each call that changes a file, from one checkpoint to the next, the run goes on from a whole one") {
  const TemporaryFolder folder;
  REQUIRE(train(folder / "straight", 12).code == 0);
  REQUIRE(train(folder / "six", 6).code == 0);
  REQUIRE(train(folder / "seven", 6).code == 0);
  REQUIRE(train(folder / "seven", 7).code == 0);  // this one has a predecessor
  const auto copy = [&](const char* from, const std::filesystem::path& to) {
    std::filesystem::remove_all(to);
    std::filesystem::copy(folder / from, to);
  };
  copy("seven", folder / "counted");
  const long calls = calls_of(arguments(folder / "counted", 12));
  MESSAGE(calls, " calls");
  REQUIRE(calls > 30);
  REQUIRE(calls < 100);
  std::mt19937 random(8);
  const auto stride = [&] { return long_form ? 1 : std::uniform_int_distribution<long>(7, 11)(random); };
  int between_names = 0;
  for (long call = long_form ? 1 : 2; call <= calls; call += stride()) {
    CAPTURE(call);
    const auto run = folder / "run";
    copy("seven", run);
    {
      Process process(preloaded(arguments(run, 12), {"STORYLM_KILL_AT=" + std::to_string(call)}), folder / "out",
                      folder / "err");
      REQUIRE(process.wait() == 128 + SIGKILL);
    }
    const std::uint64_t now = whole(run / last);
    const std::uint64_t before = whole(run / previous);
    CHECK((now == 7 || now == 12));
    CHECK((before == 6 || before == 7));
    CHECK(!(now == 12 && before == 6));
    between_names += now == before ? 1 : 0;
    REQUIRE(train(run, 12).code == 0);
    CHECK(whole(run / last) == 12);
    CHECK(whole(run / previous) == 7);
    // The validation after step 7 is the other run's alone.
    const io::SafetensorsFile one(run / last);
    const io::SafetensorsFile other(folder / "straight/checkpoint_last.safetensors");
    for (const io::StoredTensor& tensor : one.tensors())
      if (!tensor.name.starts_with("run.history.validation_"))
        CHECK_MESSAGE(std::ranges::equal(one.raw(tensor), other.raw(tensor.name)), tensor.name);
    CHECK(lines_in(run) == 12);
    for (const auto& entry : std::filesystem::directory_iterator(run))
      CHECK_FALSE(entry.path().string().ends_with(".partial"));
  }
  if (long_form) CHECK(between_names >= 2);
}

TEST_CASE(
    "a loop of one's own: the course's program, killed at random moments and calls, says that all bits are equal") {
  const TemporaryFolder folder;
  const std::string course = STORYLM_BIN_DIR "/course/06_exact_resume";
  const auto started = [&](const std::vector<std::string>& variables) {
    const std::string inside = "cd '" + folder.path().string() + "' && exec \"$0\" \"$@\"";
    std::vector<std::string> all{"/bin/sh", "-c", inside};
    for (const std::string& part : preloaded({course}, variables)) all.push_back(part);
    return all;
  };
  std::mt19937 random(9);
  const int kills = long_form ? std::max(20, wanted_kills / 5) : 4;
  int resumed = 0;
  for (int i = 0; i < kills; ++i) {
    const int call = std::uniform_int_distribution<int>(1, 60)(random);
    Process process(
        started(i % 2 == 0 ? std::vector{"STORYLM_KILL_AT=" + std::to_string(call)} : std::vector<std::string>()),
        folder / "out", folder / "err");
    if (i % 2 == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 150)(random)));
      process.signal(SIGKILL);
    }
    const int code = process.wait();
    CHECK((code == 128 + SIGKILL || code == 0));
    resumed += exists(folder / "half_way.safetensors") ? 1 : 0;
  }
  MESSAGE(resumed, " of ", kills, " kills left a file to go on from");
  CHECK(resumed >= 1);
  Process process(started({}), folder / "out", folder / "err");
  CHECK(process.wait() == 0);
  CHECK(contains(read_bytes(folder / "out"), "goes on after step "));
  CHECK(read_bytes(folder / "out").ends_with("the weights are equal bit for bit: yes\n"));
  CHECK_FALSE(exists(folder / "half_way.safetensors"));
}
