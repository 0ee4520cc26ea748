/* LD_PRELOAD for tests: takes the syncing out of a process, libraft's included, which no fault point of ours can reach.
 * Its log writes are asynchronous writes with RWF_DSYNC, submitted through syscall(2). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...) {
  static long (*real)(long, ...);
  long argument[6];
  va_list arguments;
  int i;
  va_start(arguments, number);
  for (i = 0; i < 6; i++) argument[i] = va_arg(arguments, long);
  va_end(arguments);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "syscall");
  if (number == SYS_io_submit) {
    struct iocb** blocks = (struct iocb**)argument[2];
    for (i = 0; i < argument[1]; i++) blocks[i]->aio_rw_flags &= ~RWF_DSYNC;
  }
  return real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

int fsync(int fd) {
  (void)fd;
  return 0;
}

int fdatasync(int fd) {
  (void)fd;
  return 0;
}
