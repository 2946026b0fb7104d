// SPDX-License-Identifier: MIT
/// @file
/// @brief Everything a run is made of, saved and loaded as one file. Needs storylm::io.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/state.hpp>
#include <storylm/io/model_file.hpp>

namespace storylm::train {

/// A list of (name, object) beside a model: what a loop must keep to go on bit for bit as if it had never stopped.
///
///     train::RunState run(model);
///     run.keep("optimizer", optimizer);
///     run.keep("schedule", schedule);
///     run.keep("loader", loader);
///     run.keep("step", step);
///     run.keep("history", history);
///     if (exists(path)) run.load(path);
///     ...
///     run.save(path);                                      // between steps
///
/// It holds references: model and objects must outlive it.
class RunState {
 public:
  /// @param model a TransformerLM or nn::TransformerStack
  template <class Model>
  explicit RunState(Model& model)
      : metadata_([&model](const std::optional<std::uint64_t>& hash) { return io::model_metadata(model, hash); }),
        save_model_([&model](io::CheckpointWriter& writer) { io::add_model(writer, model); }),
        expect_model_([&model](const io::ModelFile& file) { file.expect(model); }),
        load_model_([&model](const io::ModelFile& file) { file.load_into(model); }) {}

  /// From now on `object` is part of the state, under a name that no other object has.
  template <Stateful S>
  void keep(std::string_view name, S& object) {
    std::string prefix = std::string(io::run_prefix) + '.' + std::string(name);
    objects_.push_back(
        {.prefix = prefix + '.',
         .save = [prefix, &object](io::CheckpointWriter& writer) { writer.add(prefix, std::as_const(object)); },
         .expect = [prefix, &object](const io::CheckpointReader& reader) { reader.expect(prefix, object); },
         .load = [prefix, &object](const io::CheckpointReader& reader) { reader.load(prefix, object); }});
  }
  /// The same of an object that runs had not from the first: a file that holds nothing of it leaves it as it is.
  template <Stateful S>
  void keep_if_stored(std::string_view name, S& object) {
    keep(name, object);
    objects_.back().required = false;
  }
  /// The vocabulary the model's ids belong to; load() refuses a checkpoint of another.
  void set_tokenizer_hash(std::uint64_t hash) { tokenizer_hash_ = hash; }
  /// Something that must be the same when the run goes on, such as the batch size. load() compares it.
  /// @param unrecorded the value of files that say nothing of it, written before it was a setting
  void expect(std::string name, std::string value, std::string unrecorded = "not recorded") {
    expected_.push_back({std::move(name), std::move(value), std::move(unrecorded)});
  }

  /// Writes the file, complete or not at all. Call it between steps.
  /// @param predecessor where not empty, the name that an older file of this name gets when the new one is complete
  /// @throws WriteError and the errors of CheckpointWriter
  void save(const std::filesystem::path& path, const std::filesystem::path& predecessor = {}) const {
    io::CheckpointMetadata metadata = metadata_(tokenizer_hash_);
    for (const auto& [name, value, unrecorded] : expected_) metadata.more["run." + name] = value;
    io::CheckpointWriter writer(metadata);
    save_model_(writer);
    for (const Object& object : objects_) object.save(writer);
    writer.save(path, predecessor);
  }
  /// Sets model and objects from the file: all of them, or none when it throws.
  /// @throws FormatError when it is damaged, of another shape, vocabulary or setting, or holds other objects
  void load(const std::filesystem::path& path) {
    const io::ModelFile file(path);
    const io::CheckpointReader& reader = file.reader();
    reader.verify();
    if (tokenizer_hash_) {
      const std::string wanted = storylm::detail::hash_text(*tokenizer_hash_);
      const std::string found = file.tokenizer_hash().value_or("none");
      expects<FormatError>(found == wanted, "run", path.string(), ": belongs to the tokenizer ", found, ", expected ",
                           wanted);
    }
    for (const auto& [name, value, unrecorded] : expected_) {
      const auto found = reader.metadata().find("run." + name);
      const std::string stored = found == reader.metadata().end() ? unrecorded : found->second;
      expects<FormatError>(stored == value, "run", path.string(), ": the run began with ", name, ' ', stored,
                           ", now it is ", value, ": go on with the same, or begin in another folder");
    }
    expect_model_(file);
    std::vector<const Object*> stored;
    for (const Object& object : objects_)
      if (object.required || holds(reader, object)) stored.push_back(&object);
    for (const Object* object : stored) object->expect(reader);
    expect_no_other(reader);
    load_model_(file);
    for (const Object* object : stored) object->load(reader);
  }

 private:
  struct Setting {
    std::string name;
    std::string value;
    std::string unrecorded;
  };
  struct Object {
    std::string prefix;  // with a dot at its end
    std::function<void(io::CheckpointWriter&)> save;
    std::function<void(const io::CheckpointReader&)> expect;
    std::function<void(const io::CheckpointReader&)> load;
    bool required = true;
  };

  static bool holds(const io::CheckpointReader& reader, const Object& object) {
    const auto tensors = reader.file().tensors();
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const io::StoredTensor& tensor) { return tensor.name.starts_with(object.prefix); });
  }

  /// An object of the run that nobody takes would be lost without a word.
  void expect_no_other(const io::CheckpointReader& reader) const {
    for (const io::StoredTensor& tensor : reader.file().tensors()) {
      const auto is_its = [&](const Object& object) { return tensor.name.starts_with(object.prefix); };
      expects<FormatError>(!tensor.name.starts_with(std::string(io::run_prefix) + '.') ||
                               std::any_of(objects_.begin(), objects_.end(), is_its),
                           "run", reader.file().path(), ": tensor ", io::shown_name(tensor.name),
                           " belongs to nothing that is loaded");
    }
  }

  std::function<io::CheckpointMetadata(const std::optional<std::uint64_t>&)> metadata_;
  std::function<void(io::CheckpointWriter&)> save_model_;
  std::function<void(const io::ModelFile&)> expect_model_;
  std::function<void(const io::ModelFile&)> load_model_;
  std::vector<Object> objects_;
  std::optional<std::uint64_t> tokenizer_hash_;
  std::vector<Setting> expected_;
};

}  // namespace storylm::train
