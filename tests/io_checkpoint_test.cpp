// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Checkpoints: exact round trips, all or nothing, damage named, versions, disks that are full.
#include <array>
#include <bit>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <storylm/io/checkpoint.hpp>

#include "io_support.hpp"

using namespace storylm;
using storylm::test::contains;
using storylm::test::error_of;
using storylm::test::TemporaryFolder;

namespace {

/// A device whose memory the library may reach by copies only; it counts them and the largest.
class Remote {
 public:
  static constexpr std::string_view name = "remote";
  static constexpr bool host_memory = false;
  using Readback = Cpu::Readback;
  using Recording = Cpu::Recording;
  struct Context {
    std::size_t largest_copy = 0;
    std::size_t copies = 0;
    std::size_t unsynchronised = 0;
  };
  [[nodiscard]] void* allocate(std::size_t bytes) const { return Cpu::Memory::allocate(bytes); }
  void deallocate(void* p) const noexcept { Cpu::Memory::deallocate(p); }
  void fill_zero(void* p, std::size_t bytes) const noexcept { std::memset(p, 0, bytes); }
  void copy_from_host(void* to, const void* from, std::size_t bytes) const noexcept { copy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, std::size_t bytes) const noexcept { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) const noexcept {
    std::memcpy(to, from, bytes);
    context->largest_copy = std::max(context->largest_copy, bytes);
    ++context->copies;
    ++context->unsynchronised;
  }
  void synchronize() const noexcept { context->unsynchronised = 0; }
  [[nodiscard]] int scratch() const { return 0; }

  std::shared_ptr<Context> context = std::make_shared<Context>();
};
static_assert(Device<Remote>);

/// Device memory as an optimizer names it.
struct Moments {
  Remote device;
  Tensor<float, Remote> first;
  Tensor<half, Remote> second;
  static void visit_state(auto& self, auto&& visit) {
    visit("first", StateSpan{const_cast<float*>(self.first.data()), self.first.size(), self.device});
    visit("second", self.second);
  }
};

enum class Phase : std::int8_t { warmup = -1, steady = 1 };

struct Window {
  std::int32_t filled = 0;
  double mean = 0.0;

  static void visit_state(auto& self, auto&& visit) {
    visit("filled", self.filled);
    visit("mean", self.mean);
  }
  friend bool operator==(const Window&, const Window&) = default;
};

/// One member of every kind a checkpoint holds.
struct Everything {
  Cpu cpu;
  bool flag = false;
  Phase phase = Phase::steady;
  std::int8_t small = 0;
  std::int64_t large = 0;
  std::uint32_t counter = 0;
  std::uint64_t seed = 0;
  float single = 0.0F;
  double real = 0.0;
  bf16 brain = bf16(0.0F);
  std::string text;
  std::vector<std::int64_t> order;
  std::vector<std::uint64_t> offsets;
  std::vector<double> losses;
  Tensor<float, Cpu> moments{{2, 3}, cpu};
  Tensor<bf16, Cpu> values{{4}, cpu};
  Tensor<float, Cpu> none;
  std::vector<float> arena = std::vector<float>(5);
  Window window;

  static void visit_state(auto& self, auto&& visit) {
    visit("flag", self.flag);
    visit("phase", self.phase);
    visit("small", self.small);
    visit("large", self.large);
    visit("counter", self.counter);
    visit("seed", self.seed);
    visit("single", self.single);
    visit("real", self.real);
    visit("brain", self.brain);
    visit("text", self.text);
    visit("order", self.order);
    visit("offsets", self.offsets);
    visit("losses", self.losses);
    visit("moments", self.moments);
    visit("values", self.values);
    visit("none", self.none);
    visit("second", StateSpan{const_cast<float*>(self.arena.data()), index_t{5}, self.cpu});
    visit("window", self.window);
  }

