//! The user who runs this process, other users' home directories, and ports by name.
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
};

use super::words;

/// The user who runs this process, and their surroundings.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) home: PathBuf,
    /// The socket of their ssh-agent.
    pub(crate) agent: Option<PathBuf>,
    /// What this machine is called.
    pub(crate) machine: String,
}

impl User {
    /// The user as the system's database says, and the home directory as the environment does.
    pub(crate) fn current() -> Self {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let uid = fs::metadata("/proc/self").map_or(0, |process| process.uid());
        let entry = entry("passwd", &uid.to_string(), 2);
        let name = entry.as_ref().map(|fields| fields[0].clone());
        let home = var("HOME").map(PathBuf::from);
        Self {
            name: name.or_else(|| var("USER")).or_else(|| var("LOGNAME")).unwrap_or_else(|| "root".into()),
            uid,
            home: home
                .or_else(|| Some(PathBuf::from(entry?.get(5)?)))
                .filter(|home| home.is_absolute())
                .unwrap_or_else(|| "/".into()),
            agent: var("SSH_AUTH_SOCK").map(PathBuf::from),
            machine: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    /// A path with `~` for the home directory and `~NAME` for that of another user.
    ///
    /// # Errors
    /// When there is no such user.
    pub(crate) fn path(&self, text: &str) -> Result<PathBuf, String> {
        let Some(rest) = text.strip_prefix('~') else { return Ok(PathBuf::from(text)) };
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        let home = if name.is_empty() {
            self.home.clone()
        } else {
            home_of(name).ok_or_else(|| format!("there is no user {name:?}"))?
        };
        let path = path.trim_start_matches('/');
        Ok(if path.is_empty() { home } else { home.join(path) })
    }
}

/// The home directory of a user of this machine.
pub(crate) fn home_of(name: &str) -> Option<PathBuf> {
    entry("passwd", name, 0)?.get(5).map(PathBuf::from)
}

/// An entry of a system database whose field `at` is `key`: from the file, or else from where the system looks further
/// (LDAP, sssd), which `getent` asks.
fn entry(database: &str, key: &str, at: usize) -> Option<Vec<String>> {
    let find = |text: &str| {
        let entries = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        entries.into_iter().find(|fields| fields.get(at).is_some_and(|field| field == key))
    };
    if let Some(found) = fs::read_to_string(format!("/etc/{database}")).ok().and_then(|text| find(&text)) {
        return Some(found);
    }
    if key.is_empty() || key.starts_with('-') {
        return None;
    }
    let asked = Command::new("getent").args([database, key]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    find(&String::from_utf8_lossy(&asked.ok()?.stdout))
}

/// Whether nobody but a user is in a group, as OpenSSH demands of a file that its group can write.
pub(crate) fn group_is_private(gid: u32, uid: u32) -> bool {
    let (gid, uid) = (gid.to_string(), uid.to_string());
    let Some(group) = entry("group", &gid, 2) else { return false };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users: Vec<Vec<&str>> = passwd.lines().map(|line| line.split(':').collect()).collect();
    let mut members = 0;
    for user in users.iter().filter(|user| user.get(3) == Some(&gid.as_str())) {
        members += 1;
        if user.get(2) != Some(&uid.as_str()) {
            return false;
        }
    }
    let named: Vec<&str> = group.get(3).map(String::as_str).unwrap_or_default().split(',').collect();
    match named.as_slice() {
        [""] => members > 0,
        [one] => users.iter().any(|user| user.first() == Some(one) && user.get(2) == Some(&uid.as_str())),
        _ => false,
    }
}

/// Ports by name.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<HashMap<String, Option<u16>>>);

impl Services {
    /// A port by its number or its name.
    pub(crate) fn port(&self, text: &str) -> Option<u16> {
        if let Some(number) = words::number(text, 0, 65535) {
            return u16::try_from(number).ok();
        }
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *known.entry(text.to_owned()).or_insert_with(|| named(text))
    }
}

fn named(name: &str) -> Option<u16> {
    let find = |text: &str| {
        text.lines().find_map(|line| {
            let words: Vec<&str> = line.split('#').next()?.split_whitespace().collect();
            let (port, protocol) = words.get(1)?.split_once('/')?;
            let named = words[0] == name || words[2..].contains(&name);
            (named && protocol == "tcp").then(|| port.parse().ok())?
        })
    };
    if let Some(port) = fs::read_to_string("/etc/services").ok().and_then(|text| find(&text)) {
        return Some(port);
    }
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let query = ["services", &format!("{name}/tcp")];
    let asked = Command::new("getent").args(query).stdin(Stdio::null()).stderr(Stdio::null()).output();
    find(&String::from_utf8_lossy(&asked.ok()?.stdout))
}
