// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Checkpoints: an object takes all of its state or none of it, and a loaded history can be drawn.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/io/checkpoint.hpp>
#include <storylm/tensor/tensor.hpp>
#include <storylm/train/history.hpp>
#include <storylm/train/loss_plot.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

enum class Kind : std::uint8_t { first, second };

/// A member of every kind that a checkpoint knows.
struct Everything {
  bool on = false;
  Kind kind = Kind::first;
  std::int16_t narrow = 3;
  std::uint64_t wide = 4;
  float single = 0.5F;
  double real = 0.25;
  std::string text = "none";
  std::vector<std::int64_t> integers{1, 2};
  std::vector<double> reals{0.5};
  Tensor<float, Cpu> matrix{{2, 3}, Cpu{}};
  train::History history;

  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("on", self.on);
    f("kind", self.kind);
    f("narrow", self.narrow);
    f("wide", self.wide);
    f("single", self.single);
    f("real", self.real);
    f("text", self.text);
    f("integers", self.integers);
    f("reals", self.reals);
    f("matrix", self.matrix);
    f("history", self.history);
  }

  Everything() { std::memset(matrix.data(), 0, matrix.bytes()); }
  /// All bits of it.
  [[nodiscard]] std::string bits() const {
    std::string all = text + '\0';
    const auto add = [&](const void* data, std::size_t size) { all.append(static_cast<const char*>(data), size); };
    add(&on, sizeof on);
    add(&kind, sizeof kind);
    add(&narrow, sizeof narrow);
    add(&wide, sizeof wide);
    add(&single, sizeof single);
    add(&real, sizeof real);
    add(integers.data(), integers.size() * sizeof integers[0]);
    add(reals.data(), reals.size() * sizeof reals[0]);
    add(matrix.data(), matrix.bytes());
    add(history.losses().data(), history.losses().size() * sizeof(double));
    add(history.validation_losses().data(), history.validation_losses().size() * sizeof(double));
    return all;
  }
};

std::string load(const std::string& path) {
  Everything object;
  const std::string before = object.bits();
  std::string first;
  std::string message = refusal(
      [&] {
        const io::CheckpointReader reader(path);
        first = refusal([&] { reader.verify(); }, path);
        static_cast<void>(refusal([&] { static_cast<void>(reader.config()); }, path));
        reader.load("run.all", object);
      },
      path);
  must(message.empty() || object.bits() == before, "a refused file has changed the object", message);
  if (message.empty()) static_cast<void>(refusal([&] { must(!train::loss_plot(object.history).empty(), "no plot"); }));
  return message.empty() ? first : message;
}

}  // namespace

void run(std::string_view input) {
  std::string bytes(input);
  for (int attempt = 0; attempt < 24; ++attempt) {  // one for the header, one for each tensor, and the header again
    const std::string message = load(folder().write("x.safetensors", bytes).string());
    if (!repair_checksum(bytes, message)) return;
  }
}

void seeds(Seeds& made) {
  Everything object;
  object.on = true;
  object.text = "some text";
  object.history.add_loss(2.5);
  object.history.add_loss(2.25);
  static_cast<void>(object.history.add_validation(2, 2.0));
  io::CheckpointWriter writer({.library_version = "0.1", .config = R"({"vocab_size": 5})", .more = {{"note", "x"}}});
  writer.add("run.all", object);
  const std::vector<float> weight{1.0F, 2.0F};
  writer.add_tensor<float>("weight", {2}, weight);
  writer.save(folder().path() / "seed");
  made.add_file(folder().path() / "seed");
  json_words(made);
  made.words({"\"storylm.format\":\"1\"", "\"storylm.format\":\"2\"", "\"storylm.format\":\"-1\"", "storylm.checksums",
              "\"run.all.on\"", "\"run.all.history.losses\"", "\"run.all.history.validation_steps\"", "\"shape\":[0]",
              "\"shape\":[1]", "I64", "F64", "U8", "data_offsets"});
}

}  // namespace storylm::fuzz
