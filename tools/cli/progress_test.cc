#include "tools/cli/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ProgressTest, Line) {
  EXPECT_EQ(ProgressLine("training", 400, 1000, "loss 2.31", 42.4, 100),
            "training [########            ]  40 %  400/1000  loss 2.31  0:42 left");
  EXPECT_EQ(ProgressLine("a", 0, 8, "", -1, 100), "a [                    ]   0 %  0/8");
  EXPECT_EQ(ProgressLine("a", 8, 8, "", 0, 100), "a [####################] 100 %  8/8");
  EXPECT_EQ(ProgressLine("a", 0, 0, "", 0, 100), "a [####################] 100 %  0/0");
  EXPECT_EQ(ProgressLine("training", 400, 1000, "loss 2.31", 42, 30),
            "training [##   ]  40 %  400/10");
  EXPECT_EQ(ProgressLine("training", 400, 1000, "loss 2.31", 42, 59),
            "training [####      ]  40 %  400/1000  loss 2.31  0:42 left");
}

TEST(ProgressTest, Texts) {
  EXPECT_EQ(ClockText(0), "0:00");
  EXPECT_EQ(ClockText(59.6), "1:00");
  EXPECT_EQ(ClockText(725), "12:05");
  EXPECT_EQ(ClockText(3600 * 3 + 60 * 7), "3:07:00");
  EXPECT_EQ(ClockText(-1), "");
  EXPECT_EQ(ClockText(INFINITY), "");
  EXPECT_EQ(ShortNumber(0), "0");
  EXPECT_EQ(ShortNumber(949.6), "950");
  EXPECT_EQ(ShortNumber(999.6), "1.0 k");
  EXPECT_EQ(ShortNumber(51234), "51.2 k");
  EXPECT_EQ(ShortNumber(3.4e6), "3.4 M");
  EXPECT_EQ(ShortNumber(999960), "1.0 M");
  EXPECT_EQ(ShortNumber(2e12), "2.0 T");
}

// What is written on stderr while it is this file.
template <class Body>
std::string Captured(int fd, int reader, Body body) {
  const int before = dup(STDERR_FILENO);
  dup2(fd, STDERR_FILENO);
  body();
  dup2(before, STDERR_FILENO);
  close(before);
  std::string result;
  char piece[4096];
  for (ssize_t n; (n = read(reader, piece, sizeof(piece))) > 0;) result.append(piece, n);
  return result;
}

TEST(ProgressTest, NothingWithoutATerminal) {
  int channel[2];
  ASSERT_EQ(pipe2(channel, O_NONBLOCK), 0);
  const std::string out = Captured(channel[1], channel[0], [] {
    ProgressBar bar("training", 3);
    EXPECT_FALSE(bar.shown());
    for (int i = 1; i <= 3; ++i) bar.Update(i, "loss 1");
    bar.Print("a line");
    bar.Finish();
  });
  EXPECT_EQ(out, "a line\n");
}

TEST(ProgressTest, DrawsOnATerminal) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
    GTEST_SKIP() << "no pseudo-terminal here";
  }
  const int user = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  if (user < 0) GTEST_SKIP() << "no pseudo-terminal here";
  winsize size = {};
  size.ws_col = 60;
  ioctl(user, TIOCSWINSZ, &size);
  const std::string out = Captured(user, terminal, [] {
    ProgressBar bar("training", 1000);
    EXPECT_TRUE(bar.shown());
    // Many at once: the first and the last are drawn.
    for (int i = 1; i <= 1000; ++i) bar.Update(i, "loss 1, a note that is longer than the line");
    bar.Print("a line");
    bar.Finish();
    bar.Finish();
  });
  EXPECT_THAT(out,
              StartsWith("\rtraining [     ]   0 %  1/1000  loss 1, a note that is long\x1b[K"));
  EXPECT_THAT(out, HasSubstr("\r\x1b[Ka line\r\n"));
  EXPECT_THAT(out, HasSubstr("100 %  1000/1000"));
  EXPECT_THAT(out, EndsWith("\x1b[K\r\n"));
  EXPECT_LT(out.size(), 1000);
}

}  // namespace
}  // namespace residual
