//! What can go wrong, and when.
use std::{fmt, time::Duration};

/// A generator of numbers that a seed decides (SplitMix64, Steele, Lea and Flood 2014): what is drawn must not change
/// with a library's version.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A span between these milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap_or(0)]
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None: what holds with faults must hold without.
    Nothing,
    /// The host loses power and comes back.
    Reboot,
    /// The client is killed, as by the kernel when memory is short.
    ClientKilled,
    /// The tool of a profiler is killed.
    ToolKilled,
    /// All connections to the host break.
    ConnectionsBroken,
    /// The host's sshd is away for a while, and all connections with it.
    SshdAway,
    /// Nothing passes between controller and host for a while.
    NetworkSilent,
    /// The connection breaks while results come back.
    CollectionBroken,
    /// The controller is killed; another process reports.
    ControllerKilledThenReport,
    /// The controller is killed; another process attaches.
    ControllerKilledThenAttach,
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-C twice, then another process reports.
    GivenUp,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Nothing,
        Self::Reboot,
        Self::ClientKilled,
        Self::ToolKilled,
        Self::ConnectionsBroken,
        Self::SshdAway,
        Self::NetworkSilent,
        Self::CollectionBroken,
        Self::ControllerKilledThenReport,
        Self::ControllerKilledThenAttach,
        Self::Interrupted,
        Self::GivenUp,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Reboot => "reboot",
            Self::ClientKilled => "client-killed",
            Self::ToolKilled => "tool-killed",
            Self::ConnectionsBroken => "connections-broken",
            Self::SshdAway => "sshd-away",
            Self::NetworkSilent => "network-silent",
            Self::CollectionBroken => "collection-broken",
            Self::ControllerKilledThenReport => "controller-killed-then-report",
            Self::ControllerKilledThenAttach => "controller-killed-then-attach",
            Self::Interrupted => "interrupted",
            Self::GivenUp => "given-up",
        }
    }

    /// Whether it takes away what is in the host's `/tmp`.
    pub const fn wipes(self) -> bool {
        matches!(self, Self::Reboot)
    }
}

/// When the fault comes.
#[derive(Debug, Clone, Copy)]
pub enum Instant {
    /// So long after the program was started: before the window, or in it, or behind it.
    AfterLaunch(Duration),
    /// So long after the test began.
    InWindow(Duration),
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfterLaunch(span) => write!(f, "{} ms after launch", span.as_millis()),
            Self::InWindow(span) => write!(f, "{} ms into the window", span.as_millis()),
        }
    }
}
