// SPDX-License-Identifier: MIT
// The emulator's primitives against what the PTX ISA and primitives.cuh say of them, on many schedules.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/kernels/cuda/primitives.cuh>

#include "emulator_support.hpp"

using namespace storylm;
using storylm::test::Buffer;
using storylm::test::error_of;
using storylm::test::for_seeds;

namespace {

struct Place {
  int thread, threads, x, y, z, gx, gy, gz, lane, warp;
};

__global__ void write_places(Place* places) {
  const int block = (cuda::block_z() * cuda::grid_y() + cuda::block_y()) * cuda::grid_x() + cuda::block_x();
  places[block * cuda::block_threads() + cuda::thread_index()] = {
      cuda::thread_index(), cuda::block_threads(), cuda::block_x(), cuda::block_y(),    cuda::block_z(),
      cuda::grid_x(),       cuda::grid_y(),        cuda::grid_z(),  cuda::lane_index(), cuda::warp_index()};
}

__global__ void exchange(std::uint32_t* out32, double* out64, int distance) {
  const int i = cuda::thread_index();
  const auto mine = static_cast<std::uint32_t>(i) * 3U + 1U;
  out32[i * 3] = cuda::shuffle_xor(mine, distance);
  out32[i * 3 + 1] = cuda::shuffle(mine, i + distance);
  out32[i * 3 + 2] = cuda::shuffle_up(mine, distance);
  out64[i] = cuda::shuffle_xor(static_cast<double>(i) + 0.25, distance);
}

__global__ void vote(std::uint32_t* out) {
  const int i = cuda::thread_index();
  const std::uint32_t bits = cuda::ballot(i % 3 == 0);
  const bool some = cuda::any(i == 37);
  const bool none = cuda::any(false);
  const bool most = cuda::all(i != 37);
  out[i * 4] = bits;
  out[i * 4 + 1] = some ? 1 : 0;
  out[i * 4 + 2] = none ? 1 : 0;
  out[i * 4 + 3] = most ? 1 : 0;
}

// Four matrices of which element (row, column) of matrix m is 64 m + 8 row + column.
__global__ void load_matrices(std::uint32_t* plain, std::uint32_t* transposed) {
  auto* const shared = reinterpret_cast<std::uint16_t*>(cuda::dynamic_shared());
  const int i = cuda::thread_index();
  for (int e = i; e < 256; e += 32)
    shared[(e / 8) * 24 + e % 8] = static_cast<std::uint16_t>(e);  // rows 48 bytes apart
  cuda::sync_warp();
  std::uint32_t r[4];
  cuda::load_matrix_x4(r, cuda::shared_address(shared + i * 24));
  for (int m = 0; m < 4; ++m) plain[i * 4 + m] = r[m];
  cuda::load_matrix_x4_transposed(r, cuda::shared_address(shared + i * 24));
  for (int m = 0; m < 4; ++m) transposed[i * 4 + m] = r[m];
}

template <class T>
__global__ void multiply(float* d, const float* a, const float* b, const float* c) {  // (16, 8) (16, 16) (16, 8)
  // As the PTX ISA's tables of mma.m16n8k16 have it, one element after another.
  const int group = cuda::lane_index() >> 2;
  const int in_group = cuda::lane_index() % 4;
  std::uint32_t fa[4] = {};
  std::uint32_t fb[2] = {};
  float fc[4];
  for (int i = 0; i < 8; ++i) {
    const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
    const int column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
    fa[i / 2] |= static_cast<std::uint32_t>(cuda::from_float<T>(a[row * 16 + column]).bits) << (i % 2 * 16);
  }
  for (int i = 0; i < 4; ++i) {
    const int row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
    fb[i / 2] |= static_cast<std::uint32_t>(cuda::from_float<T>(b[row * 8 + group]).bits) << (i % 2 * 16);
    fc[i] = c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
  }
  cuda::mma_m16n8k16<T>(fc, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = fc[i];
}

__global__ void copy_tiles(std::uint32_t* out, const std::uint32_t* in) {  // (3, 32, 4) both; part 1 is not valid
  auto* const shared = reinterpret_cast<std::uint32_t*>(cuda::dynamic_shared());
  const int i = cuda::thread_index();
  for (int part = 0; part < 3; ++part) {
    cuda::copy_async16(cuda::shared_address(shared + (part * 32 + i) * 4),
                       part == 1 ? nullptr : in + (part * 32 + i) * 4, part != 1);
    cuda::commit_copies();
  }
  cuda::wait_copies<1>();
  for (int e = 0; e < 8; ++e) out[(e / 4 * 32 + i) * 4 + e % 4] = shared[(e / 4 * 32 + i) * 4 + e % 4];  // parts 0, 1
  cuda::wait_copies<0>();
  for (int e = 0; e < 4; ++e) out[(64 + i) * 4 + e] = shared[(64 + i) * 4 + e];
}

struct First;
struct Second;
__global__ void share(std::uint64_t* out) {
  const auto address = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p); };
  const auto begin = address(cuda::dynamic_shared());
  const int i = cuda::thread_index();
  if (i == 0) {
    out[0] = address(cuda::shared_array<float, 40, First>()) - begin;
    out[1] = address(cuda::shared_array<float, 40, First>()) - begin;
    out[2] = address(cuda::shared_array<float, 40, Second>()) - begin;
    out[3] = address(cuda::shared_array<std::uint64_t, 3, First>()) - begin;
    out[4] = begin % 128;
    out[5] = cuda::shared_address(cuda::dynamic_shared() + 32) - cuda::shared_address(cuda::dynamic_shared());
  }
  float* const values = cuda::shared_array<float, 40, First>();
  out[8 + i] = std::bit_cast<std::uint32_t>(values[i]);  // nobody wrote it
  values[i] = 0.0F;
}

