// SPDX-License-Identifier: MIT
/// @file
/// @brief Loss lists, and which validation is the best.
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/train/history.hpp>

#include "optim_support.hpp"

using namespace storylm;

TEST_CASE("losses are kept in order, and only a lower validation loss is the best") {
  train::History history;
  CHECK(history.best() == std::numeric_limits<double>::infinity());
  CHECK(history.best_step() == -1);
  for (const double loss : {5.0, 4.0, 4.5}) history.add_loss(loss);
  CHECK(history.losses() == std::vector<double>{5.0, 4.0, 4.5});
  CHECK(history.add_validation(10, 4.0));
  CHECK(!history.add_validation(20, 4.0));  // equal is not better: the older checkpoint stays
  CHECK(history.best_step() == 10);
  CHECK(history.add_validation(30, 3.5));
  CHECK(!history.add_validation(40, 3.75));
  CHECK(history.best() == 3.5);
  CHECK(history.best_step() == 30);
  CHECK(history.validation_steps() == std::vector<std::int64_t>{10, 20, 30, 40});
  CHECK(history.validation_losses() == std::vector<double>{4.0, 4.0, 3.5, 3.75});
}

TEST_CASE("NaN and infinity are never the best") {
  train::History history;
  CHECK(!history.add_validation(1, std::numeric_limits<double>::quiet_NaN()));
  CHECK(!history.add_validation(2, std::numeric_limits<double>::infinity()));
  CHECK(history.best_step() == -1);
  CHECK(history.add_validation(3, 100.0));
  CHECK(!history.add_validation(4, std::numeric_limits<double>::quiet_NaN()));
  CHECK(history.best() == 100.0);
  CHECK(history.validation_losses().size() == 4);
}

TEST_CASE("everything is part of the state") {
  train::History history;
  const auto empty = test::state_bytes(history);
  CHECK(empty.size() == 5);
  history.add_loss(1.0);
  const auto one = test::state_bytes(history);
  CHECK(one.at("losses") != empty.at("losses"));
  history.add_validation(7, 2.0);
  const auto two = test::state_bytes(history);
  for (const char* name : {"validation_steps", "validation_losses", "best", "best_step"}) {
    CAPTURE(name);
    CHECK(two.at(name) != one.at(name));
  }
}
