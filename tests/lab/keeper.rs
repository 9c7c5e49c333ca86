//! The keeper: a shell that waits for this process to end and then ends and removes what it left.
//!
//! Dropping a lab is enough when a test passes or panics. When the process is killed (a test runner's time-out,
//! Ctrl-C) no destructor runs; the kernel then closes the pipe to the keeper, which is all it waits for.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};

use crate::process;

/// The directory is given as `$1`, the tag of this process as `$2`; each line of input names a process and the
/// instant at which it began, so that a number that was given to another process since is left alone.
const SCRIPT: &str = r#"
mine=
while read -r pid began; do mine="$mine $pid:$began"; done
for each in $mine; do
    pid=${each%:*}
    set -- "$1" "$2" $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
    [ "${22-}" = "${each#*:}" ] && kill -9 "$pid" 2>/dev/null
    set -- "$1" "$2"
done
kill_found() { for file; do pid=${file#/proc/}; kill -9 "${pid%/*}" 2>/dev/null; done; }
kill_found $(grep -lzE "^AUTOPROF_LAB_(HOST|INIT)=$2\." /proc/[0-9]*/environ 2>/dev/null)
# sshd writes its title over its environment.
kill_found $(grep -lzE "^sshd: .* -f $1/" /proc/[0-9]*/cmdline 2>/dev/null)
rm -rf "$1" 2>/dev/null || { sleep 1; rm -rf "$1"; }
"#;

/// What this process may use until it ends.
pub(crate) struct Keeper {
    scratch: Utf8PathBuf,
    tag: String,
    shell: Mutex<Child>,
}

/// The keeper of this process, started when first asked for.
pub(crate) fn keeper() -> &'static Keeper {
    static KEEPER: OnceLock<Keeper> = OnceLock::new();
    KEEPER.get_or_init(Keeper::start)
}

impl Keeper {
    fn start() -> Keeper {
        // Not below /tmp: hosts in namespaces have a /tmp of their own, which would hide it.
        let scratch = tempfile::Builder::new()
            .prefix("autoprof-lab-")
            .tempdir_in("/var/tmp")
            .expect("the lab makes its directory below /var/tmp")
            .keep();
        let scratch = Utf8PathBuf::from_path_buf(scratch).expect("a path below /var/tmp is UTF-8");
        let random = scratch.as_str().rsplit('-').next().unwrap_or_default();
        let tag = format!("{}-{random}", std::process::id());
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "autoprof-lab-keeper", scratch.as_str(), &tag])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C is for the tests, not for who cleans up after them
            .spawn()
            .expect("the lab starts its keeper");
        Keeper { scratch, tag, shell: Mutex::new(shell) }
    }

    /// A directory that is removed after this process has ended.
    pub(crate) fn scratch(&self) -> &Utf8Path {
        &self.scratch
    }

    /// A name that no other process uses, now or before.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Has process `pid` killed when this process ends.
    pub(crate) fn watch(&self, pid: u32) {
        let Some(process) = process::read(pid) else { return };
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &mut shell.stdin {
            // A keeper that was killed is no reason to fail a test: dropping the lab still cleans up.
            let _ = writeln!(input, "{pid} {}", process.began);
        }
    }
}
