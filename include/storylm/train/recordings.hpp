// SPDX-License-Identifier: MIT
/// @file
/// @brief Work of a training step that a GPU is told once per shape of batch and then repeats.
#pragma once

#include <cstddef>
#include <map>
#include <tuple>

#include <storylm/tensor/pass.hpp>

namespace storylm::train {

/// One piece of work, recorded for every shape of batch that it meets: on a GPU a CUDA graph, elsewhere nothing. The
/// work must be the same each time, on the same memory. A loop reads
///
///     train::Recordings<Device> recordings;
///     step.begin(batch, lr);
///     recordings.run(step.pass(micro), [&] {
///       model.forward(micro, step);
///       model.backward(micro, step);
///     });
///
/// with one object for each kind of work; what is no part of it (begin, reading results) stands outside.
template <Device D>
class Recordings {
 public:
  /// Does work() on pass.device, or repeats what it did for this shape. The first time a shape is met nothing is
  /// recorded, so that all that is needed gets allocated. @throws whatever work throws
  template <class Work>
  void run(const Pass<D>& pass, Work&& work) {
    if constexpr (D::host_memory) {
      work();  // shapes are not rounded there: one entry a step would gather
    } else {
      const PackedView& batch = pass.batch;
      by_shape_[{batch.tokens, batch.sequences, batch.longest}].run(pass.device, work);
    }
  }
  /// The same of work that knows no batch, such as an optimizer's step.
  template <class Work>
  void run(const D& device, Work&& work) {
    if constexpr (D::host_memory) {
      work();
    } else {
      by_shape_[{0, 0, 0}].run(device, work);
    }
  }
  /// Shapes met so far; none where nothing is recorded.
  [[nodiscard]] std::size_t shapes() const noexcept { return by_shape_.size(); }
  /// How many of them are repeated by now.
  [[nodiscard]] std::size_t recorded() const noexcept {
    std::size_t n = 0;
    for (const auto& [shape, recording] : by_shape_) n += recording.recorded() ? 1 : 0;
    return n;
  }

 private:
  std::map<std::tuple<index_t, index_t, index_t>, typename D::Recording> by_shape_;
};

}  // namespace storylm::train