  /// All bytes that a checkpoint must bring back.
  [[nodiscard]] std::map<std::string, std::string> bytes() const {
    std::map<std::string, std::string> all;
    const auto put = [&](const char* name, const void* data, std::size_t size) {
      all[name] = std::string(static_cast<const char*>(data), size);
    };
    put("flag", &flag, sizeof flag);
    put("phase", &phase, sizeof phase);
    put("small", &small, sizeof small);
    put("large", &large, sizeof large);
    put("counter", &counter, sizeof counter);
    put("seed", &seed, sizeof seed);
    put("single", &single, sizeof single);
    put("real", &real, sizeof real);
    put("brain", &brain, sizeof brain);
    put("text", text.data(), text.size());
    put("order", order.data(), order.size() * 8);
    put("offsets", offsets.data(), offsets.size() * 8);
    put("losses", losses.data(), losses.size() * 8);
    put("moments", moments.data(), moments.bytes());
    put("values", values.data(), values.bytes());
    put("arena", arena.data(), arena.size() * 4);
    put("filled", &window.filled, sizeof window.filled);
    put("mean", &window.mean, sizeof window.mean);
    return all;
  }
};

void fill(Everything& object) {
  object.flag = true;
  object.phase = Phase::warmup;
  object.small = -128;
  object.large = std::numeric_limits<std::int64_t>::min();
  object.counter = 0xFFFFFFFFU;
  object.seed = std::numeric_limits<std::uint64_t>::max();
  object.single = std::bit_cast<float>(0x7FC01234U);                        // a NaN with a payload
  object.real = std::bit_cast<double>(std::uint64_t{0x8000000000000001U});  // the smallest negative number
  object.brain = bf16(1.5F);
  object.text = std::string("first\0\n\xFFlast", 12);
  object.order = {3, -1, 2};
  object.offsets = {std::numeric_limits<std::uint64_t>::max(), 0};
  object.losses = {4.25, -0.0, std::numeric_limits<double>::infinity()};
  for (index_t i = 0; i < 6; ++i) object.moments.data()[i] = static_cast<float>(i) / 7.0F;
  for (index_t i = 0; i < 4; ++i) object.values.data()[i] = bf16(static_cast<float>(i));
  object.arena = {1.0F, 2.0F, 3.0F, 4.0F, 5.0F};
  object.window = {.filled = 7, .mean = 0.1};
}

io::CheckpointWriter writer_of(const Everything& object) {
  io::CheckpointWriter writer(
      {.library_version = "1.2.3", .config = R"({"n_heads": 8})", .more = {{"tokenizer", "abc"}}});
  writer.add("run", object);
  return writer;
}

/// Members of one type under one name each.
template <class M>
struct Single {
  M member{};
  static void visit_state(auto& self, auto&& visit) { visit("member", self.member); }
};
template <class M>
void save_single(const std::filesystem::path& path, M value) {
  Single<M> object;
  object.member = std::move(value);
  io::CheckpointWriter writer({.library_version = "1.2.3"});
  writer.add("run", object);
  writer.save(path);
}
template <class M>
std::string load_single_error(const std::filesystem::path& path) {
  Single<M> object;
  return error_of([&] { io::CheckpointReader(path).load("run", object); });
}

}  // namespace

TEST_CASE("everything comes back bit for bit") {
  const TemporaryFolder folder;
  Everything saved;
  fill(saved);
  writer_of(saved).save(folder / "checkpoint");
  const io::CheckpointReader reader(folder / "checkpoint");
  CHECK_NOTHROW(reader.verify());
  Everything loaded;
  loaded.losses = std::vector<double>(100, 1.0);
  REQUIRE(loaded.bytes() != saved.bytes());
  reader.load("run", loaded);
  CHECK(loaded.bytes() == saved.bytes());
  CHECK(!loaded.none);
  CHECK(reader.library_version() == "1.2.3");
  CHECK(reader.metadata().at("tokenizer") == "abc");
  CHECK(reader.metadata().at("storylm.format") == "1");
  CHECK(reader.metadata().at("config") == R"({"n_heads": 8})");
  CHECK(io::get<int>(reader.config(), "n_heads", "config") == 8);
  CHECK(reader.file().at("run.window.filled").dtype.name == "I64");
  CHECK(reader.file().at("run.flag").dtype.name == "U8");
  CHECK(reader.file().at("run.seed").dtype.name == "U64");
  CHECK(reader.file().at("run.moments").shape_text() == "(2, 3)");
  CHECK(reader.file().at("run.second").shape_text() == "(5)");

  // Written again, it is the same file.
  writer_of(loaded).save(folder / "again");
  CHECK(test::read_bytes(folder / "again") == test::read_bytes(folder / "checkpoint"));

  Everything empty;
  writer_of(empty).save(folder / "empty");
  io::CheckpointReader(folder / "empty").load("run", loaded);
  CHECK(loaded.bytes() == empty.bytes());
}

