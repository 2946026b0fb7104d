// SPDX-License-Identifier: MIT
// Recordings on a device that records nothing: the work is done each time. What a GPU makes of it: tests/cuda/.
#include <doctest/doctest.h>

#include <storylm/train/recordings.hpp>

using namespace storylm;

TEST_CASE("on the CPU the work is done each time, and no shape is kept") {
  const Cpu cpu;
  train::Recordings<Cpu> recordings;
  int done = 0;
  for (const index_t tokens : {8, 8, 16, 8}) {
    const Pass<Cpu> pass{.device = cpu, .batch = {.tokens = tokens, .sequences = 2, .longest = 5}};
    recordings.run(pass, [&] { ++done; });
  }
  recordings.run(cpu, [&] { ++done; });
  CHECK(done == 5);
  CHECK(recordings.shapes() == 0);
  CHECK(recordings.recorded() == 0);
}
