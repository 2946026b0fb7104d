// SPDX-License-Identifier: MIT
/// @file
/// @brief Brings packed batches from the host to a device, beside the work that is still under way there.
#pragma once

#include <cstdint>

#include <storylm/tensor/packed.hpp>

namespace storylm {

/// Gives a device's copy of a batch in host memory. Where the host's memory is the device's, that is the batch itself.
template <Device D>
class Uploader {
 public:
  /// Batches of up to `capacity`.
  Uploader(const Capacity& /*capacity*/, const D& /*device*/) {}
  /// The batch.
  [[nodiscard]] const Packed<D>& operator()(const Packed<D>& batch) { return batch; }
};

/// On a GPU the copy runs on a stream of its own, into memory of its own: while a step is computed, the next batch
/// travels. One more copy, within the device and in the order of its work, puts it where kernels read it, always at
/// the same address, so that recorded work finds it. A batch that has not changed since the last call is not copied.
template <Device D>
requires(!D::host_memory) class Uploader<D> {
 public:
  /// Sizes are rounded up to these, so that shapes repeat.
  static constexpr PackedRounding rounding{.tokens = 512, .sequences = 16, .longest = 64};

  /// Batches of up to `capacity`.
  Uploader(const Capacity& capacity, const D& device)
      : device_(device), copier_(device.sibling()), staging_(capacity, copier_), current_(capacity, device) {}

  Uploader(Uploader&&) noexcept = default;  ///< with what is on its way
  Uploader& operator=(Uploader&&) = delete;
  /// staging_ goes back in the order of copier_'s work: not before it has been read.
  ~Uploader() {
    try {
      copier_.wait_for(taken_);
    } catch (...) {  // the device has failed: what comes next will say so
    }
  }

  /// The device's copy; valid until the next call with another batch, and what it is then. @throws ShapeError when the
  /// batch exceeds the capacity
  template <Device Host>
  requires(Host::host_memory) [[nodiscard]] const Packed<D>& operator()(const Packed<Host>& batch) {
    if (revision_ == batch.revision()) return current_;
    copier_.wait_for(taken_);
    staging_.assign(batch, rounding);
    device_.wait_for(copier_);
    current_.assign(staging_);
    device_.mark(taken_);
    revision_ = batch.revision();
    return current_;
  }
  /// A batch that is on the device already.
  [[nodiscard]] const Packed<D>& operator()(const Packed<D>& batch) { return batch; }

 private:
  D device_;
  D copier_;                                    // another order of work
  Packed<D> staging_;                           // on its way
  Packed<D> current_;                           // arrived
  typename D::Mark taken_{};                    // staging_ has been read
  std::uint64_t revision_ = ~std::uint64_t{0};  // of the batch that current_ is a copy of
};

}  // namespace storylm
