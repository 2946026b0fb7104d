// SPDX-License-Identifier: MIT
// What may go wrong around a run besides being stopped: damaged and missing checkpoints, other versions, other data,
// steps that are not finite, clocks that jump, file systems without hard links.
// LINK: io
// PROGRAMS: make_stories prepare_stories train_stories storylm_kill_at
// TIMEOUT: 300
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <unistd.h>

#include <storylm/io/safetensors_writer.hpp>

#include "io_support.hpp"
#include "process_support.hpp"
#include "training_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr const char* last = "checkpoint_last.safetensors";
constexpr const char* previous = "checkpoint_previous.safetensors";
constexpr const char* best = "checkpoint_best.safetensors";

/// One line on standard error and exit code 2.
void refuses(const Result& result, std::string_view expected) {
  CAPTURE(result.err);
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(line_count(result.err) == 1);
  CHECK(result.err.starts_with("train_stories: "));
  CHECK(contains(result.err, expected));
}
void damage(const std::filesystem::path& file) {
  const std::size_t at = std::filesystem::file_size(file) - 1000;
  poke(file, at, static_cast<char>(read_bytes(file)[at] ^ 1));
}
/// A run of 12 steps, with a predecessor of 6.
void copy_run_of_12(const std::filesystem::path& to) {
  static const TemporaryFolder folder;
  static const bool made = train(folder / "run", 12).code == 0;
  REQUIRE(made);
  std::filesystem::copy(folder / "run", to);
}
/// Writes a checkpoint again, without what `leaves` says of a tensor or key, and with other values of some keys.
template <class F>
void rewrite(const std::filesystem::path& path, const io::Metadata& others, const F& leaves) {
  const io::SafetensorsFile file(path);
  io::Metadata metadata = file.metadata();
  std::erase_if(metadata, [&](const auto& entry) { return leaves(entry.first); });
  for (const auto& [key, value] : others) metadata[key] = value;
  io::SafetensorsWriter writer({.metadata = metadata, .checksums = true});
  for (const io::StoredTensor& tensor : file.tensors()) {
    if (leaves(tensor.name)) continue;
    REQUIRE(tensor.shape.size() <= 2);
    const auto& s = tensor.shape;
    const Shape shape = s.empty() ? Shape{} : s.size() == 1 ? Shape{s[0]} : Shape{s[0], s[1]};
    writer.add(tensor.name, tensor.dtype, shape,
               [&file, &tensor](const io::SafetensorsWriter::Sink& sink) { sink(file.raw(tensor)); });
  }
  writer.save(path);
}

}  // namespace

TEST_CASE("a damaged last checkpoint is reported, the one before it is offered and never taken in silence") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  copy_run_of_12(run);
  damage(run / last);
  const std::string damaged = read_bytes(run / last);
  const std::string lines = read_bytes(run / "metrics.jsonl");
  const std::string flag = "--resume-from '" + (run / previous).string() + "'";
  for (int i = 0; i < 2; ++i) {
    const Result result = train(run, all_steps);
    refuses(result, "checkpoint_last.safetensors: tensor ");
    CHECK(contains(result.err, " is damaged: the checksum of bytes "));
    CHECK(contains(result.err,
                   "; checkpoint_previous.safetensors is whole, after step 6: to go on from it, add " + flag));
  }
  CHECK(read_bytes(run / last) == damaged);
  CHECK(read_bytes(run / "metrics.jsonl") == lines);
  CHECK(step_of(run / previous) == 6);

  const Flags from{{"--resume-from", (run / previous).string()}};
  const Result result = train(run, 12, from);
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(contains(result.err, "goes on after step 6 from " + (run / previous).string()));
  CHECK(step_of(run / last) == 12);
  CHECK(step_of(run / previous) == 6);  // the damaged one is nobody's predecessor
  CHECK(train(run, all_steps).code == 0);
  CHECK(same_end(run, undisturbed()));
  CHECK(step_of(run / previous) == 24);
}

TEST_CASE("two damaged checkpoints leave the best one; three leave nothing, and that is said") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  copy_run_of_12(run);
  for (const char* const name : {last, previous}) damage(run / name);
  refuses(train(run, all_steps),
          "; checkpoint_best.safetensors is whole, after step 12: to go on from it, add --resume");
  refuses(train(run, all_steps, {{"--resume-from", (run / previous).string()}}),
          "checkpoint_previous.safetensors: tensor ");
  const Result result = train(run, all_steps, {{"--resume-from", (run / best).string()}});
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(same_end(run, undisturbed()));
  CHECK(step_of(run / previous) == 24);

  for (const char* const name : {last, previous, best}) std::filesystem::resize_file(run / name, 5000);
  refuses(train(run, all_steps), "; there is no other whole checkpoint: begin in another folder");
}