__global__ void count(int* counters, std::uint32_t* bits) {
  const int i = cuda::block_x() * cuda::block_threads() + cuda::thread_index();
  cuda::atomic_add(counters, 1);
  cuda::atomic_min(counters + 1, -i);
  cuda::atomic_max(counters + 2, i);
  cuda::atomic_or(bits + i / 32, 1U << (i % 32));
  cuda::fence_device();
}

// Tickets in the order in which threads come.
__global__ void draw(int* counter, int* tickets) {
  const int i = cuda::block_x() * cuda::block_threads() + cuda::thread_index();
  tickets[i] = cuda::atomic_add(counter, 1);
}

}  // namespace

TEST_CASE("every thread of the grid runs once and knows its place") {
  const Cuda device;
  Buffer<Place> places(device, 2 * 3 * 2 * 96);
  cuda::launch(device, write_places, dim3(2, 3, 2), 96, 0, places.data());
  const auto found = places.host();
  for (int i = 0; i < static_cast<int>(found.size()); ++i) {
    const Place& p = found[static_cast<std::size_t>(i)];
    CHECK(p.thread == i % 96);
    CHECK(p.threads == 96);
    CHECK(p.lane == i % 96 % 32);
    CHECK(p.warp == i % 96 / 32);
    CHECK(p.x == i / 96 % 2);
    CHECK(p.y == i / 96 / 2 % 3);
    CHECK(p.z == i / 96 / 6);
    CHECK((p.gx == 2 && p.gy == 3 && p.gz == 2));
  }
  const std::uint64_t launches = emulator::launches();
  cuda::launch(device, write_places, dim3(2, 0, 2), 96, 0, places.data());
  device.synchronize();
  CHECK(emulator::launches() == launches);  // an empty grid is no launch
}

