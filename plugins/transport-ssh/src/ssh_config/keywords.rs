//! The keywords of `ssh_config`, and the values that each takes.
use super::{
    algorithms,
    jump::Jump,
    tokens,
    users::Services,
    words::{self, WHITESPACE},
};

/// Keywords whose values are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    AddressFamily,
    BatchMode,
    BindAddress,
    BindInterface,
    CanonicalDomains,
    CanonicalizeFallbackLocal,
    CanonicalizeHostname,
    CanonicalizeMaxDots,
    CanonicalizePermittedCnames,
    CertificateFile,
    CheckHostIp,
    Ciphers,
    Compression,
    ConnectTimeout,
    ConnectionAttempts,
    GlobalKnownHostsFile,
    HashKnownHosts,
    HostKeyAlgorithms,
    HostKeyAlias,
    HostName,
    IdentitiesOnly,
    IdentityAgent,
    IdentityFile,
    IgnoreUnknown,
    KbdInteractiveAuthentication,
    KexAlgorithms,
    KnownHostsCommand,
    Macs,
    NumberOfPasswordPrompts,
    PasswordAuthentication,
    Pkcs11Provider,
    Port,
    PreferredAuthentications,
    ProxyCommand,
    ProxyJump,
    ProxyUseFdpass,
    PubkeyAcceptedAlgorithms,
    PubkeyAuthentication,
    RevokedHostKeys,
    ServerAliveCountMax,
    ServerAliveInterval,
    StrictHostKeyChecking,
    Tag,
    TcpKeepAlive,
    User,
    UserKnownHostsFile,
}

/// The shape of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of some words, in any case; each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A time, or `none`.
    Time,
    /// A number of at least 0.
    Number,
    Port,
    /// One word.
    Text,
    /// One word each time, of which every one counts.
    Repeated,
    /// Words; `none` only alone.
    Words,
    /// The rest of the line.
    Command,
    Jump,
    /// A socket, or an environment variable that names one.
    Agent,
    Algorithms(algorithms::Family),
    Domains,
    Cnames,
}

/// What the first word of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Match,
    Include,
    /// A setting that is used.
    Used(Key, Kind),
    /// A setting of OpenSSH that means nothing here, or that OpenSSH leaves out itself.
    Unused,
}

/// A value that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// Seconds or a count; none: the word `none`.
    Number(Option<i64>),
    Words(Vec<String>),
    Jump(Jump),
}

const FLAG: &[(&str, &str)] = &[("true", "yes"), ("false", "no"), ("yes", "yes"), ("no", "no")];
const STRICT: &[(&str, &str)] = &[
    ("true", "yes"),
    ("false", "no"),
    ("yes", "yes"),
    ("no", "no"),
    ("ask", "ask"),
    ("off", "no"),
    ("accept-new", "accept-new"),
];
const PUBKEY: &[(&str, &str)] = &[
    ("true", "yes"),
    ("false", "no"),
    ("yes", "yes"),
    ("no", "no"),
    ("unbound", "unbound"),
    ("host-bound", "host-bound"),
];
const CANONICALIZE: &[(&str, &str)] =
    &[("true", "yes"), ("false", "no"), ("yes", "yes"), ("no", "no"), ("always", "always")];
const FAMILY: &[(&str, &str)] = &[("inet", "inet"), ("inet6", "inet6"), ("any", "any")];
const COMPRESSION: &[(&str, &str)] = &[("yes", "yes"), ("no", "no")];

/// Keywords that OpenSSH 9.2 to 10.2 and Debian's builds know and that mean nothing here.
const UNUSED: &[&str] = &[
    "addkeystoagent",
    "afstokenpassing",
    "casignaturealgorithms",
    "channeltimeout",
    "cipher",
    "clearallforwardings",
    "compressionlevel",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fallbacktorsh",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "globalknownhostsfile2",
    "gssapiauthentication",
    "gssapiclientidentity",
    "gssapidelegatecredentials",
    "gssapikexalgorithms",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapiserveridentity",
    "gssapitrustdns",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractivedevices",
    "kerberosauthentication",
    "kerberostgtpassing",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "nohostauthenticationforlocalhost",
    "obscurekeystroketiming",
    "permitlocalcommand",
    "permitremoteopen",
    "protocol",
    "refuseconnection",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "requiredrsasize",
    "rhostsauthentication",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "securitykeyprovider",
    "sendenv",
    "sessiontype",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "useblacklistedkeys",
    "useprivilegedport",
    "userknownhostsfile2",
    "useroaming",
    "usersh",
    "verifyhostkeydns",
    "versionaddendum",
    "visualhostkey",
    "warnweakcrypto",
    "xauthlocation",
];

