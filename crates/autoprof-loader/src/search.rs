//! Where plugins are looked for.
use std::env;

use camino::{Utf8Path, Utf8PathBuf};

/// Environment variable with more directories, separated by `:`.
pub const PLUGIN_DIR_VARIABLE: &str = "AUTOPROF_PLUGIN_DIR";

const BELOW_PREFIX: &str = "lib/autoprof/plugins";

/// The directories in which plugins are looked for; an earlier one wins.
///
/// `given`, then those of `AUTOPROF_PLUGIN_DIR`, `lib/autoprof/plugins` beside this program's directory,
/// `autoprof/plugins` in the user's data directory, and `/usr/local` and `/usr`. Never the working directory: what is
/// not `given` has to be absolute.
#[must_use]
pub fn search_path(given: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let exe = env::current_exe().ok().and_then(|path| Utf8PathBuf::try_from(path).ok());
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    paths(given, variable, exe.as_deref())
}

fn paths(given: &[Utf8PathBuf], variable: impl Fn(&str) -> Option<String>, exe: Option<&Utf8Path>) -> Vec<Utf8PathBuf> {
    let listed = variable(PLUGIN_DIR_VARIABLE).unwrap_or_default();
    let listed = listed.split(':').map(Utf8PathBuf::from);
    let beside = exe.and_then(|exe| exe.parent()?.parent()).map(|prefix| prefix.join(BELOW_PREFIX));
    let data = variable("XDG_DATA_HOME")
        .map(Utf8PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Utf8PathBuf::from(home).join(".local/share")))
        .map(|data| data.join("autoprof/plugins"));
    let system = ["/usr/local", "/usr"].map(|prefix| Utf8Path::new(prefix).join(BELOW_PREFIX));
    let found = listed.chain(beside).chain(data).chain(system).filter(|dir| dir.is_absolute());
    let mut out: Vec<Utf8PathBuf> = Vec::new();
    for dir in given.iter().cloned().chain(found) {
        if !out.contains(&dir) {
            out.push(dir);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_directory_wins_and_the_working_directory_is_none_of_them() {
        let variable = |name: &str| match name {
            PLUGIN_DIR_VARIABLE => Some("/a::.:rel:/usr/lib/autoprof/plugins".to_owned()),
            "HOME" => Some("/home/u".to_owned()),
            _ => None,
        };
        let found = paths(&["mine".into()], variable, Some(Utf8Path::new("/opt/x/bin/autoprof")));
        let expected = [
            "mine",
            "/a",
            "/usr/lib/autoprof/plugins",
            "/opt/x/lib/autoprof/plugins",
            "/home/u/.local/share/autoprof/plugins",
            "/usr/local/lib/autoprof/plugins",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_data_directory_can_be_elsewhere() {
        let variable = |name: &str| (name == "XDG_DATA_HOME").then(|| "/data".to_owned());
        assert_eq!(paths(&[], variable, None)[0], "/data/autoprof/plugins");
    }
}