TEST_CASE("shuffles and votes") {
  const Cuda device;
  for_seeds(4, [&] {
    for (const int distance : {0, 1, 5, 16, 31}) {
      Buffer<std::uint32_t> out32(device, 64 * 3);
      Buffer<double> out64(device, 64);
      cuda::launch(device, exchange, dim3(1), 64, 0, out32.data(), out64.data(), distance);
      const auto r32 = out32.host();
      const auto r64 = out64.host();
      for (int i = 0; i < 64; ++i) {
        const int warp = i / 32 * 32;
        const auto value = [&](int lane) { return static_cast<std::uint32_t>(warp + lane) * 3U + 1U; };
        const auto at = static_cast<std::size_t>(i);
        CHECK(r32[at * 3] == value(i % 32 ^ distance));
        CHECK(r32[at * 3 + 1] == value((i + distance) % 32));
        CHECK(r32[at * 3 + 2] == value(i % 32 < distance ? i % 32 : i % 32 - distance));
        CHECK(r64[at] == warp + (i % 32 ^ distance) + 0.25);
      }
    }
    Buffer<std::uint32_t> out(device, 64 * 4);
    cuda::launch(device, vote, dim3(1), 64, 0, out.data());
    const auto r = out.host();
    for (std::size_t i = 0; i < 64; ++i) {
      std::uint32_t bits = 0;
      for (std::size_t l = 0; l < 32; ++l) bits |= ((i / 32 * 32 + l) % 3 == 0 ? 1U : 0U) << l;
      CHECK(r[i * 4] == bits);
      CHECK(r[i * 4 + 1] == (i / 32 == 1 ? 1 : 0));
      CHECK(r[i * 4 + 2] == 0);
      CHECK(r[i * 4 + 3] == (i / 32 == 0 ? 1 : 0));
    }
  });
}

TEST_CASE("load_matrix_x4 gives the rows of four matrices, or their columns") {
  const Cuda device;
  for_seeds(4, [&] {
    Buffer<std::uint32_t> plain(device, 128);
    Buffer<std::uint32_t> transposed(device, 128);
    cuda::launch(device, load_matrices, dim3(1), 32, 32 * 48, plain.data(), transposed.data());
    const auto p = plain.host();
    const auto t = transposed.host();
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      for (std::uint32_t m = 0; m < 4; ++m) {
        const auto element = [&](std::uint32_t row, std::uint32_t column) { return m * 64 + row * 8 + column; };
        const std::uint32_t g = lane / 4;
        const std::uint32_t c = lane % 4 * 2;
        CHECK(p[lane * 4 + m] == (element(g, c) | element(g, c + 1) << 16U));
        CHECK(t[lane * 4 + m] == (element(c, g) | element(c + 1, g) << 16U));
      }
    }
  });
}

TEST_CASE_TEMPLATE("mma_m16n8k16 adds the product of a and b", T, bf16, half) {
  const Cuda device;
  std::vector<float> a(256);
  std::vector<float> b(128);
  std::vector<float> c(128);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 7 % 23) - 11.0F;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = (static_cast<float>(i * 5 % 19) - 9.0F) / 8.0F;
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(i) / 4.0F;
  a[5] = 0x1p-20F;  // a denormal of half
  b[5 * 8] = 1024.0F;
  for_seeds(4, [&] {
    Buffer<float> d(device, 128);
    cuda::launch(device, multiply<T>, dim3(1), 32, 0, d.data(), Buffer<float>(device, a).data(),
                 Buffer<float>(device, b).data(), Buffer<float>(device, c).data());
    const auto r = d.host();
    for (std::size_t row = 0; row < 16; ++row) {
      for (std::size_t column = 0; column < 8; ++column) {
        double sum = c[row * 8 + column];
        for (std::size_t k = 0; k < 16; ++k) sum += double{a[row * 16 + k]} * double{b[k * 8 + column]};
        CHECK(r[row * 8 + column] == doctest::Approx(sum).epsilon(1e-6));
      }
    }
  });
}

TEST_CASE("asynchronous copies: zeros without an access where not valid, groups land in order") {
  const Cuda device;
  std::vector<std::uint32_t> in(3 * 32 * 4);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint32_t>(i) + 1;
  for_seeds(8, [&] {
    Buffer<std::uint32_t> from(device, in);
    Buffer<std::uint32_t> out(device, in.size());
    cuda::launch(device, copy_tiles, dim3(1), 32, in.size() * 4, out.data(), from.data());
    const auto r = out.host();
    for (std::size_t i = 0; i < in.size(); ++i) CHECK(r[i] == (i / 128 == 1 ? 0 : in[i]));
  });
}

