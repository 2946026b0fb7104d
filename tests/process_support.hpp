// SPDX-License-Identifier: MIT
/// @file
/// @brief Programs started as users start them, and signals to them.
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace storylm::test {

/// How a program ended and what it said.
struct Result {
  int code = -1;
  std::string out;
  std::string err;
  /// Of its standard output.
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::istringstream text(out);
    for (std::string line; std::getline(text, line);) all.push_back(line);
    return all;
  }
};

/// A running program. Its standard output goes to a file, its standard error to another or to the test's.
class Process {
 public:
  /// @param arguments the program first
  Process(const std::vector<std::string>& arguments, const std::filesystem::path& out,
          const std::filesystem::path& err = {}) {
    std::vector<char*> pointers;
    for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    std::array<int, 2> ends{};  // a pipe that closes when the program begins: no signal meets a copy of the test
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot start a process");
    if (pid_ == 0) {
      constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
      if (::dup2(::open(out.c_str(), flags, 0666), 1) < 0) ::_exit(126);
      if (!err.empty() && ::dup2(::open(err.c_str(), flags, 0666), 2) < 0) ::_exit(126);
      ::execv(pointers.front(), pointers.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    char nothing = 0;
    while (::read(ends[0], &nothing, 1) < 0 && errno == EINTR) continue;
    ::close(ends[0]);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (!ended()) {
      signal(SIGKILL);
      wait();
    }
  }

  void signal(int number) const { ::kill(pid_, number); }
  [[nodiscard]] bool ended() {
    if (!ended_) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
    return ended_;
  }
  /// Waits until `condition` holds; false when the program ended or a minute passed before.
  template <class F>
  [[nodiscard]] bool wait_until(F&& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!ended() && std::chrono::steady_clock::now() < end) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  /// Waits for the end. The exit code as a shell has it: 128 + signal when one ended it.
  int wait() {
    while (!ended_) {
      if (::waitpid(pid_, &status_, 0) == pid_)
        ended_ = true;
      else if (errno != EINTR)
        return -1;
    }
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  }

 private:
  ::pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

}  // namespace storylm::test
