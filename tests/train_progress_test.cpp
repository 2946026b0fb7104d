// SPDX-License-Identifier: MIT
/// @file
/// @brief Durations in words, tokens per second, share of peak, time left.
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include <storylm/train/progress.hpp>

using namespace storylm;
using train::duration_text;
using train::Progress;

TEST_CASE("durations have the two largest units that matter") {
  CHECK(duration_text(0.0) == "0 s");
  CHECK(duration_text(0.4) == "0 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(59.6) == "1 min 00 s");
  CHECK(duration_text(200.0) == "3 min 20 s");
  CHECK(duration_text(3599.6) == "1 h 00 min");
  CHECK(duration_text(7530.0) == "2 h 05 min");
  CHECK(duration_text(86399.0) == "23 h 59 min");
  CHECK(duration_text(86400.0) == "1 d 00 h");
  CHECK(duration_text(1e6) == "11 d 13 h");
}

TEST_CASE("durations that are none do no harm") {
  CHECK(duration_text(-5.0) == "0 s");
  CHECK(duration_text(std::numeric_limits<double>::quiet_NaN()) == "0 s");
  CHECK(duration_text(std::numeric_limits<double>::infinity()) == duration_text(1e12));
}

TEST_CASE("speed and time left follow the steps") {
  Progress progress(100, 2.0, 4000.0);
  CHECK(progress.tokens_per_second() == 0.0);
  CHECK(progress.peak_share() == 0.0);
  CHECK(progress.remaining(0) == 0.0);
  progress.add_step(500, 0.5);
  CHECK(progress.tokens_per_second() == 1000.0);
  CHECK(progress.peak_share() == 0.5);
  CHECK(progress.remaining(1) == doctest::Approx(49.5));
  CHECK(progress.remaining(100) == 0.0);
  CHECK(progress.remaining(101) == 0.0);
  // The average moves by a twentieth, of tokens and of seconds apart: a short last batch does not spoil it.
  progress.add_step(100, 0.1);
  CHECK(progress.tokens_per_second() == doctest::Approx(1000.0));
  progress.add_step(0, 1.0);
  CHECK(progress.tokens_per_second() == doctest::Approx(0.95 * 480.0 / (0.95 * 0.48 + 0.05)));
  for (int i = 0; i < 500; ++i) progress.add_step(100, 0.4);
  CHECK(progress.tokens_per_second() == doctest::Approx(250.0));
  CHECK(progress.remaining(90) == doctest::Approx(4.0));
}

TEST_CASE("the line says where the run is; without a peak it leaves the share out") {
  Progress progress(2000, 41.0, 100.0 * 4500.0);
  progress.add_step(450, 0.1);
  CHECK(progress.line(0, 120, 2.3451, 3e-4) ==
        "epoch 1  step 120/2000  loss 2.345  lr 3.0e-04  4500 tokens/s  41 % of peak  3 min 08 s left");
  Progress plain(2000, 41.0, 0.0);
  plain.add_step(450, 0.1);
  CHECK(plain.line(1, 1999, 2.0, 9e-5) == "epoch 2  step 1999/2000  loss 2.000  lr 9.0e-05  4500 tokens/s  0 s left");
  CHECK(plain.line(0, 1, std::numeric_limits<double>::quiet_NaN(), 1e-4).find("loss nan") != std::string::npos);
}

TEST_CASE("a loss of any size fits the line") {
  Progress progress(10, 1.0, 1.0);
  progress.add_step(100, 1.0);
  CHECK(progress.line(0, 1, 1e300, 1e300).ends_with(" left"));
}
