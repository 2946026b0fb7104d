// SPDX-License-Identifier: MIT
/// @file
/// @brief A parameter: a shape, and views into the arenas that nn::allocate lays out.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <storylm/tensor/tensor.hpp>

namespace storylm::nn {

/// Constructed with a shape only; nn::allocate gives it memory. Gradients and masters are of accumulator type.
/// @tparam T dtype of the value
template <FloatDtype T, Device D>
class Parameter {
 public:
  using value_type = T;                    ///< dtype of an element
  using gradient_type = accumulator_t<T>;  ///< dtype of gradient and master

  /// Weight decay applies, as is the custom, to matrices and not to biases and norms.
  explicit Parameter(Shape shape) : Parameter(shape, shape.rank() > 1) {}
  /// @param decay whether weight decay applies
  Parameter(Shape shape, bool decay) : shape_(shape), decay_(decay) {}
  /// Not copied: a copy would share value and gradient with the original.
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;
  Parameter(Parameter&&) noexcept = default;             ///< the same memory under another address
  Parameter& operator=(Parameter&&) noexcept = default;  ///< the same memory under another address
  ~Parameter() = default;

  /// Of the value.
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  /// Elements of the value.
  [[nodiscard]] index_t size() const noexcept { return shape_.size(); }
  /// True when weight decay applies.
  [[nodiscard]] bool decay() const noexcept { return decay_; }
  /// True when the value is the rounded copy of a master.
  [[nodiscard]] bool has_master() const noexcept { return master_ != nullptr; }

  /// The value as a matrix: (rows, cols), or (1, n) for a vector.
  /// @throws ShapeError before nn::allocate
  [[nodiscard]] MatrixView<const T> value() const {
    expects_memory("Parameter::value");
    return {value_, shape_.rows(), shape_.cols()};
  }
  /// The gradient, of the value's shape. @throws ShapeError unless allocated with Gradients::yes
  [[nodiscard]] MatrixView<gradient_type> gradient() const {
    expects<ShapeError>(gradient_ != nullptr, "Parameter::gradient", "allocated without gradients");
    return {gradient_, shape_.rows(), shape_.cols()};
  }

  /// The only way to write a value from outside: sets master and value == round(master).
  /// @throws ShapeError when the number of values is not the shape's
  void assign(std::span<const gradient_type> values) {
    expects<ShapeError>(static_cast<index_t>(values.size()) == size(), "Parameter::assign", "shape ", shape_, " needs ",
                        size(), " values, got ", values.size());
    assign_part(0, values);
  }
  /// Part of assign(): elements first, first + 1, ... in row-major order. @throws ShapeError when there are not as many
  void assign_part(index_t first, std::span<const gradient_type> values) {
    expects_memory("Parameter::assign");
    expects_part("Parameter::assign", first, values.size());
    if constexpr (std::is_same_v<T, gradient_type>) {
      device_->copy_from_host(value_ + first, values.data(), values.size_bytes());
    } else {
      std::vector<T> rounded(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), [](gradient_type v) { return T(v); });
      device_->copy_from_host(value_ + first, rounded.data(), rounded.size() * sizeof(T));
      if (master_ != nullptr) device_->copy_from_host(master_ + first, values.data(), values.size_bytes());
    }
  }
  /// The same of values that are rounded already; the master, where there is one, becomes what they are.
  void assign_part(index_t first, std::span<const T> values) requires(!std::is_same_v<T, gradient_type>) {
    expects_memory("Parameter::assign");
    expects_part("Parameter::assign", first, values.size());
    device_->copy_from_host(value_ + first, values.data(), values.size_bytes());
    if (master_ == nullptr) return;
    std::vector<gradient_type> exact(values.size());
    std::transform(values.begin(), values.end(), exact.begin(), [](T v) { return static_cast<gradient_type>(v); });
    device_->copy_from_host(master_ + first, exact.data(), exact.size() * sizeof(gradient_type));
  }
  /// The master value where there is one, else the value.
  [[nodiscard]] std::vector<gradient_type> to_host() const {
    std::vector<gradient_type> values(static_cast<std::size_t>(size()));
    read_part(0, values);
    return values;
  }
  /// Part of to_host(): elements first, first + 1, ... @throws ShapeError when there are not as many
  void read_part(index_t first, std::span<gradient_type> values) const {
    expects_memory("Parameter::read_part");
    expects_part("Parameter::read_part", first, values.size());
    if constexpr (std::is_same_v<T, gradient_type>) {
      device_->copy_to_host(values.data(), value_ + first, values.size_bytes());
      device_->synchronize();
    } else if (master_ != nullptr) {
      device_->copy_to_host(values.data(), master_ + first, values.size_bytes());
      device_->synchronize();
    } else {
      std::vector<T> stored(values.size());
      device_->copy_to_host(stored.data(), value_ + first, stored.size() * sizeof(T));
      device_->synchronize();
      std::transform(stored.begin(), stored.end(), values.begin(), [](T v) { return static_cast<gradient_type>(v); });
    }
  }
  /// The gradient, copied to the host.
  [[nodiscard]] std::vector<gradient_type> gradient_to_host() const {
    expects<ShapeError>(gradient_ != nullptr, "Parameter::gradient_to_host", "allocated without gradients");
    std::vector<gradient_type> values(static_cast<std::size_t>(size()));
    device_->copy_to_host(values.data(), gradient_, values.size() * sizeof(gradient_type));
    device_->synchronize();
    return values;
  }

  /// For nn::allocate: makes it a view of this memory. `master` and `gradient` may be null.
  void bind(const D& device, T* value, gradient_type* master, gradient_type* gradient) {
    device_ = device;
    value_ = value;
    master_ = master;
    gradient_ = gradient;
  }

 private:
  void expects_memory(std::string_view op) const {
    expects<ShapeError>(device_.has_value(), op, "nn::allocate has not given it memory");
  }
  void expects_part(std::string_view op, index_t first, std::size_t count) const {
    const index_t end = first + static_cast<index_t>(count);
    expects<ShapeError>(first >= 0 && end <= size(), op, "elements ", first, " to ", end, " of ", size());
  }

  Shape shape_;
  bool decay_;
  std::optional<D> device_;
  T* value_ = nullptr;
  gradient_type* master_ = nullptr;
  gradient_type* gradient_ = nullptr;
};

}  // namespace storylm::nn