TEST_CASE("a run whose last checkpoint has gone is not begun anew in its folder") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  copy_run_of_12(run);
  std::filesystem::remove(run / last);
  const std::string lines = read_bytes(run / "metrics.jsonl");
  const Result result = train(run, all_steps);
  refuses(result, "checkpoint_last.safetensors is missing; checkpoint_previous.safetensors is whole, after step 6");
  CHECK(read_bytes(run / "metrics.jsonl") == lines);
  CHECK_FALSE(std::filesystem::exists(run / last));
  CHECK(train(run, all_steps, {{"--resume-from", (run / previous).string()}}).code == 0);
  CHECK(same_end(run, undisturbed()));
  refuses(train(run, all_steps, {{"--resume-from", (run / "nothing").string()}}),
          "nothing\": No such file or directory");
}

TEST_CASE("versions: a newer one is refused by name and version, and runs from before the guards go on") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  copy_run_of_12(run);
  rewrite(run / last, {{"storylm.format", "2"}, {"storylm.version", "9.1.0"}}, [](std::string_view) { return false; });
  const Result result = train(run, all_steps);
  refuses(result, "format version 2 (written by storylm 9.1.0) is newer than 1, the newest that can be read");
  CHECK(contains(result.err, "checkpoint_previous.safetensors is whole"));

  std::filesystem::remove_all(run);
  copy_run_of_12(run);
  int left = 0;
  rewrite(run / last, {}, [&](std::string_view name) {
    const bool is_new =
        name.starts_with("run.spike_guard") || name.starts_with("run.skipped_steps") || name == "run.stories.tokens";
    left += is_new ? 1 : 0;
    return is_new;
  });
  CHECK(left == 6);
  CHECK(train(run, all_steps).code == 0);
  CHECK(same_end(run, undisturbed()));
}

TEST_CASE("data that changed under the run are refused by their hash, with and without a validation that is owed") {
  const TemporaryFolder folder;
  const auto changed = folder / "changed";
  std::filesystem::create_directory(changed);
  for (const char* name : {"bpe.model", "bpe.settings.json", "bpe.vocab"})
    std::filesystem::copy_file(data() / name, changed / name);
  REQUIRE(shell("'" STORYLM_BIN_DIR "/make_stories' --count 3000 --seed 9 --output-dir '" +
                (folder / "shards").string() + "' && '" STORYLM_BIN_DIR "/prepare_stories' --vocab-size 512 --input '" +
                (folder / "shards").string() + "' --output-dir '" + changed.string() + "'")
              .code == 0);
  REQUIRE(read_bytes(changed / "bpe.model") == read_bytes(data() / "bpe.model"));
  const auto run = folder / "run";
  copy_run_of_12(run);
  const std::string lines = read_bytes(run / "metrics.jsonl");
  const std::string checkpoint = read_bytes(run / last);
  const Flags flags{{"--data-dir", changed.string()}};
  refuses(train(run, all_steps, flags), "the run began with stories.tokens ");
  CHECK(read_bytes(run / "metrics.jsonl") == lines);
  CHECK(read_bytes(run / last) == checkpoint);
  // A run that has not recorded it is told apart by the loader's cursor.
  rewrite(run / last, {}, [](std::string_view name) { return name == "run.stories.tokens"; });
  const Result result = train(run, all_steps, flags);
  CHECK(result.code == 2);
  CHECK(contains(result.err, "belongs to other data, another seed or another split: fingerprint "));
  CHECK(lines_in(run) == 12);
}

TEST_CASE(
    "skipped steps are counted and their stories named; after some in a row the run gives up, its checkpoint good") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  const Flags flags{{"--lr", "1e30"}, {"--validate-every", "1"}, {"--max-skipped-steps", "3"}};
  Result result = train(run, 20, flags);
  CAPTURE(result.err);
  CHECK(result.code == 1);
  CHECK(contains(result.err, "gradients are not finite, nothing was changed (skipped: 3 in a row, 3 in all)"));
  const auto lines = metrics(run);
  REQUIRE(lines.size() >= 4);
  REQUIRE(lines.size() < 20);
  const std::size_t good = lines.size() - 3;
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i].contains("skipped") == (i >= good));
  CHECK(step_of(run / last) == good);
  CHECK(contains(result.err, "gives up: the last 3 steps were skipped; " + (run / last).string() + " is that of step " +
                                 std::to_string(good)));
  const std::string log = read_bytes(run / "train.log");
  const std::string named = "step " + std::to_string(lines.size()) + " was skipped; its stories: ";
  REQUIRE(contains(log, named));
  std::istringstream stories(log.substr(log.find(named) + named.size()));
  for (int i = 0; i < 4; ++i) {
    int story = -1;
    stories >> story;
    CHECK(story >= 0);
    CHECK(story < 20000);
  }
  const std::string checkpoint = read_bytes(run / last);
  result = train(run, 20, flags);  // and again
  CHECK(result.code == 1);
  CHECK(read_bytes(run / last) == checkpoint);
  CHECK(metrics_without_times(run).size() == lines.size());
  // At the end of a run the last step is what is asked for.
  CHECK(train(folder / "short", static_cast<int>(good) + 2, flags).code == 0);
  CHECK(step_of(folder / "short" / last) == good + 2);
  CHECK(step_of(folder / "short" / previous) == good);
}

