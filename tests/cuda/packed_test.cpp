// SPDX-License-Identifier: MIT
// Packed batches on their way to the GPU: rounding, tails, the uploader beside a step.
#include <vector>

#include <storylm/tensor/uploader.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using Ids = std::vector<token_t>;

namespace {

template <class T>
std::vector<T> read(const T* values, index_t count) {
  std::vector<T> host(static_cast<std::size_t>(count));
  test::cuda_device().copy_to_host(host.data(), values, host.size() * sizeof(T));
  test::cuda_device().synchronize();
  return host;
}

Packed<Cpu> two_stories() {
  Packed<Cpu> batch({.tokens = 40, .sequences = 5, .longest = 20}, Cpu{});
  batch.append(Ids{4, 5, 6}, Ids{5, 6, no_target}, 7);
  batch.append(Ids{8, 9}, {}, 2, 30);
  return batch;
}

}  // namespace

TEST_CASE("a batch arrives as it is") {
  const auto batch = two_stories();
  Packed<Cuda> there(batch.capacity(), test::cuda_device());
  there.assign(batch);
  const PackedView view = there.view();
  CHECK(view.tokens == 5);
  CHECK(view.sequences == 2);
  CHECK(view.longest == 3);
  CHECK(there.target_count() == 2);
  CHECK(read(view.ids, 5) == Ids{4, 5, 6, 8, 9});
  CHECK(read(view.targets, 5) == Ids{5, 6, no_target, no_target, no_target});
  CHECK(read(view.offsets, 3) == std::vector<std::int32_t>{0, 3, 5});
  CHECK(read(view.positions, 5) == std::vector<std::int32_t>{0, 1, 2, 30, 31});
  CHECK(read(view.sequence, 5) == std::vector<std::int32_t>{0, 0, 0, 1, 1});
  CHECK(read(view.ordinals, 2) == std::vector<std::uint32_t>{7, 2});
}

TEST_CASE("sizes are rounded up: rows without targets, empty sequences, never beyond the capacity") {
  const auto batch = two_stories();
  Packed<Cuda> there(batch.capacity(), test::cuda_device());
  there.assign(batch, {.tokens = 8, .sequences = 4, .longest = 16});
  PackedView view = there.view();
  CHECK(view.tokens == 8);
  CHECK(view.sequences == 4);
  CHECK(view.longest == 16);
  CHECK(there.target_count() == 2);
  CHECK(read(view.targets, 8) == Ids{5, 6, -1, -1, -1, -1, -1, -1});
  CHECK(read(view.offsets, 5) == std::vector<std::int32_t>{0, 3, 5, 5, 5});
  there.assign(batch, {.tokens = 512, .sequences = 512, .longest = 512});
  view = there.view();
  CHECK(view.tokens == 40);
  CHECK(view.sequences == 5);
  CHECK(view.longest == 20);
  CHECK(read(view.offsets, 6) == std::vector<std::int32_t>{0, 3, 5, 5, 5, 5});
  CHECK(read(view.targets, 40).back() == no_target);
}

TEST_CASE("a batch that is too large is refused, and the memory keeps what it had") {
  auto batch = two_stories();
  Packed<Cuda> there({.tokens = 4, .sequences = 5, .longest = 20}, test::cuda_device());
  CHECK_THROWS_WITH_AS(there.assign(batch),
                       "[Packed::assign] the batch has 5 tokens in 2 sequences, the longest of 3, there is room for 4 "
                       "in 5, the longest of 20",
                       ShapeError);
  CHECK(there.tokens() == 0);
}

TEST_CASE("the uploader copies a batch once, notices changes, and keeps its address") {
  test::for_each_schedule([](unsigned) {
    auto batch = two_stories();
    Uploader<Cuda> upload(batch.capacity(), test::cuda_device());
    const Packed<Cuda>& there = upload(batch);
    const auto revision = there.revision();
    const token_t* const ids = there.view().ids;
    CHECK(upload(batch).revision() == revision);
    batch.append(Ids{1, 2, 3, 4}, {}, 1);
    CHECK(upload(batch).revision() != revision);
    CHECK(there.view().ids == ids);
    CHECK(read(ids, 9) == Ids{4, 5, 6, 8, 9, 1, 2, 3, 4});
    CHECK(there.view().tokens == 40);  // rounded to 512, bounded by the capacity

    for (token_t i = 0; i < 20; ++i) {  // one after another, each as it was when it was given
      batch.clear();
      batch.append(Ids(10, i), Ids(10, i + 1), 0);
      const Packed<Cuda>& next = upload(batch);
      batch.clear();
      batch.append(Ids(10, 99), {}, 0);
      CHECK(read(next.view().ids, 10) == Ids(10, i));
      CHECK(read(next.view().targets, 11) == [&] {
        Ids expected(10, i + 1);
        expected.push_back(no_target);
        return expected;
      }());
    }
    const Packed<Cuda> own(batch.capacity(), test::cuda_device());
    CHECK(&upload(own) == &own);
  });
}

TEST_CASE("an uploader's memory is not given back before the last batch has been read") {
  test::for_each_schedule(
      [](unsigned) {
        const Cuda& device = test::cuda_device();
        const auto batch = two_stories();
        {
          Uploader<Cuda> first(batch.capacity(), device);
          Uploader<Cuda> upload(std::move(first));
          CHECK(upload(batch).tokens() == 40);
        }
        device.synchronize();
      },
      500);  // few of them have the copy wait that long
}