TEST_CASE("several objects and the model's tensors share a file") {
  const TemporaryFolder folder;
  const std::vector<float> head{0.5F, -1.5F, 2.5F, 3.5F};
  Window first{.filled = 1, .mean = 1.0};
  Window second{.filled = 2, .mean = 2.0};
  io::CheckpointWriter writer({.library_version = "1.2.3"});
  writer.add("guard", first);
  writer.add("guards", second);  // no prefix of each other: names end with a dot
  writer.add_tensor<float>("head.weight", {2, 2}, head);
  writer.add_tensor("head.bias", io::file_dtype<float>, {4}, [&](const io::SafetensorsWriter::Sink& sink) {
    for (const float& value : head) sink(std::as_bytes(std::span(&value, 1)));
  });
  writer.save(folder / "x");

  const io::CheckpointReader reader(folder / "x");
  Window loaded;
  reader.load("guard", loaded);
  CHECK(loaded == first);
  reader.load("guards", loaded);
  CHECK(loaded == second);
  std::vector<double> values;
  reader.read_tensor<double>("head.bias", {4}, [&](index_t start, std::span<const double> chunk) {
    CHECK(start == static_cast<index_t>(values.size()));
    values.insert(values.end(), chunk.begin(), chunk.end());
  });
  CHECK(values == std::vector<double>{0.5, -1.5, 2.5, 3.5});
  const auto ignore = [](index_t, std::span<const float>) {};
  CHECK(contains(error_of([&] { reader.read_tensor<float>("head.weight", {4}, ignore); }),
                 "tensor head.weight is (2, 2), expected (4)"));
  CHECK(contains(error_of([&] { reader.read_tensor<float>("tail", {4}, ignore); }), "tensor tail is missing"));
  CHECK(contains(error_of([&] { static_cast<void>(reader.config()); }), "no config"));
}

TEST_CASE("memory of other devices goes through the host in pieces") {
  const TemporaryFolder folder;
  const Remote device;
  constexpr index_t n = 2 * host_chunk_elements + 17;
  std::vector<float> values(n);
  std::vector<half> halves{half(1.0F), half(2.0F)};
  for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i % 9973);
  const Moments saved{device, Tensor<float, Remote>::from_host({n}, values, device),
                      Tensor<half, Remote>::from_host({2}, halves, device)};
  *device.context = {};
  io::CheckpointWriter writer({.library_version = "1.2.3"});
  writer.add("adam", saved);
  writer.save(folder / "x");
  CHECK(device.context->copies == 4);
  CHECK(device.context->largest_copy == static_cast<std::size_t>(host_chunk_elements) * sizeof(float));

  Moments loaded{device, Tensor<float, Remote>({n}, device), Tensor<half, Remote>({2}, device)};
  io::CheckpointReader(folder / "x").load("adam", loaded);
  CHECK(device.context->unsynchronised == 0);
  CHECK(loaded.first.to_host() == values);
  CHECK(loaded.second.to_host() == halves);
}

