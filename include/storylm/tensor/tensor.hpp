// SPDX-License-Identifier: MIT
/// @file
/// @brief Owning, contiguous, row-major tensor. Move-only: copies are spelt clone().
#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/tensor/shape.hpp>
#include <storylm/tensor/view.hpp>

namespace storylm {

/// @tparam T element type
/// @tparam D device whose memory it lies in
template <Dtype T, Device D>
class Tensor {
 public:
  using value_type = T;   ///< dtype of an element
  using device_type = D;  ///< where it computes

  /// No memory, shape ().
  Tensor() = default;
  /// All zeros.
  Tensor(Shape shape, const D& device) : Tensor(shape, device, Initially::zero) {
    if constexpr (!allocates_zero) device.fill_zero(data_, bytes());
  }
  /// Memory as it comes, for whoever writes every element before reading it.
  [[nodiscard]] static Tensor uninitialised(Shape shape, const D& device) {
    return Tensor(shape, device, Initially::as_it_comes);
  }
  /// Takes its values from the host. @throws ShapeError when their number is not the shape's
  [[nodiscard]] static Tensor from_host(Shape shape, std::span<const T> values, const D& device) {
    expects<ShapeError>(shape.size() == static_cast<index_t>(values.size()), "Tensor::from_host", "shape ", shape,
                        " needs ", shape.size(), " values, got ", values.size());
    Tensor t(shape, device, Initially::as_it_comes);
    device.copy_from_host(t.data_, values.data(), t.bytes());
    return t;
  }

  /// Takes over the memory; `other` has none afterwards.
  Tensor(Tensor&& other) noexcept
      : device_(std::exchange(other.device_, std::nullopt)),
        shape_(std::exchange(other.shape_, {})),
        data_(std::exchange(other.data_, nullptr)) {}
  /// Exchanges the memory with `other`.
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(shape_, other.shape_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Tensor() {
    if (data_ != nullptr) device_->deallocate(data_);
  }

  /// All elements in row-major order, copied to the host.
  [[nodiscard]] std::vector<T> to_host() const {
    std::vector<T> values(static_cast<std::size_t>(size()));
    if (data_ != nullptr) {
      device().copy_to_host(values.data(), data_, bytes());
      device().synchronize();
    }
    return values;
  }
  /// A copy with memory of its own.
  [[nodiscard]] Tensor clone() const {
    if (data_ == nullptr) return {};
    Tensor t(shape_, device(), Initially::as_it_comes);
    device().copy(t.data_, data_, bytes());
    return t;
  }

  /// True once it has memory.
  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  /// Extents.
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  /// Number of elements; 0 without memory.
  [[nodiscard]] index_t size() const noexcept { return data_ != nullptr ? shape_.size() : 0; }
  /// Size of the memory.
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size()) * sizeof(T); }
  /// @pre has memory
  [[nodiscard]] const D& device() const noexcept { return *device_; }

  /// The first element; null without memory.
  [[nodiscard]] T* data() noexcept { return data_; }
  /// Read only.
  [[nodiscard]] const T* data() const noexcept { return data_; }
  /// Seen as a matrix: the innermost extent are the columns.
  [[nodiscard]] MatrixView<T> matrix() noexcept { return {data_, shape_.rows(), shape_.cols()}; }
  /// Read only.
  [[nodiscard]] MatrixView<const T> matrix() const noexcept { return {data_, shape_.rows(), shape_.cols()}; }
  /// The first `count` rows of it.
  [[nodiscard]] MatrixView<T> rows(index_t count) noexcept { return {data_, count, shape_.cols()}; }
  /// Read only.
  [[nodiscard]] MatrixView<const T> rows(index_t count) const noexcept { return {data_, count, shape_.cols()}; }

 private:
  enum class Initially : bool { as_it_comes, zero };
  /// A device may have zeroed memory that nobody had to write (Cpu): then pages are first touched by those who use
  /// them.
  static constexpr bool allocates_zero = requires(const D& device, std::size_t bytes) { device.allocate_zero(bytes); };

  Tensor(Shape shape, const D& device, Initially initially) : device_(device), shape_(shape) {
    const std::size_t needed = static_cast<std::size_t>(shape.size()) * sizeof(T);
    if constexpr (allocates_zero) {
      if (initially == Initially::zero) {
        data_ = static_cast<T*>(device.allocate_zero(needed));
        return;
      }
    }
    data_ = static_cast<T*>(device.allocate(needed));
  }

  std::optional<D> device_;  // none without memory, so that a default-made Tensor needs no device
  Shape shape_;
  T* data_ = nullptr;
};

}  // namespace storylm
