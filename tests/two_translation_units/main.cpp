// SPDX-License-Identifier: MIT
// One of two translation units that include everything; the other is other.cpp.
#include <storylm/storylm.hpp>

const char* version_seen_elsewhere();

int main() { return version_seen_elsewhere() == storylm::version.data() ? 0 : 1; }