TEST_CASE("a failed load changes nothing, whatever is wrong") {
  const TemporaryFolder folder;
  Everything saved;
  fill(saved);
  writer_of(saved).save(folder / "good");
  const io::SafetensorsFile good(folder / "good");
  Everything object;
  const auto before = object.bytes();

  /// Writes the good file's tensors with `change` applied to each and loads that; returns what load() says.
  const auto load_changed = [&](auto&& change) {
    io::Metadata metadata = good.metadata();
    metadata.erase("storylm.checksums");
    metadata.erase("storylm.header_checksum");
    io::SafetensorsWriter writer({.metadata = metadata, .checksums = true});
    for (const io::StoredTensor& tensor : good.tensors()) change(writer, tensor);
    writer.save(folder / "changed");
    return error_of([&] { io::CheckpointReader(folder / "changed").load("run", object); });
  };
  const auto load_error = [&](auto&& change) {
    const std::string message = load_changed(change);
    CHECK(object.bytes() == before);
    return message;
  };
  const auto copy = [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    writer.add(tensor.name, tensor.dtype, shape,
               [&](const io::SafetensorsWriter::Sink& sink) { sink(good.raw(tensor)); });
  };
  const std::vector<float> zeros(64);
  for (const io::StoredTensor& target : good.tensors()) {
    CAPTURE(target.name);
    const auto only = [&](auto&& replace) {
      return [&, replace](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
        tensor.name == target.name ? replace(writer) : copy(writer, tensor);
      };
    };
    CHECK(contains(load_error(only([](io::SafetensorsWriter&) {})), "tensor " + target.name + " is missing"));
    const auto wrong_dtype = [&](io::SafetensorsWriter& writer) {
      writer.add(target.name, {"C64", 8}, {3},
                 [&](const auto& sink) { sink(std::as_bytes(std::span(zeros)).first(24)); });
    };
    CHECK(contains(load_error(only(wrong_dtype)), "tensor " + target.name + " is C64, expected "));
    const auto wrong_shape = [&](io::SafetensorsWriter& writer) {
      writer.add(target.name, target.dtype, {1, 7},
                 [&](const auto& sink) { sink(std::as_bytes(std::span(zeros)).first(7 * target.dtype.bytes)); });
    };
    CHECK(contains(load_error(only(wrong_shape)), "tensor " + target.name + " is (1, 7), expected "));
  }
  const auto extra = [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    copy(writer, tensor);
    if (tensor.name == "run.flag") writer.add<float>("run.window.surplus", {0}, {});
  };
  CHECK(contains(load_error(extra), "tensor run.window.surplus belongs to nothing that is loaded"));
  const auto elsewhere = [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    copy(writer, tensor);
    if (tensor.name == "run.flag") writer.add<float>("runner.x", {0}, {});
  };
  CHECK(load_changed(elsewhere).empty());
  CHECK(object.bytes() == saved.bytes());
}

TEST_CASE("values outside a member's range are refused") {
  const TemporaryFolder folder;
  save_single<std::int64_t>(folder / "x", 300);
  CHECK(contains(load_single_error<std::int8_t>(folder / "x"), "tensor run.member is 300, out of its member's range"));
  CHECK(load_single_error<std::int16_t>(folder / "x").empty());
  CHECK(contains(load_single_error<std::uint64_t>(folder / "x"), "is I64, expected U64"));
  CHECK(contains(load_single_error<Phase>(folder / "x"), "out of its member's range"));
  save_single<std::uint64_t>(folder / "x", std::uint64_t{1} << 32U);
  CHECK(contains(load_single_error<std::uint32_t>(folder / "x"), "tensor run.member is 4294967296"));
  save_single<double>(folder / "x", 1.0);
  CHECK(contains(load_single_error<float>(folder / "x"), "is F64, expected F32"));
  const std::uint8_t two = 2;
  io::CheckpointWriter writer({.library_version = "1.2.3"});
  writer.add_tensor<std::uint8_t>("run.member", {}, std::span(&two, 1));
  writer.save(folder / "x");
  CHECK(contains(load_single_error<bool>(folder / "x"), "tensor run.member is 2, out of its member's range"));
}

