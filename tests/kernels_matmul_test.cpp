// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU's matrix products, bit for bit against the loops that define them, and against Eigen.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 on its own AVX-512 intrinsics, inlined into Eigen
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <array>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/cpu/matmul_eigen.hpp>

#include "allocation_counter.hpp"
#include "matmul_support.hpp"

using namespace matmul_test;
using storylm::bf16;
using storylm::Cpu;
using storylm::half;
using storylm::RandomStream;

namespace {

constexpr std::array<index_t, 14> sizes{0, 1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 31, 32, 33};
constexpr std::array<index_t, 8> depths{0, 1, 3, 16, 255, 256, 257, 1025};

/// The dtypes of a product.
template <class TIn, class TOut>
struct Dtypes {
  using In = TIn;
  using Out = TOut;
};
using Float = Dtypes<float, float>;
using Double = Dtypes<double, double>;
using Bf16 = Dtypes<bf16, bf16>;
using Bf16Sums = Dtypes<bf16, float>;
using Half = Dtypes<half, half>;
using HalfSums = Dtypes<half, float>;

template <class T, class TC = T>
void matmul(const Cpu& device, MatrixView<TC> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
            const TC* bias) {
  storylm::kernel<storylm::op::matmul, Cpu, T, T, TC>::run(device, c, a, b, flags, bias);
}
template <class T>
void matmul_rows(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
  storylm::kernel<storylm::op::matmul_rows, Cpu, T, T, T>::run(device, c, a, b, bias);
}

template <class T>
Matrix<T> stored(bool transpose, index_t rows, index_t cols, RandomStream& random) {
  return transpose ? Matrix<T>(cols, rows, random) : Matrix<T>(rows, cols, random);
}

/// What kernels/cpu/matmul.inc.hpp says of the sum of an element.
template <class T>
storylm::accumulator_t<T> defined_chain(const Matrix<T>& a, const Matrix<T>& b, MatmulFlags flags, index_t i, index_t j,
                                        index_t first, index_t last) {
  namespace set = storylm::cpu::promised;
  using A = storylm::accumulator_t<T>;
  if constexpr (std::is_same_v<set::MatmulUnit<T>, set::Bf16Pair>) {
    const auto pair = [&](auto element, index_t p) {
      const std::uint32_t second = p + 1 < last ? element(p + 1).bits : 0U;
      return set::Vector<set::Bf16Pair>{} + (element(p).bits | second << 16U);
    };
    set::Vector<A> sum{};
    for (index_t p = first; p < last; p += 2) {
      sum = set::add_dots<A>(pair([&](index_t q) { return element_a(a, flags, i, q); }, p),
                             pair([&](index_t q) { return element_b(b, flags, q, j); }, p), sum);
    }
    return sum[0];
  } else {
    A sum{0};
    for (index_t p = first; p < last; ++p) {
      sum = multiply_add(static_cast<A>(element_a(a, flags, i, p)), static_cast<A>(element_b(b, flags, p, j)), sum);
    }
    return sum;
  }
}
/// What it says of an element. before: what C held, null without accumulate.
template <class T, class TC>
TC defined_matmul(const Matrix<T>& a, const Matrix<T>& b, MatmulFlags flags, const TC* before, const TC* bias,
                  index_t i, index_t j) {
  using A = storylm::accumulator_t<T>;
  constexpr bool sums_in_c = std::is_same_v<TC, A>;
  const index_t k = flags.transpose_a ? a.rows() : a.cols();
  const index_t length = storylm::cpu::promised::matmul_pass_length<T>(k);
  A total = defined_chain(a, b, flags, i, j, 0, std::min(k, length));
  if (sums_in_c && before != nullptr) total = static_cast<A>(*before) + total;
  for (index_t first = length; first < k; first += length) {
    total = total + defined_chain(a, b, flags, i, j, first, std::min(k, first + length));
  }
  if (!sums_in_c && before != nullptr) total = static_cast<A>(*before) + total;
  if (bias != nullptr) total = total + static_cast<A>(*bias);
  return static_cast<TC>(total);
}

/// What kernels/cpu/matmul_rows.inc.hpp says of an element.
template <class T>
T defined_dot(const Matrix<T>& a, const Matrix<T>& b, const T* bias, index_t i, index_t j) {
  constexpr index_t lanes = storylm::cpu::promised::vector_lanes<T>;
  std::array<T, lanes> sum{};
  for (index_t p = 0; p < a.cols(); p += lanes) {
    for (index_t l = 0; l < lanes; ++l) {
      const bool inside = p + l < a.cols();
      T& lane = sum[static_cast<std::size_t>(l)];
      lane = multiply_add(inside ? a.at(i, p + l) : T{0}, inside ? b.at(j, p + l) : T{0}, lane);
    }
  }
  for (std::size_t half = lanes / 2; half > 0; half /= 2) {
    for (std::size_t l = 0; l < half; ++l) sum[l] = sum[l] + sum[l + half];
  }
  return bias != nullptr ? sum[0] + *bias : sum[0];
}

}  // namespace

