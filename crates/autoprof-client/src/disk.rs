//! How much of the disk the results may take.
use std::path::{Path, PathBuf};

use autoprof_protocol::{DiskLimits, EventKind};

use crate::{clock, profiler::Profiler};

/// Longest time between two looks while profilers collect.
const SELDOM_NS: i64 = 2_000_000_000;
/// Shortest time between two looks, however fast the results grow.
const OFTEN_NS: i64 = 50_000_000;

/// Keeps results within their limits.
///
/// The kernel's limit on the size of a file (`RLIMIT_FSIZE`, see [`Self::file_limit`]) holds whatever happens between
/// two looks; the looks come before it, so that a tool is asked to end and finishes its files.
#[derive(Debug)]
pub struct Disk {
    results: PathBuf,
    host: u64,
    profiler: u64,
    keep_free: u64,
    next: i64,
    last: Option<(i64, u64)>,
}

/// A file system: its size, and what of it is free to this user.
#[derive(Debug, Clone, Copy)]
struct Space {
    size: u64,
    free: u64,
}

impl Disk {
    /// Limits as they follow from what is free now.
    pub fn new(results: &Path, limits: &DiskLimits, profilers: usize) -> Self {
        let space = space(results);
        let half = space.map_or(DiskLimits::MOST, |s| s.free / 2);
        let host = limits.host_bytes.unwrap_or(half.min(DiskLimits::MOST));
        let share = if profilers > 1 { host / 2 } else { host };
        Self {
            results: results.to_owned(),
            host,
            profiler: limits.profiler_bytes.unwrap_or(share).min(host),
            keep_free: space.map_or(0, |s| limits.keep_free(s.size)),
            next: clock::boot_ns(),
            last: None,
        }
    }

    /// Largest size of one file of a tool: a little above the profiler's share, which is looked after before that.
    pub fn file_limit(&self) -> u64 {
        self.profiler.saturating_add(self.profiler / 8).saturating_add(1 << 20)
    }

    /// Why nothing can be collected at all, if so.
    pub fn is_full(&self) -> Option<String> {
        let space = space(&self.results)?;
        (space.free < self.keep_free).then(|| {
            format!(
                "the disk of {} is nearly full: {} free, and {} are to stay free (limits.keep_free of the job)",
                self.results.display(),
                bytes(space.free),
                bytes(self.keep_free)
            )
        })
    }

    /// When to look again.
    pub fn due(&self) -> i64 {
        self.next
    }

    /// Looks whether a limit is reached, and has the profilers stopped that reached it.
    pub fn look(&mut self, profilers: &mut [Profiler]) -> Vec<EventKind> {
        let now = clock::boot_ns();
        if now < self.next {
            return Vec::new();
        }
        let mut sizes: Vec<(usize, u64)> =
            profilers.iter().enumerate().map(|(at, p)| (at, crate::attach::size(p.dir()))).collect();
        let total: u64 = sizes.iter().map(|(_, size)| size).sum();
        self.plan_next(now, total, &sizes);
        sizes.retain(|(at, _)| profilers[*at].is_collecting());
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let free = space(&self.results).map_or(u64::MAX, |s| s.free);
        let mut events = Vec::new();
        for (nth, (at, size)) in sizes.into_iter().enumerate() {
            // The largest goes first; what it leaves may be enough for the others until the next look.
            let largest = nth == 0;
            let why = if size >= self.profiler {
                format!("its files reached the quota of {}", bytes(self.profiler))
            } else if largest && total >= self.host {
                format!("all files reached the host's quota of {}, and its were the largest", bytes(self.host))
            } else if largest && free < self.keep_free {
                format!("less than {} of the disk stayed free, and its files were the largest", bytes(self.keep_free))
            } else {
                continue;
            };
            events.extend(profilers[at].stop_early(format!("stopped early: {why}")));
        }
        events
    }

    /// The faster the results grow towards a limit, the sooner they are looked at.
    fn plan_next(&mut self, now: i64, total: u64, sizes: &[(usize, u64)]) {
        let grown = self.last.map_or(0, |(_, before)| total.saturating_sub(before));
        let span = self.last.map_or(SELDOM_NS, |(at, _)| (now - at).max(1));
        let largest = sizes.iter().map(|(_, size)| *size).max().unwrap_or(0);
        let room = self.profiler.saturating_sub(largest).min(self.host.saturating_sub(total));
        // A quarter of the time in which all room would be gone at this rate.
        let left = (i128::from(room) * i128::from(span)).checked_div(i128::from(grown) * 4);
        let left = left.map_or(SELDOM_NS, |ns| i64::try_from(ns).unwrap_or(SELDOM_NS));
        self.last = Some((now, total));
        self.next = now + left.clamp(OFTEN_NS, SELDOM_NS);
    }
}

fn space(path: &Path) -> Option<Space> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Space { size: stat.f_blocks.saturating_mul(stat.f_frsize), free: stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// Bytes for a message.
fn bytes(n: u64) -> String {
    match n {
        0..=0x3ff => format!("{n} B"),
        0x400..=0xf_ffff => format!("{} KiB", n >> 10),
        0x10_0000..=0x3fff_ffff => format!("{} MiB", n >> 20),
        _ => format!("{}.{} GiB", n >> 30, ((n & 0x3fff_ffff) * 10) >> 30),
    }
}