/// Looks up a keyword in lower case; none: OpenSSH does not know it.
pub(crate) fn known(keyword: &str) -> Option<Known> {
    use algorithms::Family;
    let used = |key, kind| Some(Known::Used(key, kind));
    match keyword {
        "host" => Some(Known::Host),
        "match" => Some(Known::Match),
        "include" => Some(Known::Include),
        "addressfamily" => used(Key::AddressFamily, Kind::Choice(FAMILY)),
        "batchmode" => used(Key::BatchMode, Kind::Choice(FLAG)),
        "bindaddress" => used(Key::BindAddress, Kind::Text),
        "bindinterface" => used(Key::BindInterface, Kind::Text),
        "canonicaldomains" => used(Key::CanonicalDomains, Kind::Domains),
        "canonicalizefallbacklocal" => used(Key::CanonicalizeFallbackLocal, Kind::Choice(FLAG)),
        "canonicalizehostname" => used(Key::CanonicalizeHostname, Kind::Choice(CANONICALIZE)),
        "canonicalizemaxdots" => used(Key::CanonicalizeMaxDots, Kind::Number),
        "canonicalizepermittedcnames" => used(Key::CanonicalizePermittedCnames, Kind::Cnames),
        "certificatefile" => used(Key::CertificateFile, Kind::Repeated),
        "checkhostip" => used(Key::CheckHostIp, Kind::Choice(FLAG)),
        "ciphers" => used(Key::Ciphers, Kind::Algorithms(Family::Cipher)),
        "compression" => used(Key::Compression, Kind::Choice(COMPRESSION)),
        "connecttimeout" => used(Key::ConnectTimeout, Kind::Time),
        "connectionattempts" => used(Key::ConnectionAttempts, Kind::Number),
        "globalknownhostsfile" => used(Key::GlobalKnownHostsFile, Kind::Words),
        "hashknownhosts" => used(Key::HashKnownHosts, Kind::Choice(FLAG)),
        "hostkeyalgorithms" => used(Key::HostKeyAlgorithms, Kind::Algorithms(Family::Key)),
        "hostkeyalias" => used(Key::HostKeyAlias, Kind::Text),
        "hostname" => used(Key::HostName, Kind::Text),
        "identitiesonly" => used(Key::IdentitiesOnly, Kind::Choice(FLAG)),
        "identityagent" => used(Key::IdentityAgent, Kind::Agent),
        "identityfile" | "identityfile2" => used(Key::IdentityFile, Kind::Repeated),
        "ignoreunknown" => used(Key::IgnoreUnknown, Kind::Text),
        "kbdinteractiveauthentication"
        | "challengeresponseauthentication"
        | "skeyauthentication"
        | "tisauthentication" => used(Key::KbdInteractiveAuthentication, Kind::Choice(FLAG)),
        "kexalgorithms" => used(Key::KexAlgorithms, Kind::Algorithms(Family::Kex)),
        "knownhostscommand" => used(Key::KnownHostsCommand, Kind::Command),
        "macs" => used(Key::Macs, Kind::Algorithms(Family::Mac)),
        "numberofpasswordprompts" => used(Key::NumberOfPasswordPrompts, Kind::Number),
        "passwordauthentication" => used(Key::PasswordAuthentication, Kind::Choice(FLAG)),
        "pkcs11provider" | "smartcarddevice" => used(Key::Pkcs11Provider, Kind::Text),
        "port" => used(Key::Port, Kind::Port),
        "preferredauthentications" => used(Key::PreferredAuthentications, Kind::Text),
        "proxycommand" => used(Key::ProxyCommand, Kind::Command),
        "proxyjump" => used(Key::ProxyJump, Kind::Jump),
        "proxyusefdpass" => used(Key::ProxyUseFdpass, Kind::Choice(FLAG)),
        "pubkeyacceptedalgorithms" | "pubkeyacceptedkeytypes" => {
            used(Key::PubkeyAcceptedAlgorithms, Kind::Algorithms(Family::Key))
        }
        "pubkeyauthentication" | "dsaauthentication" => used(Key::PubkeyAuthentication, Kind::Choice(PUBKEY)),
        "revokedhostkeys" => used(Key::RevokedHostKeys, Kind::Text),
        "serveralivecountmax" => used(Key::ServerAliveCountMax, Kind::Number),
        // The latter two are Debian's names for it.
        "serveraliveinterval" | "protocolkeepalives" | "setuptimeout" => used(Key::ServerAliveInterval, Kind::Time),
        "stricthostkeychecking" => used(Key::StrictHostKeyChecking, Kind::Choice(STRICT)),
        "tag" => used(Key::Tag, Kind::Text),
        "tcpkeepalive" | "keepalive" => used(Key::TcpKeepAlive, Kind::Choice(FLAG)),
        "user" => used(Key::User, Kind::Text),
        "userknownhostsfile" => used(Key::UserKnownHostsFile, Kind::Words),
        other => UNUSED.binary_search(&other).is_ok().then_some(Known::Unused),
    }
}