// A set whose bits a test defines has to be the one that the test was compiled for.
const storylm::CpuOptions promised_set{.threads = 2, .instruction_set = storylm::lowest_instruction_set};

TEST_CASE_TEMPLATE("matmul: every element is the defined chain, whatever the shape", D, Float, Double, Bf16, Bf16Sums,
                   Half, HalfSums) {
  using T = typename D::In;
  using TC = typename D::Out;
  RandomStream random(1);
  const Cpu device(promised_set);
  long wrong = 0;
  for (const index_t m : sizes) {
    for (const index_t n : sizes) {
      const index_t k = depths[static_cast<std::size_t>(random.below(depths.size()))];
      for (int choice = 0; choice < 3; ++choice) {
        const auto bits = static_cast<unsigned>(random.below(16));
        const MatmulFlags flags{(bits & 1U) != 0, (bits & 2U) != 0, (bits & 4U) != 0};
        const auto a = stored<T>(flags.transpose_a, m, k, random);
        const auto b = stored<T>(flags.transpose_b, k, n, random);
        const auto bias = random_vector<TC>(n, random);
        const TC* bias_data = (bits & 8U) != 0 ? bias.data() : nullptr;
        Matrix<TC> c(m, n, random);
        const Matrix<TC> before = c;
        matmul<T, TC>(device, c.view(), a.view(), b.view(), flags, bias_data);
        for (index_t i = 0; i < m; ++i) {
          for (index_t j = 0; j < n; ++j) {
            const TC old = before.at(i, j);
            const TC expected = defined_matmul(a, b, flags, flags.accumulate ? &old : nullptr,
                                               bias_data != nullptr ? bias_data + j : nullptr, i, j);
            wrong += c.at(i, j) == expected ? 0 : 1;
          }
        }
        wrong += c.gaps_untouched() ? 0 : 1;
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(bits);
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul: shapes of several blocks and passes in every direction", D, Float, Double, Bf16, Bf16Sums,
                   Half, HalfSums) {
  using T = typename D::In;
  using TC = typename D::Out;
  RandomStream random(2);
  const Cpu device(promised_set);
  struct Case {
    index_t m, n, k;
  };
  for (const Case& c : {Case{127, 129, 500}, Case{128, 127, 2049}, Case{129, 128, 1}, Case{499, 700, 40},
                        Case{1, 1500, 300}, Case{700, 1, 513}, Case{30, 4200, 600}, Case{15, 65, 5120}}) {
    for (const bool transpose : {false, true}) {
      const MatmulFlags flags{transpose, !transpose, transpose};
      const auto a = stored<T>(flags.transpose_a, c.m, c.k, random);
      const auto b = stored<T>(flags.transpose_b, c.k, c.n, random);
      Matrix<TC> out(c.m, c.n, random);
      const Matrix<TC> before = out;
      matmul<T, TC>(device, out.view(), a.view(), b.view(), flags, nullptr);
      long wrong = 0;
      for (int sample = 0; sample < 1000; ++sample) {
        const auto i = static_cast<index_t>(random.below(static_cast<std::uint64_t>(c.m)));
        const auto j = static_cast<index_t>(random.below(static_cast<std::uint64_t>(c.n)));
        const TC old = before.at(i, j);
        const TC expected = defined_matmul<T, TC>(a, b, flags, flags.accumulate ? &old : nullptr, nullptr, i, j);
        wrong += out.at(i, j) == expected ? 0 : 1;
      }
      CAPTURE(c.m);
      CAPTURE(c.n);
      CAPTURE(c.k);
      CHECK(wrong == 0);
      CHECK(out.gaps_untouched());
    }
  }
}

TEST_CASE_TEMPLATE("matmul_rows: every element is the defined dot product, whatever the shape", T, float, double) {
  RandomStream random(3);
  const Cpu device(promised_set);
  for (const index_t m : {0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 97}) {
    for (const index_t n : {0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 130}) {
      for (const index_t k : {0, 1, 2, 7, 15, 16, 17, 32, 100}) {
        const Matrix<T> a(m, k, random);
        const Matrix<T> b(n, k, random);
        const auto bias = random_vector<T>(n, random);
        const T* bias_data = k % 2 == 0 ? bias.data() : nullptr;
        Matrix<T> c(m, n, random);
        matmul_rows<T>(device, c.view(), a.view(), b.view(), bias_data);
        long wrong = c.gaps_untouched() ? 0 : 1;
        for (index_t i = 0; i < m; ++i) {
          for (index_t j = 0; j < n; ++j) {
            wrong += c.at(i, j) == defined_dot(a, b, bias_data != nullptr ? bias_data + j : nullptr, i, j) ? 0 : 1;
          }
        }
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul: 16-bit values with sums in float, within rounding of the sum in double", D, Bf16, Bf16Sums,
                   Half, HalfSums) {
  using T = typename D::In;
  using TC = typename D::Out;
  RandomStream random(14);
  const Cpu device({.threads = 2});
  for (const index_t m : {1, 33}) {
    for (const index_t n : {31, 130}) {
      for (const index_t k : {0, 1, 500, 2500}) {
        for (unsigned bits = 0; bits < 16; ++bits) {
          const MatmulFlags flags{(bits & 1U) != 0, (bits & 2U) != 0, (bits & 4U) != 0};
          const auto a = stored<T>(flags.transpose_a, m, k, random);
          const auto b = stored<T>(flags.transpose_b, k, n, random);
          const auto bias_values = random_vector<TC>(n, random);
          const std::span<const TC> bias = (bits & 8U) != 0 ? std::span<const TC>(bias_values) : std::span<const TC>();
          const Matrix<TC> before(m, n, random);
          Matrix<TC> ours = before;
          matmul<T, TC>(device, ours.view(), a.view(), b.view(), flags, bias.data());
          CHECK(error_of(ours, before, a, b, flags, bias) < 1.0);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul and matmul_rows: as near to the sum in double as rounding allows, as Eigen is", T, float,
                   double) {
  RandomStream random(4);
  const Cpu device({.threads = 2});
  for (const index_t m : {1, 14, 33}) {
    for (const index_t n : {1, 31, 130}) {
      for (const index_t k : {0, 1, 500}) {
        for (unsigned bits = 0; bits < 16; ++bits) {
          const MatmulFlags flags{(bits & 1U) != 0, (bits & 2U) != 0, (bits & 4U) != 0};
          const auto a = stored<T>(flags.transpose_a, m, k, random);
          const auto b = stored<T>(flags.transpose_b, k, n, random);
          const auto bias_values = random_vector<T>(n, random);
          const std::span<const T> bias = (bits & 8U) != 0 ? std::span<const T>(bias_values) : std::span<const T>();
          const Matrix<T> before(m, n, random);
          Matrix<T> ours = before;
          Matrix<T> eigens = before;
          matmul<T, T>(device, ours.view(), a.view(), b.view(), flags, bias.data());
          storylm::cpu::matmul_eigen<T>(device, eigens.view(), a.view(), b.view(), flags, bias.data());
          CHECK(error_of(ours, before, a, b, flags, bias) < 1.0);
          CHECK(error_of(eigens, before, a, b, flags, bias) < 1.0);
          CHECK(eigens.gaps_untouched());
          if (!flags.transpose_a && flags.transpose_b && !flags.accumulate) {
            matmul_rows<T>(device, ours.view(), a.view(), b.view(), bias.data());
            storylm::cpu::matmul_rows_eigen<T>(device, eigens.view(), a.view(), b.view(), bias.data());
            CHECK(error_of(ours, before, a, b, flags, bias) < 1.0);
            CHECK(error_of(eigens, before, a, b, flags, bias) < 1.0);
            CHECK(eigens.gaps_untouched());
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul and matmul_rows: the same bits with 1, 2, 3 and 5 threads", T, float, double) {
  RandomStream random(5);
  const Matrix<T> a(301, 700, random);
  const Matrix<T> b(270, 700, random);
  const auto bias = random_vector<T>(270, random);
  const MatmulFlags flags{.transpose_b = true};
  using Run = void (*)(const Cpu&, MatrixView<T>, MatrixView<const T>, MatrixView<const T>, MatmulFlags, const T*);
  const std::array<Run, 4> runs{+[](const Cpu& d, MatrixView<T> c, MatrixView<const T> x, MatrixView<const T> y,
                                    MatmulFlags f, const T* z) { matmul<T, T>(d, c, x, y, f, z); },
                                +[](const Cpu& d, MatrixView<T> c, MatrixView<const T> x, MatrixView<const T> y,
                                    MatmulFlags, const T* z) { matmul_rows<T>(d, c, x, y, z); },
                                +[](const Cpu& d, MatrixView<T> c, MatrixView<const T> x, MatrixView<const T> y,
                                    MatmulFlags f, const T* z) { storylm::cpu::matmul_eigen<T>(d, c, x, y, f, z); },
                                +[](const Cpu& d, MatrixView<T> c, MatrixView<const T> x, MatrixView<const T> y,
                                    MatmulFlags, const T* z) { storylm::cpu::matmul_rows_eigen<T>(d, c, x, y, z); }};
  for (const Run run : runs) {
    Matrix<T> one(301, 270, random);
    run(Cpu({.threads = 1}), one.view(), a.view(), b.view(), flags, bias.data());
    for (const int threads : {2, 3, 5}) {
      Matrix<T> many(301, 270, random);
      run(Cpu({.threads = threads}), many.view(), a.view(), b.view(), flags, bias.data());
      CHECK(same_bits<T>(one.view(), many.view()));
    }
  }
}

TEST_CASE_TEMPLATE("matmul: the same bits with 1, 2, 3 and 5 threads, few rows and many", D, Bf16, Bf16Sums, Float) {
  using T = typename D::In;
  using TC = typename D::Out;
  RandomStream random(15);
  for (const index_t m : {3, 29, 515}) {
    for (const MatmulFlags flags : {MatmulFlags{}, MatmulFlags{.transpose_a = true, .accumulate = true}}) {
      const auto a = stored<T>(flags.transpose_a, m, 2600, random);
      const auto b = stored<T>(flags.transpose_b, 2600, 270, random);
      const Matrix<TC> before(m, 270, random);
      Matrix<TC> one = before;
      matmul<T, TC>(Cpu({.threads = 1}), one.view(), a.view(), b.view(), flags, nullptr);
      for (const int threads : {2, 3, 5}) {
        Matrix<TC> many = before;
        matmul<T, TC>(Cpu({.threads = threads}), many.view(), a.view(), b.view(), flags, nullptr);
        CHECK(same_bits<TC>(one.view(), many.view()));
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul_rows: a row has the same bits alone, in any batch and at any place in it", T, float,
                   double) {
  RandomStream random(6);
  const Cpu device({.threads = 2});
  const index_t n = 150;
  for (const index_t k : {1, 64, 515}) {
    const Matrix<T> a(33, k, random);
    const Matrix<T> b(n, k, random);
    const auto bias = random_vector<T>(n, random);
    for (const bool eigen : {false, true}) {
      const auto run = [&](MatrixView<T> c, MatrixView<const T> rows) {
        if (eigen) {
          storylm::cpu::matmul_rows_eigen<T>(device, c, rows, b.view(), bias.data());
        } else {
          matmul_rows<T>(device, c, rows, b.view(), bias.data());
        }
      };
      Matrix<T> whole(33, n, random);
      run(whole.view(), a.view());
      for (const index_t m : {1, 2, 4, 33}) {
        for (index_t first = 0; first + m <= 33; ++first) {  // row first + i of `a` is row i of the batch
          Matrix<T> part(m, n, random);
          run(part.view(), a.view().slice_rows(first, m));
          const MatrixView<const T> expected = std::as_const(whole).view().slice_rows(first, m);
          REQUIRE(same_bits<T>(std::as_const(part).view(), expected));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("matmul and matmul_rows: NaN and infinity stay in their row and column", T, float, double) {
  RandomStream random(7);
  const Cpu device({.threads = 2});
  Matrix<T> a(17, 21, random);
  Matrix<T> b(35, 21, random);
  a.at(3, 20) = std::numeric_limits<T>::quiet_NaN();
  a.at(16, 0) = std::numeric_limits<T>::infinity();
  b.at(34, 20) = -std::numeric_limits<T>::infinity();
  for (const bool rows : {false, true}) {
    Matrix<T> c(17, 35, random);
    if (rows) {
      matmul_rows<T>(device, c.view(), a.view(), b.view(), nullptr);
    } else {
      matmul<T, T>(device, c.view(), a.view(), b.view(), {.transpose_b = true}, nullptr);
    }
    for (index_t i = 0; i < 17; ++i) {
      for (index_t j = 0; j < 35; ++j) {
        CAPTURE(i);
        CAPTURE(j);
        if (i == 3) {
          CHECK(std::isnan(c.at(i, j)));
        } else if (i == 16 || j == 34) {
          CHECK(!std::isfinite(c.at(i, j)));
        } else {
          CHECK(std::isfinite(c.at(i, j)));
        }
      }
    }
  }
}

TEST_CASE("matmul: without accumulate what C held does not matter") {
  RandomStream random(8);
  const Cpu device;
  const Matrix<float> a(15, 300, random);
  const Matrix<float> b(300, 33, random);
  Matrix<float> c(15, 33, random);
  for (index_t i = 0; i < 15; ++i) c.at(i, i) = std::numeric_limits<float>::quiet_NaN();
  matmul<float, float>(device, c.view(), a.view(), b.view(), {}, nullptr);
  Matrix<float> zero(15, 33, random);
  for (index_t i = 0; i < 15; ++i) CHECK(std::isfinite(c.at(i, i)));
  matmul<float, float>(device, zero.view(), Matrix<float>(15, 0, random).view(), Matrix<float>(0, 33, random).view(),
                       {}, nullptr);
  for (index_t i = 0; i < 15; ++i) CHECK(zero.at(i, i) == 0.0F);
}

TEST_CASE("matmul and matmul_rows: a second call allocates nothing") {
  RandomStream random(9);
  const Cpu device({.threads = 2});
  const Matrix<float> a(200, 600, random);
  const Matrix<float> b(300, 600, random);
  Matrix<float> c(200, 300, random);
  const auto both = [&] {
    matmul<float, float>(device, c.view(), a.view(), b.view(), {.transpose_b = true}, nullptr);
    matmul_rows<float>(device, c.view(), a.view(), b.view(), nullptr);
  };
  const long before_first = allocations;
  both();
  const long after_first = allocations;
  CHECK(after_first > before_first);  // else nothing is counted
  both();
  CHECK(allocations == after_first);
}
