//! Notices when somebody sets the host's clock.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use autoprof_protocol::Stamp;
use rustix::{
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};

use crate::clock;

/// A jump below this is not told apart from the time between two readings.
const LEAST_NS: i64 = 1_000_000;

/// A timer that never expires but is cancelled when wall time is set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`):
/// nothing is woken while nobody does. Slewing, as NTP does it, is no jump.
#[derive(Debug)]
pub struct ClockWatch {
    timer: OwnedFd,
    /// Wall time minus time since boot, as it was.
    offset: i64,
}

impl ClockWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let watch = Self { timer, offset: offset(clock::now()) };
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: i64::MAX / 2_000_000_000, tv_nsec: 0 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
        Ok(())
    }

    /// How far the clock jumped, in nanoseconds, when it did.
    ///
    /// # Errors
    /// When the timer cannot be set again.
    pub fn jumped(&mut self) -> io::Result<Option<i64>> {
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Err(Errno::CANCELED) | Ok(_) => {}
            Err(_) => return Ok(None),
        }
        self.arm()?;
        let offset = offset(clock::now());
        let step = offset - std::mem::replace(&mut self.offset, offset);
        Ok((step.abs() >= LEAST_NS).then_some(step))
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

fn offset(stamp: Stamp) -> i64 {
    stamp.unix_ns - stamp.boot_ns
}
