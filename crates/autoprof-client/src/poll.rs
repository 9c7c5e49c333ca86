//! Waiting for descriptors and deadlines.
use std::{io, os::fd::BorrowedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::clock;

/// Waits until a descriptor is readable or hung up, or a deadline has passed, whichever is first; with no deadline
/// there is no wake-up at all. Returns for each descriptor what it has.
///
/// # Errors
/// When the kernel refuses, never for an interruption.
pub fn wait<'a>(
    fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    deadline_boot_ns: Option<i64>,
) -> io::Result<Vec<PollFlags>> {
    let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let timeout = deadline_boot_ns.map(|deadline| {
        let left = clock::until(deadline);
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) }
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(fds.iter().map(PollFd::revents).collect()),
        Err(Errno::INTR) => Ok(vec![PollFlags::empty(); fds.len()]),
        Err(e) => Err(e.into()),
    }
}