TEST_CASE("a damaged tensor is named with file and bytes") {
  const TemporaryFolder folder;
  Everything object;
  fill(object);
  writer_of(object).save(folder / "x");
  const io::StoredTensor target = io::SafetensorsFile(folder / "x").at("run.moments");
  test::poke(folder / "x", target.begin + 5, 'x');
  Everything loaded;
  const auto before = loaded.bytes();
  const io::CheckpointReader reader(folder / "x");
  for (const std::string& message :
       {error_of([&] { reader.load("run", loaded); }), error_of([&] { reader.verify(); })}) {
    CHECK(contains(message, (folder / "x").string() + ": tensor run.moments is damaged: the checksum of bytes " +
                                std::to_string(target.begin) + " to " + std::to_string(target.end)));
  }
  CHECK(loaded.bytes() == before);
}

TEST_CASE("cut anywhere or changed in any byte: refused or read as it was, never anything between") {
  const TemporaryFolder folder;
  Everything saved;
  fill(saved);
  writer_of(saved).save(folder / "x");
  const std::string bytes = test::read_bytes(folder / "x");
  const auto expected = saved.bytes();
  Everything object;
  const auto before = object.bytes();
  std::size_t passed = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const unsigned change : {1U << (at % 8U), 255U}) {
      test::poke(folder / "x", at, static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ change));
      const std::string message = error_of([&] { io::CheckpointReader(folder / "x").load("run", object); });
      if (message.empty()) {
        ++passed;
        REQUIRE(object.bytes() == expected);
        Everything fresh;
        std::swap(object, fresh);
      } else {
        REQUIRE(object.bytes() == before);
      }
    }
    test::poke(folder / "x", at, bytes[at]);
  }
  CHECK(passed == 0);
  for (std::size_t size = bytes.size(); size-- > 0;) {
    std::filesystem::resize_file(folder / "x", size);
    REQUIRE(!error_of([&] { io::CheckpointReader(folder / "x").load("run", object); }).empty());
  }
  CHECK(object.bytes() == before);
}

TEST_CASE("foreign files and newer versions are refused by name and version") {
  const TemporaryFolder folder;
  const auto refusal = [&](const io::Metadata& metadata, bool checksums) {
    io::SafetensorsWriter({.metadata = metadata, .checksums = checksums}).save(folder / "x");
    const std::string message = error_of([&] { const io::CheckpointReader reader(folder / "x"); });
    if (!message.empty()) CHECK(contains(message, "[checkpoint] " + (folder / "x").string() + ": "));
    return message;
  };
  CHECK(refusal({{"storylm.format", "1"}}, true).empty());
  CHECK(contains(refusal({}, true), "this is no checkpoint: its metadata has no storylm.format"));
  CHECK(contains(refusal({{"format", "pt"}}, false), "this is no checkpoint"));
  CHECK(contains(refusal({{"storylm.format", "2"}, {"storylm.version", "9.1.0"}}, true),
                 "format version 2 (written by storylm 9.1.0) is newer than 1, the newest that can be read"));
  CHECK(contains(refusal({{"storylm.format", "2"}}, true), "written by storylm unknown"));
  for (const char* const text : {"", "0", "-1", "1.5", "one", "1 ", "99999999999"}) {
    CHECK(contains(refusal({{"storylm.format", text}}, true), "expected a version number"));
  }
  CHECK(contains(refusal({{"storylm.format", "1"}}, false), "no checksums"));
}