TEST_CASE(
    "the spike guard skips steps, and its windows are state: stopped and killed, the run ends with the same bits") {
  const TemporaryFolder folder;
  const Flags flags{{"--spike-threshold", "1"}, {"--spike-window", "4"}};
  const Result straight = train(folder / "straight", all_steps, flags);
  CAPTURE(straight.err);
  REQUIRE(straight.code == 0);
  int skipped = 0;
  for (const auto& line : metrics(folder / "straight")) skipped += line.contains("skipped") ? 1 : 0;
  MESSAGE(skipped, " steps skipped");
  CHECK(skipped >= 2);
  CHECK(skipped <= 20);
  CHECK(contains(straight.err, " standard deviations above those before, nothing was changed (skipped: "));
  CHECK(contains(straight.err, ", " + std::to_string(skipped) + " skipped; more with"));
  CHECK(number_of<std::int64_t>(folder / "straight" / last, "run.skipped_steps.total") == skipped);

  const auto run = folder / "run";
  int stops = 0;
  for (const int line : {3, 7, 13, 20}) {
    const int signal = stops % 2 == 0 ? SIGTERM : SIGKILL;
    Process process(arguments(run, all_steps, flags), folder / "out", folder / "err");
    if (!process.wait_until([&] { return lines_in(run) >= line; })) break;
    process.signal(signal);
    if (process.wait() == 0) break;
    ++stops;
  }
  CHECK(stops >= 2);
  refuses(train(run, all_steps, {{"--spike-threshold", "2"}, {"--spike-window", "4"}}),
          "the run began with spike_guard 1 of 4, now it is 2 of 4");
  refuses(train(run, all_steps), "the run began with spike_guard 1 of 4, now it is off");
  REQUIRE(train(run, all_steps, flags).code == 0);
  CHECK(same_end(run, folder / "straight"));
}

TEST_CASE("clocks that jump change no bit") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  const auto jumping = [&](int steps) {
    Process process(preloaded(arguments(run, steps), {"STORYLM_JUMPING_CLOCK=1"}), folder / "out", folder / "err");
    return process.wait();
  };
  REQUIRE(jumping(12) == 0);
  REQUIRE(jumping(all_steps) == 0);
  CHECK(same_end(run, undisturbed()));
  bool jumped = false;  // the years are in the log
  const std::string log = read_bytes(run / "train.log");
  for (const char* const other : {"\n200", "\n204"}) jumped |= contains('\n' + log, other);
  CHECK(jumped);
}

TEST_CASE("without hard links a run has a predecessor too; killed between the two names it says how to go on") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  {
    Process process(preloaded(arguments(run, 12), {"STORYLM_NO_LINKS=1"}), folder / "out", folder / "err");
    REQUIRE(process.wait() == 0);
  }
  CHECK(step_of(run / last) == 12);
  CHECK(step_of(run / previous) == 6);
  CHECK(std::filesystem::hard_link_count(run / last) == 1);
  int met = 0;
  for (int call = 15; call < 60 && met == 0; ++call) {
    std::filesystem::remove_all(folder / "killed");
    std::filesystem::copy(run, folder / "killed");
    Process process(
        preloaded(arguments(folder / "killed", 13), {"STORYLM_NO_LINKS=1", "STORYLM_KILL_AT=" + std::to_string(call)}),
        folder / "out", folder / "err");
    if (process.wait() == 0) break;
    if (std::filesystem::exists(folder / "killed" / last)) continue;
    ++met;
    CHECK(step_of(folder / "killed" / previous) == 12);
    refuses(train(folder / "killed", 13), "is missing; checkpoint_previous.safetensors is whole, after step 12");
    CHECK(train(folder / "killed", 13, {{"--resume-from", (folder / "killed" / previous).string()}}).code == 0);
    CHECK(step_of(folder / "killed" / last) == 13);
  }
  CHECK(met == 1);
}

TEST_CASE("the lock of a killed program is not in the way, and a folder that may not be written says so") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  {
    Process process(arguments(run, 1'000'000), folder / "out", folder / "err");
    REQUIRE(process.wait_until([&] { return lines_in(run) >= 7; }));
    const Result second = train(run, all_steps);
    CHECK(second.code == 1);
    CHECK(contains(second.err, "another train_stories is at work in "));
    process.signal(SIGKILL);
    CHECK(process.wait() == 128 + SIGKILL);
  }
  CHECK(train(run, all_steps).code == 0);
  CHECK(same_end(run, undisturbed()));
  if (::geteuid() == 0) {
    MESSAGE("skipped: permissions do not stop root; examples_train_stories_test mounts a read-only disk");
    return;
  }
  const std::string before = read_bytes(run / last);
  std::filesystem::permissions(run, std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  std::filesystem::permissions(run / "train.log", std::filesystem::perms::owner_read);
  const Result result = train(run, all_steps + 1);
  std::filesystem::permissions(run, std::filesystem::perms::owner_all);
  CHECK(result.code == 1);
  CHECK(line_count(result.err) == 1);
  CHECK(contains(result.err, "Permission denied"));
  CHECK(read_bytes(run / last) == before);
}
