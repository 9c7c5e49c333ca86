//! What happens to the machine, and what must be true of the run afterwards.

mod background;
mod clock;
mod logout;
mod reboot;
mod silence;

use std::thread;
use std::time::Duration;

use crate::machine::Machine;

/// One thing that happens to a machine under autoprof.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// Plays it; gives figures for its line back, and panics when something is not as it must be.
    pub play: fn(&mut Machine) -> String,
}

/// All of them, in the order in which they are played.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "premise",
        about: "without autoprof: a power cut loses what was not flushed, and only that",
        play: silence::premise,
    },
    Scenario {
        name: "reboot",
        about: "a clean reboot, the client's directory on a disk that survives it",
        play: reboot::with_kept_files,
    },
    Scenario {
        name: "reboot-tmp",
        about: "a clean reboot of a system that empties /tmp, where the client is by default",
        play: reboot::with_lost_files,
    },
    Scenario { name: "reset", about: "the reset button, with a checkpoint every 5 s", play: silence::reset },
    Scenario { name: "power-cut", about: "the power is cut, with a checkpoint every 5 s", play: silence::power_cut },
    Scenario { name: "reset-twice", about: "the reset button, and again", play: silence::reset_twice },
    Scenario {
        name: "never-back",
        about: "the power is cut for good, with a checkpoint every 5 s",
        play: silence::never_back,
    },
    Scenario {
        name: "background",
        about: "a clean reboot while nobody is connected, between `autoprof start` and `autoprof report`",
        play: background::reboot,
    },
    Scenario { name: "clock", about: "the clock is set ahead and back by an hour", play: clock::steps },
    Scenario {
        name: "logout",
        about: "KillUserProcesses=yes, and a background run of a user who logs out",
        play: logout::kills_processes,
    },
];

/// Lets data come in; not a wait for something to happen.
fn collect_for(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}
