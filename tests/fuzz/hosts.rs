//! How people name hosts: on the command line and in a hosts file.
use std::collections::BTreeSet;

use autoprof_core::{
    host::{self, Host, MAX_EXPANSION},
    inventory::Inventory,
};

/// Names are bounded in number and length, and each can be a directory's name.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(names) = host::expand(text) {
        assert!(names.len() <= MAX_EXPANSION);
        names.iter().take(100).for_each(|name| name.parse().iter().for_each(assert_usable));
    }
    text.parse().iter().for_each(assert_usable);
    match Inventory::read(text) {
        Ok(Inventory { hosts, groups, unusable, .. }) => {
            assert!(hosts.len() <= MAX_EXPANSION);
            hosts
                .iter()
                .filter(|host| !unusable.contains_key(&host.name))
                .take(100)
                .for_each(|host| assert_named(&host.name));
            let known: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
            assert!(groups.values().flatten().all(|name| known.contains(name.as_str())));
        }
        Err(e) => assert!(!e.to_string().is_empty() && !e.hint().is_empty()),
    }
}

/// That a host's name stays one component of a path, and is read as the same place again.
pub fn assert_usable(host: &Host) {
    let name = host.name.as_str();
    assert_named(name);
    // An IPv6 address without a port is a name without its brackets.
    let bare = host.port.is_none() && name.contains(':');
    let written = if bare { format!("[{name}]") } else { name.to_owned() };
    let again: Host = written.parse().unwrap_or_else(|e| panic!("{written:?}: {e}"));
    assert_eq!((again.name.as_str(), again.address(), again.port), (name, host.address(), host.port));
}

fn assert_named(name: &str) {
    assert!(!name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0', '\n', '\u{1b}']), "{name:?}");
    assert!(name != "." && name != ".." && !name.starts_with('-'), "{name:?}");
}
