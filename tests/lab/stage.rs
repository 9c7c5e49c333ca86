//! An installed autoprof, as a user has it.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

use crate::keeper::keeper;

/// The directory of an installed autoprof: `bin/autoprof`, `lib/autoprof/plugins/*.so`,
/// `lib/autoprof/clients/<arch>/autoprof-client`. It is what `AUTOPROF_STAGE` names, or else what `just stage` leaves,
/// which runs once in each process.
///
/// # Panics
/// When `AUTOPROF_STAGE` names no installed autoprof, or `just stage` fails.
pub fn stage() -> &'static Utf8Path {
    static STAGE: OnceLock<Utf8PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| {
        let stage = match std::env::var("AUTOPROF_STAGE") {
            Ok(given) => std::path::absolute(&given)
                .ok()
                .and_then(|path| Utf8PathBuf::from_path_buf(path).ok())
                .unwrap_or_else(|| panic!("AUTOPROF_STAGE={given} is not a path")),
            Err(_) => build(),
        };
        let program = stage.join("bin/autoprof");
        assert!(program.is_file(), "{program} is not there: AUTOPROF_STAGE must name what `just stage` leaves");
        stage
    })
}

/// Names the transport over which the suites reach their hosts, instead of `ssh`.
const TRANSPORT: &str = "AUTOPROF_TEST_TRANSPORT";

/// Whether the suites reach their hosts by the system's `ssh`.
pub fn over_openssh() -> bool {
    std::env::var_os(TRANSPORT).is_some_and(|transport| transport == "openssh")
}

/// The staged `autoprof`, with nothing of this process's environment but `PATH`: a new empty home, no agent, no
/// `AUTOPROF_*`.
pub fn autoprof() -> Command {
    autoprof_of(stage())
}

/// The same of another installed tree.
pub fn autoprof_of(prefix: &Utf8Path) -> Command {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let home = keeper().scratch().join(format!("home-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&home).unwrap_or_else(|error| panic!("cannot make {home}: {error}"));
    let mut command = Command::new(prefix.join("bin/autoprof").as_std_path());
    command.env_clear().env("HOME", home).env("LANG", "C.UTF-8").env("TERM", "dumb");
    if let Some(transport) = std::env::var_os(TRANSPORT) {
        command.env("AUTOPROF_TRANSPORT", transport);
    }
    for kept in ["PATH", "USER", "LOGNAME", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

fn build() -> Utf8PathBuf {
    let stage = workspace().join("target/stage");
    // Test runners start a process for each test; only one of them may build and copy at a time.
    let target = workspace().join("target");
    let _ = std::fs::create_dir_all(&target);
    let lock = File::create(target.join("stage.lock")).expect("the lock file of the stage can be made");
    lock.lock().expect("the stage can be locked");
    let built = Command::new("just")
        .arg("stage")
        .current_dir(workspace())
        .stdin(Stdio::null())
        .output()
        .expect("`just` can be started (just setup), or AUTOPROF_STAGE names an installed autoprof");
    assert!(
        built.status.success(),
        "`just stage` failed with {}:\n{}{}",
        built.status,
        String::from_utf8_lossy(&built.stdout),
        String::from_utf8_lossy(&built.stderr)
    );
    stage
}
