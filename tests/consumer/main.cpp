// SPDX-License-Identifier: MIT
// A user's program: whatever it linked, the umbrella brings, and it must link.
#include <iostream>

#ifdef STORYLM_WITH_IO
#include <boost/json.hpp>
#endif

#include <storylm/storylm.hpp>

int main() {
  std::cout << "storylm " << storylm::version << '\n';
#ifdef STORYLM_WITH_IO
  if (boost::json::parse("[1, 2, 3]").as_array().size() != 3) return 1;
#endif
  return 0;
}
