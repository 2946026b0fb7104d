// SPDX-License-Identifier: MIT
/// @file
/// @brief The tensors of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json
/// lists.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>

namespace storylm::io {

/// Tensors by name, memory-mapped, wherever they lie. An index and its shards must agree: every tensor of either is in
/// the other. What an index gives as total_size is not compared: published ones count buffers and tied weights that
/// their files do not have.
class SafetensorsShards {
 public:
  /// A tensor and its file; both are null when there is none.
  struct Found {
    const SafetensorsFile* file = nullptr;  ///< where it lies
    const StoredTensor* tensor = nullptr;   ///< what it is
    /// True when there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return tensor != nullptr; }
  };

  /// @param folder has model.safetensors (read if it is there), or model.safetensors.index.json
  /// @throws FormatError when a file is not what its format says, or index and shards contradict each other; IoError
  /// when there is neither file, or one cannot be read
  explicit SafetensorsShards(const std::filesystem::path& folder) {
    const std::filesystem::path whole = folder / "model.safetensors";
    const std::filesystem::path index = folder / "model.safetensors.index.json";
    if (is_there(whole)) {
      path_ = whole.string();
      files_.emplace_back(whole);
      for (const StoredTensor& tensor : files_[0].tensors()) places_.emplace(tensor.name, 0);
      return;
    }
    expects<IoError>(is_there(index), op, folder.string(),
                     " has neither model.safetensors nor model.safetensors.index.json (other formats, such as ",
                     "pytorch_model.bin, are not read)");
    path_ = index.string();
    read_index(folder, index);
  }

  /// model.safetensors, or the index.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// All files, in the order of their names.
  [[nodiscard]] std::span<const SafetensorsFile> files() const noexcept { return files_; }
  /// The tensor of that name.
  [[nodiscard]] Found find(std::string_view name) const {
    const auto place = places_.find(name);
    if (place == places_.end()) return {};
    return {&files_[place->second], files_[place->second].find(name)};
  }
  /// Number of tensors.
  [[nodiscard]] std::size_t size() const noexcept { return places_.size(); }
  /// Elements of all tensors.
  [[nodiscard]] double elements() const {
    double all = 0.0;
    for (const SafetensorsFile& file : files_)
      for (const StoredTensor& tensor : file.tensors()) all += static_cast<double>(tensor.size);
    return all;
  }

 private:
  static constexpr std::string_view op = "safetensors";

  /// True also of a link to nothing, and of what cannot be looked at: opening it says what is wrong.
  static bool is_there(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::symlink_status(path, ignored).type() != std::filesystem::file_type::not_found;
  }
  void read_index(const std::filesystem::path& folder, const std::filesystem::path& index) {
    const boost::json::value document = read_json(index);
    const auto weight_map = get<boost::json::object>(as_object(document, path_), "weight_map", path_);
    std::map<std::string, std::size_t, std::less<>> shards;
    for (const auto& [key, value] : weight_map) {
      const std::string_view name(key.data(), key.size());
      expects<FormatError>(value.is_string(), op, path_, ": tensor ", shown_name(name), " is said to be in ",
                           describe(value), ", expected the name of a file");
      const std::string shard(value.get_string().data(), value.get_string().size());
      // A plain name: an index must not make us read whatever it likes.
      expects<FormatError>(
          shard.ends_with(".safetensors") && shard.find_first_of(std::string_view("/\\\0", 3)) == shard.npos, op, path_,
          ": tensor ", shown_name(name), " is said to be in ", quoted(shard),
          ", expected the name of a .safetensors file in the same folder");
      shards.emplace(shard, 0);
      places_.emplace(name, 0);
    }
    for (auto& [shard, place] : shards) {
      place = files_.size();
      files_.emplace_back(folder / shard);
    }
    for (const auto& [key, value] : weight_map) {
      const std::string_view name(key.data(), key.size());
      const std::string_view shard(value.get_string().data(), value.get_string().size());
      std::size_t& place = places_.find(name)->second;
      place = shards.find(shard)->second;
      expects<FormatError>(files_[place].find(name) != nullptr, op, path_, ": tensor ", shown_name(name),
                           " is said to be in ", shard, ", which does not have it");
    }
    for (const auto& [shard, place] : shards) {
      for (const StoredTensor& tensor : files_[place].tensors()) {
        const auto said = places_.find(tensor.name);
        expects<FormatError>(said != places_.end(), op, path_, ": tensor ", shown_name(tensor.name), " of ", shard,
                             " is not listed");
        expects<FormatError>(said->second == place, op, path_, ": tensor ", shown_name(tensor.name), " is in ", shard,
                             ", but is said to be in ", files_[said->second].path());
      }
    }
  }

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t, std::less<>> places_;  // into files_
};

}  // namespace storylm::io