TEST_CASE("shared memory: one place for each type, size and tag, and nothing in it") {
  const Cuda device;
  Buffer<std::uint64_t> out(device, 8 + 32);
  cuda::launch(device, share, dim3(3), 32, 200, out.data());
  const auto r = out.host();
  CHECK(r[0] >= 200);
  CHECK(r[1] == r[0]);
  CHECK((r[2] >= r[0] + 160 || r[2] + 160 <= r[0]));
  CHECK(r[3] >= 200);
  CHECK(r[3] != r[0]);
  CHECK(r[3] != r[2]);
  CHECK(r[0] % 16 == 0);
  CHECK(r[4] == 0);
  CHECK(r[5] == 32);
  for (std::size_t i = 8; i < r.size(); ++i) CHECK(r[i] != 0);
}

TEST_CASE("atomics") {
  const Cuda device;
  for_seeds(4, [&] {
    Buffer<int> counters(device, std::vector<int>{0, 0, 0});
    Buffer<std::uint32_t> bits(device, std::vector<std::uint32_t>(8));
    cuda::launch(device, count, dim3(4), 64, 0, counters.data(), bits.data());
    CHECK(counters.host() == std::vector<int>{256, -255, 255});
    CHECK(bits.host() == std::vector<std::uint32_t>(8, ~0U));
  });
}

TEST_CASE("arithmetic") {
  CHECK(cuda::to_float(bf16(1.5F)) == 1.5F);
  CHECK(cuda::to_float(half(0x1p-24F)) == 0x1p-24F);
  CHECK(cuda::pack<bf16>(1.0F, -2.0F) == 0xC0003F80U);
  CHECK(cuda::pack<half>(1.0F, -2.0F) == 0xC0003C00U);
  CHECK(cuda::from_float<half>(65519.0F).bits == half(65504.0F).bits);
  CHECK(cuda::from_float<float>(0.1F) == 0.1F);
  CHECK(cuda::fast_exp2(3.0F) == 8.0F);
  CHECK(cuda::fast_exp2(-127.0F) == 0.0F);
  CHECK(cuda::fast_exp2(-std::numeric_limits<float>::infinity()) == 0.0F);
  CHECK(std::isnan(cuda::fast_exp2(std::numeric_limits<float>::quiet_NaN())));
  CHECK(cuda::fast_exp(1.0F) == doctest::Approx(2.718282).epsilon(1e-6));
  CHECK(cuda::fast_log2(8.0F) == 3.0F);
  CHECK(cuda::fast_divide(1.0F, 4.0F) == 0.25F);
  CHECK(cuda::multiply_high(0xFFFFFFFFU, 0xFFFFFFFFU) == 0xFFFFFFFEU);
  CHECK(cuda::count_bits(0xF0F0U) == 8);
  CHECK(cuda::lowest_bit(0x50U) == 4);
  CHECK(cuda::lowest_bit(0) == -1);
}

TEST_CASE("the schedule is the seed's: the same again, another with another") {
  const auto tickets = [](unsigned seed) {
    emulator::set_seed(seed);
    const Cuda device;
    Buffer<int> counter(device, std::vector<int>{0});
    Buffer<int> drawn(device, 3 * 96);
    cuda::launch(device, draw, dim3(3), 96, 0, counter.data(), drawn.data());
    return drawn.host();
  };
  std::set<std::vector<int>> different;
  for (unsigned seed = 0; seed < 8; ++seed) {
    const auto first = tickets(seed);
    CHECK(first == tickets(seed));
    different.insert(first);
    auto sorted = first;
    std::sort(sorted.begin(), sorted.end());
    for (int i = 0; i < static_cast<int>(sorted.size()); ++i) CHECK(sorted[static_cast<std::size_t>(i)] == i);
  }
  CHECK(different.size() == 8);
}
