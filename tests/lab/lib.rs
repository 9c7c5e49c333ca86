//! A lab of private hosts on this machine, for the suites that go through autoprof's public interfaces.
//!
//! Each host is an `sshd` of its own on its own loopback address, with its own host key, home and temporary
//! directory; as root it can also have its own mount, process and name namespaces. Everything is ended and removed
//! when the [`Lab`] is dropped, and by a keeper process when the test process is killed.
//!
//! What it is not: a simulation of networks, of other kernels, or of other machines' counters. All hosts share this
//! machine's kernel, network, control groups and tracing.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! if lab::skip_unless(&["sshd", "ssh"]) {
//!     return;
//! }
//! let lab = lab::Lab::builder(3).host(2, |host| host.refuses_key()).start();
//! let done = lab::run(
//!     lab::autoprof().args(["run", "--ssh-config", lab.ssh_config().as_str(), "-w", "h[1-3]", "--", "sleep", "1"]),
//!     Duration::from_secs(60),
//! );
//! assert!(!done.status.success(), "{done}");
//! lab.assert_clean();
//! ```

mod broker;
mod burner;
mod cross_checks;
mod fleet;
mod host;
mod keeper;
mod keys;
#[allow(clippy::module_inception)]
mod lab;
mod leftovers;
mod link;
mod manifest;
mod namespace;
mod options;
mod process;
mod program;
mod running;
mod session;
mod skip;
mod sshd;
mod stage;
mod system;
mod terminal;

pub use broker::Broker;
pub use burner::burner;
pub use cross_checks::{CrossChecks, Reading, cross_checks};
pub use fleet::fleet;
pub use host::Host;
pub use lab::{Lab, LabBuilder};
pub use leftovers::Leftovers;
pub use link::Link;
pub use manifest::manifest;
pub use options::HostOptions;
pub use process::Process;
pub use program::find_program;
pub use running::{Finished, Running, run, run_with_input, wait_until};
pub use rustix::process::Signal;
pub use skip::{skip_unless, skip_unless_namespaces, skip_unless_perf_is_restricted};
pub use stage::{autoprof, autoprof_of, over_openssh, stage};
pub use system::System;
pub use terminal::Terminal;
