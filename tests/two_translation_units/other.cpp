// SPDX-License-Identifier: MIT
// A function or variable without inline would be defined here and in main.cpp, and the program would not link.
#include <storylm/storylm.hpp>

const char* version_seen_elsewhere();
const char* version_seen_elsewhere() { return storylm::version.data(); }
