// SPDX-License-Identifier: MIT
// Not a test: a library that tests put before a program (LD_PRELOAD). It counts the calls that change files and ends
// the process at one of them as SIGKILL does, so that every moment of a checkpoint is met, not only those that chance
// finds.
//
//   STORYLM_KILL_AT=n          SIGKILL instead of call n (from 1); of a write, when half of it is done
//   STORYLM_COUNT_CALLS=FILE   the number of calls, at the end
//   STORYLM_NO_LINKS=1         hard links fail, as on file systems without them
//   STORYLM_JUMPING_CLOCK=1    the time of day jumps by years, back and forth; the other clocks by hours, forth
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

std::atomic<long> calls{0};
std::atomic<long> jumps{0};

long number_in(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}
const long kill_at = number_in("STORYLM_KILL_AT");
const bool no_links = number_in("STORYLM_NO_LINKS") != 0;
const bool jumping = number_in("STORYLM_JUMPING_CLOCK") != 0;

/// The function that would be called without this library.
template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}
/// True when the process ends at this call.
bool is_the_last() { return ++calls == kill_at; }
void end_if_last() {
  if (is_the_last()) ::kill(::getpid(), SIGKILL);
}

struct Report {
  ~Report() {
    const char* const path = std::getenv("STORYLM_COUNT_CALLS");
    if (path == nullptr) return;
    const long count = calls;
    if (std::FILE* const file = std::fopen(path, "w")) {
      std::fprintf(file, "%ld\n", count);
      std::fclose(file);
    }
  }
} report;

}  // namespace

extern "C" {

int rename(const char* from, const char* to) noexcept {
  end_if_last();
  return next<int(const char*, const char*)>("rename")(from, to);
}
int link(const char* from, const char* to) noexcept {
  end_if_last();
  if (no_links) {
    errno = EPERM;
    return -1;
  }
  return next<int(const char*, const char*)>("link")(from, to);
}
int unlink(const char* path) noexcept {
  end_if_last();
  return next<int(const char*)>("unlink")(path);
}
int fsync(int file) {
  end_if_last();
  return next<int(int)>("fsync")(file);
}
int ftruncate(int file, ::off_t size) noexcept {
  end_if_last();
  return next<int(int, ::off_t)>("ftruncate")(file, size);
}
int truncate(const char* path, ::off_t size) noexcept {
  end_if_last();
  return next<int(const char*, ::off_t)>("truncate")(path, size);
}
::ssize_t pwrite(int file, const void* bytes, std::size_t size, ::off_t offset) {
  const auto original = next<::ssize_t(int, const void*, std::size_t, ::off_t)>("pwrite");
  if (is_the_last()) {
    original(file, bytes, size / 2, offset);
    ::kill(::getpid(), SIGKILL);
  }
  return original(file, bytes, size, offset);
}
::ssize_t write(int file, const void* bytes, std::size_t size) {
  const auto original = next<::ssize_t(int, const void*, std::size_t)>("write");
  if (is_the_last()) {
    original(file, bytes, size / 2);
    ::kill(::getpid(), SIGKILL);
  }
  return original(file, bytes, size);
}
::ssize_t writev(int file, const ::iovec* parts, int count) {
  end_if_last();
  return next<::ssize_t(int, const ::iovec*, int)>("writev")(file, parts, count);
}

int clock_gettime(::clockid_t clock, ::timespec* time) noexcept {
  const int result = next<int(::clockid_t, ::timespec*)>("clock_gettime")(clock, time);
  if (jumping && result == 0) {
    const long jump = ++jumps;
    constexpr std::time_t hour = 3600;
    constexpr std::time_t year = 24 * 365 * hour;
    time->tv_sec += clock == CLOCK_REALTIME ? (jump % 3 - 1) * 20 * year : jump * hour;
  }
  return result;
}
std::time_t time(std::time_t* result) noexcept {
  ::timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != nullptr) *result = now.tv_sec;
  return now.tv_sec;
}

}  // extern "C"
