//! How many files this process may have open: each host has a connection.
use crate::screen;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not those of hosts: the run's own, the plugins', the terminal's.
const OWN: u64 = 128;
/// Open files for one host: its connection, and a file that is being collected.
const OF_A_HOST: u64 = 2;

/// Raises the soft limit to what so many hosts take, as far as the hard one allows. It is 1024 in most places for the sake
/// of programs that use `select`; one that is started from here gets it, too, so it is left alone where it is enough.
pub fn allow(hosts: usize) {
    let wanted = OWN + OF_A_HOST * hosts as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(limit.maximum.map_or(wanted, |hard| hard.min(wanted))), ..limit };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        screen::line(&format!(
            "{hosts} hosts take {wanted} open files, and more than ulimit -n says cannot be had: {e}"
        ));
    }
}
