//! Where the control socket and its companions lie: a private directory with a short path.
use std::{
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Longest path of a directory. `sun_path` has 108 bytes; `ssh` binds its socket under the name that it is given with
/// 17 more bytes, and links it to that name.
const MAX_PATH: usize = 80;

/// Names of what lies in it.
pub(crate) const SOCKET: &str = "control";
pub(crate) const CONFIG: &str = "config";
pub(crate) const FORCED: &str = "forced";
pub(crate) const ASKPASS: &str = "askpass";
pub(crate) const QUESTION: &str = "question";
pub(crate) const ANSWER: &str = "answer";

/// A path for a new directory, which nobody can foresee. Making it is left to who ends what is in it.
pub(crate) fn choose() -> PathBuf {
    let name = format!("autoprof-ssh-{:016x}", RandomState::new().build_hasher().finish());
    let places = [env::var_os("XDG_RUNTIME_DIR"), env::var_os("TMPDIR"), Some("/tmp".into())];
    let candidates: Vec<PathBuf> =
        places.into_iter().flatten().map(PathBuf::from).filter(|place| fits(place, &name)).collect();
    // Programs in it are run when something is asked, so a place that allows that is preferred.
    let place = candidates.iter().find(|place| runs_programs(place)).or(candidates.first());
    place.map_or_else(|| Path::new("/tmp").join(&name), |place| place.join(&name))
}

/// Whether a path is short, and has nothing in it that `ssh_config` or a shell reads as syntax.
fn fits(place: &Path, name: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let length = place.as_os_str().len() + 1 + name.len();
    place.is_absolute() && place.is_dir() && length <= MAX_PATH && place.to_str().is_some_and(plain)
}

/// Whether programs in a directory can be run.
pub(crate) fn runs_programs(place: &Path) -> bool {
    statvfs(place).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_fits_into_its_address() {
        let directory = choose();
        assert!(directory.join(SOCKET).as_os_str().len() + 17 < 108, "{directory:?}");
        assert_ne!(directory, choose());
        assert!(!fits(Path::new(&format!("/{}", "x".repeat(MAX_PATH))), "n"));
        assert!(!fits(Path::new("/tmp/a b"), "n"));
    }
}