/// Reads the value of a keyword: its words, and the text that they are the words of.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read(kind: Kind, words: &[String], text: &str, services: &Services) -> Result<Value, String> {
    let rest = || text.trim_start_matches(|c| WHITESPACE.contains(&c) || c == '=');
    match kind {
        Kind::Command => return Ok(Value::Text(rest().to_owned())),
        Kind::Jump => return Jump::read(rest(), services).map(Value::Jump),
        Kind::Words => return list(words, |word| Ok(word.to_owned())).map(Value::Words),
        Kind::Domains => return list(words, domain).map(Value::Words),
        Kind::Cnames => return list(words, cname).map(Value::Words),
        _ => {}
    }
    let word = match words {
        [] => return Err("the value is missing".to_owned()),
        [word, ..] if word.is_empty() => return Err("the value is empty".to_owned()),
        [word] => word,
        [_, extra, ..] => return Err(format!("{extra:?} follows the value; quote a value that has blanks")),
    };
    match kind {
        Kind::Choice(choices) => {
            let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            found.map(|(_, meaning)| Value::Text((*meaning).to_owned())).ok_or_else(|| {
                let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                format!("{word:?} is none of {names}")
            })
        }
        Kind::Time if word == "none" => Ok(Value::Number(None)),
        Kind::Time => words::seconds(word)
            .map(|s| Value::Number(Some(s)))
            .ok_or_else(|| format!("{word:?} is not a time such as 30, 1m30s or none")),
        Kind::Number => words::number(word, 0, i64::from(i32::MAX))
            .map(|n| Value::Number(Some(n)))
            .ok_or_else(|| format!("{word:?} is not a number")),
        Kind::Port => services
            .port(word)
            .filter(|port| *port > 0)
            .map(|port| Value::Number(Some(port.into())))
            .ok_or_else(|| format!("{word:?} is not a port")),
        Kind::Agent => {
            tokens::environment(word)?;
            match word.strip_prefix('$').filter(|name| !name.starts_with('{')) {
                Some(name) if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                    Err(format!("{word:?} is not the name of an environment variable"))
                }
                _ => Ok(Value::Text(word.clone())),
            }
        }
        Kind::Algorithms(family) => {
            algorithms::check(word, family)?;
            Ok(Value::Text(word.clone()))
        }
        _ => Ok(Value::Text(word.clone())),
    }
}

/// Words of which `none` stands only alone.
fn list(words: &[String], each: impl Fn(&str) -> Result<String, String>) -> Result<Vec<String>, String> {
    if words.len() > 1 && words.iter().any(|word| word.eq_ignore_ascii_case("none")) {
        return Err("`none` cannot stand beside other values".to_owned());
    }
    words
        .iter()
        .map(|word| if word.is_empty() { Err("a value is empty".to_owned()) } else { each(word) })
        .collect::<Result<_, _>>()
}

fn domain(word: &str) -> Result<String, String> {
    super::jump::check_domain(word)?;
    Ok(word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase())
}

fn cname(word: &str) -> Result<String, String> {
    if word == "*" || word.eq_ignore_ascii_case("none") {
        return Ok(word.to_owned());
    }
    match word.split_once(':') {
        Some((_, target)) if !target.is_empty() => Ok(word.to_ascii_lowercase()),
        _ => Err(format!("{word:?} is not of the form SOURCES:TARGETS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_keywords_are_sorted_and_not_used() {
        assert!(UNUSED.is_sorted());
        assert!(UNUSED.iter().all(|name| known(name) == Some(Known::Unused)));
    }
}
