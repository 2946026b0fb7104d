// SPDX-License-Identifier: MIT
/// @file
/// @brief Tensors of the files that PyTorch made: tests/reference/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>

namespace storylm::test {

/// A file of single operations or optimizers: tensors by name, and the options of each case.
class ReferenceFile {
 public:
  explicit ReferenceFile(const std::string& name)
      : file_(std::filesystem::path(STORYLM_TEST_DIR) / "reference" / name),
        cases_(io::parse_json(file_.metadata().at("cases"))) {}

  /// The end of the names of results that were computed in T.
  template <class T>
  static std::string suffix() {
    return sizeof(T) == 8 ? "64" : "";
  }
  /// A tensor's elements, converted to T where they are floating-point numbers.
  template <class T>
  [[nodiscard]] std::vector<T> read(const std::string& name) const {
    return file_.read<T>(name, shape(name));
  }
  [[nodiscard]] Shape shape(const std::string& name) const {
    Shape shape;
    for (const index_t extent : file_.at(name).shape) shape.append(extent);
    return shape;
  }
  /// Every case and its options.
  [[nodiscard]] const boost::json::object& cases() const { return cases_.get_object(); }
  [[nodiscard]] const boost::json::object& options(const std::string& name) const {
    return cases().at(name).get_object();
  }

 private:
  io::SafetensorsFile file_;
  boost::json::value cases_;
};

/// An option of a case, or what it is when the case does not say.
[[nodiscard]] inline double option(const boost::json::object& options, const std::string& name, double otherwise) {
  return options.contains(name) ? options.at(name).to_number<double>() : otherwise;
}

}  // namespace storylm::test
