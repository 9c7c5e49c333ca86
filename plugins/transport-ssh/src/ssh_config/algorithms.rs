//! Lists of algorithms: `a,b` in place of the defaults, `+a` behind, `^a` before, `-a` without.
use super::words;

/// What the algorithms are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Cipher,
    Mac,
    Kex,
    /// Of host keys and of users' keys.
    Key,
}

/// Names that OpenSSH knows, of every version since 7.0 and with every option of its build.
const CIPHERS: &[&str] = &[
    "3des-cbc",
    "aes128-cbc",
    "aes128-ctr",
    "aes128-gcm@openssh.com",
    "aes192-cbc",
    "aes192-ctr",
    "aes256-cbc",
    "aes256-ctr",
    "aes256-gcm@openssh.com",
    "arcfour",
    "arcfour128",
    "arcfour256",
    "blowfish-cbc",
    "cast128-cbc",
    "chacha20-poly1305@openssh.com",
    "none",
    "rijndael-cbc@lysator.liu.se",
];
const MACS: &[&str] = &[
    "hmac-md5",
    "hmac-md5-96",
    "hmac-md5-96-etm@openssh.com",
    "hmac-md5-etm@openssh.com",
    "hmac-ripemd160",
    "hmac-ripemd160-etm@openssh.com",
    "hmac-ripemd160@openssh.com",
    "hmac-sha1",
    "hmac-sha1-96",
    "hmac-sha1-96-etm@openssh.com",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512",
    "hmac-sha2-512-etm@openssh.com",
    "umac-128-etm@openssh.com",
    "umac-128@openssh.com",
    "umac-64-etm@openssh.com",
    "umac-64@openssh.com",
];
const KEX: &[&str] = &[
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "mlkem768x25519-sha256",
    "sntrup4591761x25519-sha512@tinyssh.org",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
];
const KEYS: &[&str] = &[
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-256",
    "rsa-sha2-256-cert-v01@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-512-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-dss",
    "ssh-dss-cert-v01@openssh.com",
    "ssh-ed25519",
    "ssh-ed25519-cert-v01@openssh.com",
    "ssh-rsa",
    "ssh-rsa-cert-v01@openssh.com",
    "ssh-xmss-cert-v01@openssh.com",
    "ssh-xmss@openssh.com",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Other names of OpenSSH for an algorithm, which it takes and never shows first.
const ALIASES: &[&str] = &["ecdsa", "ecdsa-cert", "ed25519", "ed25519-cert", "rsa", "rsa-cert"];

/// Checks that every name of a list is known; what is only removed needs not be.
///
/// # Errors
/// Which one is not.
pub(crate) fn check(list: &str, family: Family) -> Result<(), String> {
    if list.starts_with('-') {
        return Ok(());
    }
    let known = match family {
        Family::Cipher => CIPHERS,
        Family::Mac => MACS,
        Family::Kex => KEX,
        Family::Key => KEYS,
    };
    let names = list.strip_prefix(['+', '^']).unwrap_or(list);
    if names.is_empty() {
        return Err("the list of algorithms is empty".into());
    }
    // OpenSSH stops looking at an empty name.
    let bad = names.split(',').take_while(|name| !name.is_empty()).find(|name| {
        let pattern = name.strip_prefix('!').unwrap_or(name);
        let wild = family == Family::Key && known.iter().any(|known| words::matches(known, pattern));
        let alias = family == Family::Key && ALIASES.contains(&name.to_ascii_lowercase().as_str());
        !(known.contains(name) || wild || alias)
    });
    match bad {
        Some(name) => Err(format!("{name:?} is no algorithm for this that OpenSSH knows")),
        None => Ok(()),
    }
}

/// The algorithms that a list means, of those that there are.
pub(crate) fn assemble(list: Option<&str>, defaults: &[&str], all: &[&str]) -> Vec<String> {
    /// Adds names that are not there yet, up to an empty one.
    fn join<'a>(mut names: Vec<&'a str>, more: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        for name in more.into_iter().take_while(|name| !name.is_empty()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
    let list = list.unwrap_or_default();
    let patterns = match list.chars().next() {
        None => defaults.to_vec(),
        Some('+') => join(defaults.to_vec(), list[1..].split(',')),
        Some('^') => join(list[1..].split(',').collect(), defaults.iter().copied()),
        Some('-') => defaults.iter().copied().filter(|name| !words::matches_list(name, &list[1..], false)).collect(),
        Some(_) => list.split(',').collect(),
    };
    let chosen = patterns.into_iter().fold(Vec::new(), |chosen, pattern| {
        join(chosen, all.iter().copied().filter(|name| words::matches_list(name, pattern, false)))
    });
    chosen.into_iter().map(str::to_owned).collect()
}