TEST_CASE("mistakes of the one who saves are refused before there is a file") {
  const TemporaryFolder folder;
  const Window object;
  const auto mistake = [&](auto&& action) {
    io::CheckpointWriter writer({.library_version = "1.2.3"});
    return error_of<ArgumentError>([&] {
      writer.add("run", object);
      action(writer);
      writer.save(folder / "x");
    });
  };
  CHECK(mistake([](io::CheckpointWriter&) {}).empty());
  std::filesystem::remove(folder / "x");
  CHECK(
      contains(mistake([&](io::CheckpointWriter& w) { w.add("run", object); }), "the prefixes run and run begin each"));
  CHECK(contains(mistake([&](io::CheckpointWriter& w) { w.add("run.window", object); }), "begin each other"));
  CHECK(contains(mistake([&](io::CheckpointWriter& w) { w.add("", object); }), "needs a prefix"));
  CHECK(contains(mistake([&](io::CheckpointWriter& w) { w.add_tensor<float>("run.more", {0}, {}); }),
                 "tensor run.more has the prefix of an object"));
  CHECK(!std::filesystem::exists(folder / "x"));
  const auto bad_metadata = [](const io::CheckpointMetadata& metadata) {
    return error_of<ArgumentError>([&] { const io::CheckpointWriter writer(metadata); });
  };
  CHECK(contains(bad_metadata({.library_version = "1", .config = "{"}), "the config is no JSON object"));
  CHECK(contains(bad_metadata({.library_version = "1", .config = "[]"}), "the config is no JSON object"));
  CHECK(contains(bad_metadata({.library_version = "1", .more = {{"config", "{}"}}}), "\"config\" is reserved"));
  CHECK(contains(bad_metadata({.library_version = "1", .more = {{"storylm.x", ""}}}), "\"storylm.x\" is reserved"));
}

TEST_CASE("no room: the old checkpoint stays, nothing half is left") {
  const TemporaryFolder folder;
  std::filesystem::path where = folder.path();
  Everything object;
  fill(object);

  SUBCASE("a limit on the size of files") {
    writer_of(object).save(where / "last");
    const std::string before = test::read_bytes(where / "last");
    object.losses = std::vector<double>(1000000, 1.0);
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
    const rlimit tight{.rlim_cur = 100000, .rlim_max = old.rlim_max};
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const std::string message = error_of<IoError>([&] { writer_of(object).save(where / "last"); });
    ::setrlimit(RLIMIT_FSIZE, &old);
    std::signal(SIGXFSZ, handler);
    CHECK(contains(message, "last"));
    CHECK(contains(message, "File too large"));
    CHECK(test::read_bytes(where / "last") == before);
    CHECK(std::distance(std::filesystem::directory_iterator(where), std::filesystem::directory_iterator()) == 1);
  }
  SUBCASE("a full disk") {
    if (::mount("none", where.c_str(), "tmpfs", 0, "size=64k") != 0) {
      MESSAGE("skipped: a small file system cannot be mounted here: ", std::strerror(errno));
      return;
    }
    writer_of(object).save(where / "last");
    const std::string before = test::read_bytes(where / "last");
    object.losses = std::vector<double>(100000, 1.0);
    const std::string message = error_of<IoError>([&] { writer_of(object).save(where / "last"); });
    CHECK(contains(message, "No space left on device"));
    CHECK(test::read_bytes(where / "last") == before);
    CHECK(std::distance(std::filesystem::directory_iterator(where), std::filesystem::directory_iterator()) == 1);
    object.losses.clear();
    CHECK_NOTHROW(writer_of(object).save(where / "last"));
    CHECK(::umount(where.c_str()) == 0);
  }
  SUBCASE("a folder that cannot be written") {
    const bool is_root = ::geteuid() == 0;  // whom permissions do not stop: a read-only file system does
    if (is_root && ::mount("none", where.c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0) {
      MESSAGE("skipped: a read-only file system cannot be mounted here: ", std::strerror(errno));
      return;
    }
    if (!is_root) REQUIRE(::chmod(where.c_str(), 0555) == 0);
    const std::string message = error_of<IoError>([&] { writer_of(object).save(where / "last"); });
    CHECK(contains(message, "last"));
    CHECK(contains(message, is_root ? "Read-only file system" : "Permission denied"));
    CHECK(std::filesystem::is_empty(where));
    if (is_root) {
      CHECK(::umount(where.c_str()) == 0);
    } else {
      CHECK(::chmod(where.c_str(), 0755) == 0);
    }
  }
  SUBCASE("a folder that is not there") {
    CHECK(contains(error_of<IoError>([&] { writer_of(object).save(where / "absent" / "last"); }), "No such file"));
    CHECK(!std::filesystem::exists(where / "absent"));
  }
}
