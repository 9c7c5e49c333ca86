//! The hosts: a root file system each, and what is special about it.

use camino::Utf8Path;
use lab::System;

/// One host of the matrix.
pub struct Subject {
    /// Its name on the command line and in the matrix.
    pub name: &'static str,
    /// What `list` prints about it.
    pub about: &'static str,
    /// The system that `scripts/distro-root.sh` builds for it.
    pub root: &'static str,
    /// Makes the system from the directory of its root.
    pub system: fn(&Utf8Path) -> System,
}

/// All hosts, in the order of the matrix.
pub const SUBJECTS: &[Subject] = &[
    Subject { name: "debian-11", about: "Debian 11, as root", root: "debian-11", system: debian },
    Subject { name: "debian-12", about: "Debian 12, as root", root: "debian-12", system: debian },
    Subject { name: "debian-13", about: "Debian 13, as root", root: "debian-13", system: debian },
    Subject { name: "debian-sid", about: "Debian's development release, as root", root: "debian-sid", system: debian },
    Subject {
        name: "busybox",
        about: "busybox as shell and all tools, dropbear as SSH server",
        root: "busybox",
        system: |root| System::at(root).dropbear(),
    },
    Subject {
        name: "read-only",
        about: "Debian 13 with a read-only root and no /proc/pressure",
        root: "debian-13",
        system: |root| debian(root).read_only().without_files_in("/proc/pressure"),
    },
    Subject {
        name: "unprivileged",
        about: "Debian 12, as an ordinary user",
        root: "debian-12",
        system: |root| debian(root).login("tester"),
    },
];

fn debian(root: &Utf8Path) -> System {
    // Debian 11's perf is a script that starts the perf of the running kernel's version. In the lab the kernel is this
    // machine's, so the one perf that the system has is given that name too.
    System::at(root).prepared_by(
        "for perf in /usr/bin/perf_[0-9]*; do \
         [ ! -e \"$perf\" ] || ln -s \"$perf\" \"/usr/bin/perf_$(uname -r | cut -d. -f1,2)\"; done",
    )
}
