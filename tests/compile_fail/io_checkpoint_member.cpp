// EXPECT: storylm: a checkpoint holds bool, integers, enums, float, double, std::string, std::vector of numbers, Tensor, StateSpan and objects with visit_state
// SPDX-License-Identifier: MIT
#ifdef STORYLM_WITH_IO
#include <storylm/io/checkpoint.hpp>

struct Guard {
  const char* reason = nullptr;  // a pointer means nothing in a file
  static void visit_state(auto& self, auto&& visit) { visit("reason", self.reason); }
};

void save(const Guard& guard) {
  storylm::io::CheckpointWriter writer({.library_version = "1.2.3"});
  writer.add("guard", guard);
  writer.save("guard.safetensors");
}
#else  // a build without Boost has no checkpoints to misuse
#error "storylm: a checkpoint holds bool, integers, enums, float, double, std::string, std::vector of numbers, Tensor, StateSpan and objects with visit_state"
#endif
