//! Compares what is read here with what the system's `ssh -G` says, over generated configurations.
//!
//! `just test` does so with a fixed seed; `just ssh-config-test` with a random one and more of them. A difference prints
//! the configuration and the seed that makes it.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::*;

/// Configurations of one run when the environment does not say otherwise.
const CONFIGURATIONS: u64 = 2000;
const SEED: u64 = 0x5eed_0f55;

/// What is compared, as `ssh -G` names it.
type Options = BTreeMap<String, Vec<String>>;

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const FLAGS: &[&str] = &["yes", "no", "true", "FALSE", "Yes"];
const PATHS: &[&str] =
    &["/k/a", "~/b", "/k/%h", "/k/a b", "/k/it's", "%d/x%%", "/k/id#1", "/k/${LAB_VARIABLE}/k", "/k/\"q\""];
const NUMBERS: &[&str] = &["1", "7", "+3", "010", "2147483647"];
const TIMES: &[&str] = &["0", "10", "1m", "1h30m", "2D", "1w", "none", "45S"];
const CIPHER_LISTS: &[&str] = &[
    "aes128-ctr",
    "+aes128-cbc",
    "-*-ctr",
    "^aes256-ctr",
    "aes256-gcm@openssh.com,aes128-ctr",
    "+3des-cbc,aes128-ctr",
];
const KEX_LISTS: &[&str] =
    &["curve25519-sha256", "^sntrup761x25519-sha512@openssh.com", "-diffie*", "+diffie-hellman-group1-sha1"];
const MAC_LISTS: &[&str] = &["hmac-sha2-256", "+hmac-md5", "-umac*,hmac-sha1*", "^hmac-sha2-512-etm@openssh.com"];
const KEY_LISTS: &[&str] = &["ssh-ed25519", "+ssh-rsa", "-ecdsa*,sk-*", "^rsa-sha2-512", "ssh-*", "+ssh-dss,ssh-rsa"];

/// Keywords that are compared, with values.
const USED: &[(&str, &[&str])] = &[
    ("HostName", &["10.1.2.3", "%h.example.org", "Real.Example.COM", "other", "::1", "127.1", "0x7f.1", "%%h"]),
    ("User", &["alice", "bob", "root", "dom\\user", "a b"]),
    ("Port", &["22", "2222", "ssh", "https", "65535", "+80"]),
    ("IdentityFile", PATHS),
    ("IdentityFile", PATHS),
    ("CertificateFile", PATHS),
    ("IdentitiesOnly", FLAGS),
    (
        "IdentityAgent",
        &[
            "none",
            "SSH_AUTH_SOCK",
            "/run/agent-%u-%i",
            "~/Group Containers/a.sock",
            "$LAB_SOCKET",
            "${LAB_VARIABLE}/s",
            "/a/%C",
            "/%L-%l",
        ],
    ),
    (
        "ProxyJump",
        &["none", "gate", "a@gate:2200", "one,two@three", "ssh://u@uri.example:99", "[::2]:22", "%r@gate-%h", "None"],
    ),
    ("ProxyCommand", &["none", "nc %h %p", "ssh -W '[%h]:%p' gate # c", "connect \"a b\" %r", "None"]),
    ("ProxyUseFdpass", FLAGS),
    ("UserKnownHostsFile", &["/k/known", "~/kh-%k", "none", "/dev/null", "/a /b", "/k/%n-%p-%r", "~root/kh"]),
    ("GlobalKnownHostsFile", &["/etc/g", "none", "/a /b /c"]),
    ("StrictHostKeyChecking", &["yes", "no", "ask", "accept-new", "off", "TRUE"]),
    ("HostKeyAlias", &["Alias.Example", "alias2"]),
    ("ConnectTimeout", TIMES),
    ("ConnectionAttempts", NUMBERS),
    ("ServerAliveInterval", TIMES),
    ("ServerAliveCountMax", NUMBERS),
    ("AddressFamily", &["inet", "inet6", "any", "ANY"]),
    ("BindAddress", &["127.0.0.1", "::1"]),
    ("BindInterface", &["lo", "eth0"]),
    ("Ciphers", CIPHER_LISTS),
    ("KexAlgorithms", KEX_LISTS),
    ("MACs", MAC_LISTS),
    ("HostKeyAlgorithms", KEY_LISTS),
    ("PubkeyAcceptedAlgorithms", KEY_LISTS),
    ("PubkeyAcceptedKeyTypes", KEY_LISTS),
    ("PreferredAuthentications", &["publickey", "password,publickey", "gssapi-with-mic,keyboard-interactive"]),
    ("PubkeyAuthentication", &["yes", "no", "unbound", "host-bound", "true", "false"]),
    ("PasswordAuthentication", FLAGS),
    ("KbdInteractiveAuthentication", FLAGS),
    ("ChallengeResponseAuthentication", FLAGS),
    ("Compression", &["yes", "no"]),
    ("NumberOfPasswordPrompts", NUMBERS),
    ("HashKnownHosts", FLAGS),
    ("CheckHostIP", FLAGS),
    ("TCPKeepAlive", FLAGS),
    ("KeepAlive", FLAGS),
    ("BatchMode", FLAGS),
    ("IgnoreUnknown", &["UseKeychain", "Use*,xyz", "usekeychain", "*,!usekeychain"]),
    ("CanonicalizeHostname", &["no", "false"]),
    ("CanonicalDomains", &["example.invalid", "Example.Invalid. other.invalid", "none"]),
    ("CanonicalizeMaxDots", NUMBERS),
    ("CanonicalizeFallbackLocal", &["yes", "true"]),
    ("CanonicalizePermittedCNAMEs", &["none"]),
    ("RevokedHostKeys", &["/k/revoked", "none"]),
    ("KnownHostsCommand", &["/usr/bin/keys %H", "none"]),
];

/// Keywords that mean nothing here, with values that OpenSSH takes; and some that only `IgnoreUnknown` allows.
const UNUSED: &[(&str, &[&str])] = &[
    ("AddKeysToAgent", &["yes", "ask", "confirm", "1h", "confirm 5m"]),
    ("ForwardAgent", &["yes", "$LAB_SOCKET", "~/agent.sock"]),
    ("RemoteForward", &["1080", "8080 localhost:80", "/run/a /run/b", "[::1]:80 host:81"]),
    ("LocalForward", &["8080 localhost:80", "/a /b", "127.0.0.1:81 [::1]:82"]),
    ("DynamicForward", &["1080", "localhost:1081"]),
    ("SetEnv", &["A=1 B=\"x y\""]),
    ("SendEnv", &["LANG LC_*", "-LANG"]),
    ("ControlMaster", &["auto", "autoask", "yes"]),
    ("ControlPath", &["~/cm-%C", "none", "/tmp/%r@%h:%p"]),
    ("ControlPersist", &["yes", "10m", "0", "no"]),
    ("LogLevel", &["QUIET", "debug3", "INFO"]),
    ("RekeyLimit", &["default none", "1G 1h", "512M"]),
    ("IPQoS", &["lowdelay throughput", "af21", "0x10 none"]),
    ("EscapeChar", &["none", "~", "^a"]),
    ("Tunnel", &["yes", "point-to-point", "ethernet"]),
    ("TunnelDevice", &["any:any", "0:1", "3"]),
    ("RequestTTY", &["force", "auto", "no"]),
    ("GSSAPIAuthentication", FLAGS),
    ("GSSAPIDelegateCredentials", FLAGS),
    ("HostbasedAuthentication", FLAGS),
    ("VisualHostKey", FLAGS),
    ("VerifyHostKeyDNS", &["ask", "yes"]),
    ("UpdateHostKeys", &["ask", "no"]),
    ("StreamLocalBindMask", &["0177"]),
    ("FingerprintHash", &["md5", "sha256"]),
    ("RequiredRSASize", &["1024"]),
    ("PermitLocalCommand", FLAGS),
    ("LocalCommand", &["echo %h # c", "none"]),
    ("PermitRemoteOpen", &["any", "host:22 [::1]:80", "none"]),
    ("CASignatureAlgorithms", &["ssh-ed25519", "-ssh-*"]),
    ("HostbasedKeyTypes", &["+ssh-rsa"]),
    ("KbdInteractiveDevices", &["pam"]),
    ("Protocol", &["2", "2,1"]),
    ("Cipher", &["3des"]),
    ("UseRoaming", &["no"]),
    ("RSAAuthentication", &["yes"]),
    ("XAuthLocation", &["/usr/bin/xauth"]),
    ("LogVerbose", &["kex.c:*:1000", "none"]),
    ("SyslogFacility", &["AUTH"]),
    ("UseKeychain", &["yes"]),
    ("xyz", &["1 2 3"]),
];

/// Lines that OpenSSH refuses, or that look odd and are fine.
const ODD: &[&str] = &[
    "Port many",
    "Port 0",
    "Port 65536",
    "Port",
    "Port 22 23",
    "Port \"22\" # c",
    "ConnectTimeout soon",
    "ConnectTimeout -1",
    "IdentityFile",
    "IdentityFile \"unclosed",
    "IdentityFile it's",
    "Compression maybe",
    "StrictHostKeyChecking perhaps",
    "Ciphers nonsense",
    "Ciphers +",
    "Ciphers -nonsense",
    "KexAlgorithms curve25519-sha256,",
    "UserKnownHostsFile /a none",
    "UserKnownHostsFile # comment",
    "ProxyJump a,,b",
    "ProxyJump @host",
    "ProxyJump host:port",
    "ProxyJump ssh://host/path",
    "ProxyJump gate # comment",
    "ProxyCommand nc \"unclosed",
    "ProxyCommand = nc %h",
    "AddressFamily inet4",
    "MadeUp yes",
    "\"Port\" 2201",
    "Po\"rt\" 2202",
    "\"unclosed keyword",
    "= Port 2203",
    "Port==2204",
    "Port= =2205",
    "Port =2206",
    "IdentityFile=\"/k/with = sign\"",
    "IdentityFile a\\ b",
    "IdentityFile a\\\\b\\\"c",
    "IdentityFile '/k/single \"double\"'",
    "IdentityFile \"/k/double 'single'\"",
    "IdentityFile /k/joined\" \"word",
    "IdentityFile ''",
    "NumberOfPasswordPrompts x",
    "NumberOfPasswordPrompts -1",
    "HostName %d",
    "HostName a b",
    "IdentityAgent ${LAB_ABSENT}",
    "IdentityAgent $",
    "IdentityAgent $a-b",
    "CanonicalDomains -bad",
    "CanonicalDomains a..b",
    "BatchMode",
    "Host",
    "Host \"\"",
    "Match",
    "Match host",
    "Match nothing x",
    "Match all host web1",
    "Match host web1 all",
    "Match host \"web1",
    "Match exec",
    "Match # comment",
    "#Match all",
    "  # comment \"",
    "\u{c}",
    "\t",
];

const PATTERNS: &[&str] = &[
    "*",
    "web*",
    "web1",
    "WEB1",
    "!web1",
    "db.*",
    "\"web1\"",
    "'db.example.com'",
    "10.0.*",
    "?eb1",
    "gate",
    "we[b]1",
    "!*",
    "\"a b\"",
    "web1,web2",
];
const LISTS: &[&str] = &[
    "*",
    "web1",
    "web*,db*",
    "\"web1,web2\"",
    "!web1,*",
    "other",
    "10.*",
    "*.example.org",
    "127.0.0.1",
    "real.example.com",
    "WEB1",
];
const USERS: &[&str] = &["root", "alice,bob", "*", "!root,*", "\"root\"", "nobody"];
const COMMANDS: &[&str] = &[
    "true",
    "false",
    "\"true\"",
    "\"test %h = web1\"",
    "\"test %n-%r = web1-root\"",
    "\"test '%u' = root\"",
    "\"exit %p\"",
];
const HOSTS: &[&str] = &["web1", "WEB1", "db.example.com", "10.0.0.1", "gate", "::1", "127.1", "web2"];

/// A configuration that was made, and how it is asked.
struct Case {
    dir: tempfile::TempDir,
    host: String,
    user: Option<String>,
    port: Option<u16>,
    jump: Option<String>,
    options: Vec<String>,
}

impl Case {
    fn main(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn text(&self) -> String {
        let mut text = format!(
            "host {:?}, user {:?}, port {:?}, jump {:?}, options {:?}\n",
            self.host, self.user, self.port, self.jump, self.options
        );
        let mut files: Vec<PathBuf> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files {
            let _ = writeln!(text, "--- {}\n{}", file.display(), fs::read_to_string(&file).unwrap_or_default());
        }
        text
    }
}

fn generate(seed: u64) -> Case {
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let lines = 3 + random.below(14);
    file(&mut random, dir.path(), "config", 0, lines);
    let random = &mut random;
    let options = (0..random.below(3) * random.below(2))
        .map(|_| {
            let (keyword, values) = USED[random.below(USED.len())];
            format!("{keyword}{}{}", random.pick(&["=", " ", " = "]), quoted(random, keyword, values))
        })
        .collect();
    Case {
        host: random.pick(HOSTS).to_owned(),
        user: random.one_in(8).then(|| "carol".to_owned()),
        port: random.one_in(8).then_some(2022),
        jump: random.one_in(16).then(|| random.pick(&["none", "hop1,hop2:23", "x@hop"]).to_owned()),
        options,
        dir,
    }
}

/// Writes a file of a configuration, and those that it includes.
fn file(random: &mut Random, dir: &Path, name: &str, depth: usize, lines: usize) {
    let mut text = String::new();
    for at in 0..lines {
        let indent = random.pick(&["", "", "  ", "\t", " \t "]);
        let line = match random.below(24) {
            0..=2 => host(random),
            3..=5 => condition(random),
            6 | 7 if depth < 3 => include(random, dir, &format!("{name}-{at}"), depth),
            8 => random.pick(&["", "# comment", "   ", "\t#c"]).to_owned(),
            9 if random.one_in(6) => random.pick(ODD).to_owned(),
            10 | 11 => setting(random, UNUSED),
            _ => setting(random, USED),
        };
        let end = random.pick(&["", "", "", " ", "\t", "\r", " # end", "\u{c}"]);
        // A comment belongs to the value of a command, and a quote may be open.
        let end = if end.contains('#') && line.contains("Command") { "" } else { end };
        let _ = writeln!(text, "{indent}{line}{end}");
    }
    if random.one_in(8) {
        text.pop();
    }
    fs::write(dir.join(name), text).unwrap();
}

fn cased(random: &mut Random, word: &str) -> String {
    match random.below(4) {
        0 => word.to_lowercase(),
        1 => word.to_uppercase(),
        _ => word.to_owned(),
    }
}

fn host(random: &mut Random) -> String {
    let count = 1 + random.below(3);
    let patterns: Vec<_> = (0..count).map(|_| random.pick(PATTERNS)).collect();
    let keyword = cased(random, "Host");
    format!("{keyword}{}{}", random.pick(&[" ", "=", "\t", " = "]), patterns.join(random.pick(&[" ", "  ", "\t"])))
}

fn condition(random: &mut Random) -> String {
    let mut words = Vec::new();
    for _ in 0..1 + random.below(3) {
        let not = random.pick(&["", "", "", "!"]);
        let equals = random.pick(&[" ", " ", "=", " = "]);
        words.push(match random.below(10) {
            0..=2 => format!("{not}{}{equals}{}", cased(random, "host"), random.pick(LISTS)),
            3 | 4 => format!("{not}originalhost{equals}{}", random.pick(LISTS)),
            5 => format!("{not}user{equals}{}", random.pick(USERS)),
            6 => format!("{not}localuser{equals}{}", random.pick(USERS)),
            7 => format!("{not}exec{equals}{}", random.pick(COMMANDS)),
            8 => format!("{not}{}", random.pick(&["final", "canonical"])),
            _ => format!("{not}all"),
        });
    }
    format!("{}{}{}", cased(random, "Match"), random.pick(&[" ", "=", "\t"]), words.join(" "))
}

fn include(random: &mut Random, dir: &Path, name: &str, depth: usize) -> String {
    let place = dir.display();
    let lines = 1 + random.below(6);
    match random.below(8) {
        0 => format!("Include {place}/absent"),
        1 => {
            let _ = std::os::unix::fs::symlink("/nowhere", dir.join(format!("{name}.d0")));
            let _ = fs::create_dir(dir.join(format!("{name}.d1")));
            file(random, dir, &format!("{name}.d2"), depth + 1, lines);
            file(random, dir, &format!("{name}.d3"), depth + 1, lines);
            format!("Include {place}/{name}.d[0-9]")
        }
        2 => {
            file(random, dir, &format!("{name} x"), depth + 1, lines);
            format!("include \"{place}/{name} x\"")
        }
        3 => {
            file(random, dir, &format!("{name}.a"), depth + 1, lines);
            file(random, dir, &format!("{name}.b"), depth + 1, lines);
            format!("Include {place}/{name}.b {place}/{name}.a # both")
        }
        4 => "Include relative-and-absent-*".to_owned(),
        5 if random.one_in(4) => format!("Include {place}/config"),
        _ => {
            file(random, dir, name, depth + 1, lines);
            format!("Include={place}/{name}")
        }
    }
}

fn setting(random: &mut Random, from: &[(&str, &[&str])]) -> String {
    let (keyword, values) = from[random.below(from.len())];
    let value = quoted(random, keyword, values);
    let keyword = cased(random, keyword);
    format!("{keyword}{}{value}", random.pick(&[" ", " ", "=", " = ", "\t", "  ", "= "]))
}

/// A value, in some quotes that mean the same.
fn quoted(random: &mut Random, keyword: &str, values: &[&str]) -> String {
    let value = random.pick(values);
    let one_word =
        !value.contains(' ') || ["IdentityFile", "CertificateFile", "IdentityAgent", "User"].contains(&keyword);
    let whole = keyword.contains("Command") || keyword == "ProxyJump";
    let style = random.below(5);
    if whole || !one_word || style == 0 && !value.contains([' ', '"', '\'']) {
        return value.to_owned();
    }
    match style {
        1 if !value.contains('\'') => format!("'{value}'"),
        2 if !value.contains([' ', '\'', '"']) => value.to_owned(),
        _ => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// What `ssh -G` says.
enum Theirs {
    Options(Options),
    /// It refuses the configuration.
    Refused,
    /// It refuses the way: a jump host that is the host itself, which here is reached directly.
    Loop,
}

fn theirs(case: &Case) -> Theirs {
    let mut ssh = Command::new("ssh");
    ssh.arg("-G").arg("-F").arg(case.main());
    // The first one counts, as with options.
    ssh.args(case.user.iter().flat_map(|user| ["-l", user]));
    ssh.args(case.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    ssh.args(case.jump.iter().flat_map(|jump| ["-J", jump]));
    ssh.args(case.options.iter().flat_map(|option| ["-o", option]));
    let out = environment(&mut ssh).arg(&case.host).stdin(Stdio::null()).output().unwrap();
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        return if text.contains("jumphost loop") { Theirs::Loop } else { Theirs::Refused };
    }
    let mut options = Options::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        options.entry(name.to_lowercase()).or_default().push(value.to_owned());
    }
    Theirs::Options(options)
}

/// Variables that values name. Set for the whole test, since both sides look at them.
fn environment(command: &mut Command) -> &mut Command {
    command.env("LAB_VARIABLE", "/var").env("LAB_SOCKET", "/socket")
}

/// The lists of algorithms of the ssh that is there: its defaults, and all that it has.
struct Lists(BTreeMap<&'static str, (Vec<String>, Vec<String>)>);

impl Lists {
    fn ask() -> Self {
        let defaults = Command::new("ssh").args(["-G", "-F", "none", "x"]).output().unwrap().stdout;
        let defaults = String::from_utf8(defaults).unwrap();
        let names = |text: &str, at: char| text.trim().split(at).map(str::to_owned).collect::<Vec<_>>();
        let of = |option: &'static str, query: &str| {
            let line = defaults.lines().find_map(|line| line.strip_prefix(option)).unwrap();
            let all = Command::new("ssh").args(["-Q", query]).output().unwrap().stdout;
            (option, (names(line, ','), names(&String::from_utf8(all).unwrap(), '\n')))
        };
        Self(BTreeMap::from([
            of("ciphers", "cipher"),
            of("macs", "mac"),
            of("kexalgorithms", "kex"),
            of("hostkeyalgorithms", "key-sig"),
            of("pubkeyacceptedalgorithms", "key-sig"),
        ]))
    }
}

/// What is read here, in the form of `ssh -G`.
fn ours(case: &Case, user: &User, lists: &Lists) -> Result<Options, String> {
    let config = Files::default().load(Some(&case.main().display().to_string()), user).map_err(|e| e.to_string())?;
    let query = Query {
        host: &case.host,
        user: case.user.as_deref(),
        port: case.port,
        identity: None,
        jump: case.jump.as_deref(),
        options: &case.options,
    };
    let found = resolve(&config, &query, user).map_err(|e| e.to_string())?;
    let mut options = Options::new();
    let mut put = |name: &str, value: String| options.entry(name.to_owned()).or_default().push(value);
    put("hostname", found.host.clone());
    put("user", found.user.clone());
    put("port", found.port.to_string());
    let tokens = Tokens {
        user,
        alias: &found.alias,
        address: &found.host,
        port: found.port,
        remote: &found.user,
        key_alias: found.text(Key::HostKeyAlias).unwrap_or(&found.alias),
        jump: "",
    };
    let jump = found.jump().filter(|jump| **jump != Jump::None);
    for (name, key, default) in [
        ("addressfamily", Key::AddressFamily, "any"),
        ("batchmode", Key::BatchMode, "no"),
        ("canonicalizehostname", Key::CanonicalizeHostname, "no"),
        ("canonicalizefallbacklocal", Key::CanonicalizeFallbackLocal, "yes"),
        ("checkhostip", Key::CheckHostIp, "no"),
        ("compression", Key::Compression, "no"),
        ("hashknownhosts", Key::HashKnownHosts, "no"),
        ("identitiesonly", Key::IdentitiesOnly, "no"),
        ("kbdinteractiveauthentication", Key::KbdInteractiveAuthentication, "yes"),
        ("passwordauthentication", Key::PasswordAuthentication, "yes"),
        ("pubkeyauthentication", Key::PubkeyAuthentication, "yes"),
        ("stricthostkeychecking", Key::StrictHostKeyChecking, "ask"),
        ("tcpkeepalive", Key::TcpKeepAlive, "yes"),
    ] {
        put(name, found.text(key).unwrap_or(default).to_owned());
    }
    // With a jump host there is nothing to pass.
    let fdpass = found.text(Key::ProxyUseFdpass).filter(|_| jump.is_none()).unwrap_or("no");
    put("proxyusefdpass", fdpass.to_owned());
    let interval = if found.flag(Key::BatchMode) == Some(true) { 300 } else { 0 };
    for (name, key, default) in [
        ("canonicalizemaxdots", Key::CanonicalizeMaxDots, 1),
        ("connectionattempts", Key::ConnectionAttempts, 1),
        ("numberofpasswordprompts", Key::NumberOfPasswordPrompts, 3),
        ("serveralivecountmax", Key::ServerAliveCountMax, 3),
        ("serveraliveinterval", Key::ServerAliveInterval, interval),
    ] {
        put(name, found.number(key).unwrap_or(default).to_string());
    }
    put("connecttimeout", found.number(Key::ConnectTimeout).map_or_else(|| "none".into(), |s| s.to_string()));
    for (name, key) in [
        ("bindaddress", Key::BindAddress),
        ("bindinterface", Key::BindInterface),
        ("hostkeyalias", Key::HostKeyAlias),
        ("ignoreunknown", Key::IgnoreUnknown),
        ("preferredauthentications", Key::PreferredAuthentications),
    ] {
        found.text(key).into_iter().for_each(|text| put(name, text.to_owned()));
    }
    for (name, key) in [("revokedhostkeys", Key::RevokedHostKeys), ("knownhostscommand", Key::KnownHostsCommand)] {
        let said = found.text(key).filter(|text| !text.eq_ignore_ascii_case("none"));
        said.into_iter().for_each(|text| put(name, text.to_owned()));
    }
    if let Some(agent) = found.text(Key::IdentityAgent) {
        put("identityagent", tokens.path(agent)?.display().to_string());
    }
    found.identity_files.iter().for_each(|(file, _)| put("identityfile", file.clone()));
    found.certificate_files.iter().for_each(|(file, _)| put("certificatefile", file.clone()));
    let known = |key| found.words(key).map(<[String]>::to_vec);
    let none = |files: &[String]| files.len() == 1 && files[0].eq_ignore_ascii_case("none");
    let user_files = known(Key::UserKnownHostsFile)
        .unwrap_or_else(|| ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"].map(str::to_owned).to_vec());
    put(
        "userknownhostsfile",
        match none(&user_files) {
            true => "none".into(),
            false => {
                let files = user_files.iter().map(|file| tokens.path(file).map(|path| path.display().to_string()));
                files.collect::<Result<Vec<_>, _>>()?.join(" ")
            }
        },
    );
    let global = known(Key::GlobalKnownHostsFile)
        .unwrap_or_else(|| ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(str::to_owned).to_vec());
    put("globalknownhostsfile", if none(&global) { "none".into() } else { global.join(" ") });
    put("canonicaldomains", known(Key::CanonicalDomains).unwrap_or_else(|| vec!["none".into()]).join(" "));
    for (name, key) in [
        ("ciphers", Key::Ciphers),
        ("macs", Key::Macs),
        ("kexalgorithms", Key::KexAlgorithms),
        ("hostkeyalgorithms", Key::HostKeyAlgorithms),
        ("pubkeyacceptedalgorithms", Key::PubkeyAcceptedAlgorithms),
    ] {
        let (defaults, all) = &lists.0[name];
        let (defaults, all): (Vec<&str>, Vec<&str>) =
            (defaults.iter().map(String::as_str).collect(), all.iter().map(String::as_str).collect());
        let assembled = assemble(found.text(key), &defaults, &all);
        if assembled.is_empty() {
            return Err(format!("{name} has no algorithm"));
        }
        put(name, assembled.join(","));
    }
    match (jump, found.proxy_command()) {
        (Some(jump), _) => put("proxyjump", format!("{jump:?}")),
        (None, Some(Said { value: Value::Text(command), .. })) => put("proxycommand", command.clone()),
        _ => {}
    }
    Ok(options)
}

/// Brings what `ssh -G` says into one form: `true` for `yes`, a jump host as it is read here.
fn same_form(mut options: Options, loader: &Loader) -> Options {
    for name in ["stricthostkeychecking", "pubkeyauthentication", "canonicalizehostname"] {
        for value in options.get_mut(name).into_iter().flatten() {
            match value.as_str() {
                "true" => *value = "yes".into(),
                "false" => *value = "no".into(),
                _ => {}
            }
        }
    }
    for value in options.get_mut("proxyjump").into_iter().flatten() {
        // A host may be called so; where there is none, nothing is said.
        let jump = match value.eq_ignore_ascii_case("none") {
            true => Ok(Jump::Via(vec![Hop { user: None, host: value.clone(), port: None }])),
            false => Jump::read(value, &loader.services),
        };
        *value = jump.map_or_else(|e| e, |jump| format!("{jump:?}"));
    }
    options
}

/// What differs, one option a line.
fn differences(case: &Case, user: &User, lists: &Lists) -> Option<String> {
    let loader = Loader::default();
    match (theirs(case), ours(case, user, lists)) {
        (Theirs::Refused, Err(_)) | (Theirs::Loop, Ok(_)) => None,
        (Theirs::Refused, Ok(_)) => Some("ssh refuses it, and it is taken here".into()),
        (_, Err(e)) => Some(format!("ssh takes it, and it is refused here: {e}")),
        (Theirs::Options(theirs), Ok(ours)) => {
            let theirs = same_form(theirs, &loader);
            let mut text = String::new();
            let compared = ours.keys().map(String::as_str).chain([
                "proxyjump",
                "proxycommand",
                "identityfile",
                "certificatefile",
                "hostkeyalias",
            ]);
            let mut names: Vec<&str> =
                compared.chain(["bindaddress", "bindinterface", "identityagent", "preferredauthentications"]).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                // Where no key is named, the defaults of the version are shown.
                if name == "identityfile" && !ours.contains_key(name) {
                    let named = theirs.get(name).into_iter().flatten().any(|file| !file.starts_with("~/.ssh/id_"));
                    if !named {
                        continue;
                    }
                }
                if theirs.get(name) != ours.get(name) {
                    let _ = writeln!(text, "{name}: ssh {:?}, here {:?}", theirs.get(name), ours.get(name));
                }
            }
            (!text.is_empty()).then_some(text)
        }
    }
}

/// The user as ssh itself sees them.
fn user() -> User {
    let mut user = User::current();
    user.home = users::home_of(&user.name).unwrap();
    user
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs this test again in a process that has the variables which the configurations name.
fn in_an_environment(test: &str) -> bool {
    if std::env::var_os("LAB_VARIABLE").is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let status = environment(again.args([test, "--exact", "--nocapture"])).status().unwrap();
    assert!(status.success(), "{test} failed");
    false
}

fn ready() -> bool {
    let there = Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "ssh is absent, and in CI this test must run");
    if !there {
        eprintln!("SKIPPED: ssh is absent, nothing was compared with it");
    }
    there
}

#[test]
fn generated_configurations_mean_what_ssh_says() {
    if !ready() || !in_an_environment("ssh_config::differential::generated_configurations_mean_what_ssh_says") {
        return;
    }
    let seed = variable("SSH_CONFIG_SEED").unwrap_or(SEED);
    let count = variable("SSH_CONFIG_COUNT").unwrap_or(CONFIGURATIONS);
    let (user, lists) = (user(), Lists::ask());
    let next = AtomicUsize::new(0);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed) as u64;
                    if at >= count {
                        return;
                    }
                    let case = generate(seed.wrapping_add(at.wrapping_mul(0x1_0000_0001)));
                    let difference = differences(&case, &user, &lists);
                    if let Some(difference) = difference {
                        found.lock().unwrap().push(format!("configuration {at}: {difference}\n{}", case.text()));
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    eprintln!("compared {count} configurations, seed {seed}: {} differences", found.len());
    assert!(found.is_empty(), "{} differences, seed {seed}:\n{}", found.len(), found[..found.len().min(8)].join("\n"));
}

#[test]
fn odd_configurations_mean_what_ssh_says() {
    if !ready() || !in_an_environment("ssh_config::differential::odd_configurations_mean_what_ssh_says") {
        return;
    }
    let (user, lists) = (user(), Lists::ask());
    let mut found = Vec::new();
    let around = |line: &str| format!("Host web1\n{line}\nHost *\n  Port 99\n  User last\n  IdentityFile /last\n");
    let lines = ODD.iter().copied();
    for text in lines.map(around).chain(CORPUS.iter().map(|text| (*text).to_owned())) {
        for host in ["web1", "db.example.com"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("config"), &text).unwrap();
            let case = Case { dir, host: host.into(), user: None, port: None, jump: None, options: Vec::new() };
            found.extend(differences(&case, &user, &lists).map(|difference| format!("{difference}\n{}", case.text())));
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// Whole configurations from the public record, and corners of the language.
const CORPUS: &[&str] = &[
    "",
    "Host web1\n  HostName 127.0.0.1 # 219 on wifi\n  Port=2222\n  User \"root\" # me\n",
    "Host web1\n  HostName 10.9.9.9\nMatch host 10.9.*\n  User inside\nMatch originalhost web1\n  Port 7\n",
    "Match final all\n  User late\nHost web1\n  User early\n",
    "Match final host real\n  Port 17\nHost web1\n  HostName REAL\n",
    "Match canonical all\n  Port 18\n",
    "Match !final all\n  Port 19\n",
    "Match host web1 !exec false\n  Port 1\n",
    "Match exec \"test -z ''\" host web1\n  Port 20\n",
    "Match user root localuser root\n  Port 21\n",
    "Host *\n  IgnoreUnknown Use*\n  UseKeychain yes\n",
    "Host web1\n  IgnoreUnknown Use*\nHost *\n  UseKeychain yes\n",
    "Host web1\n  ProxyJump none\nHost *\n  ProxyJump gate\n",
    "Host web1\n  ProxyJump none\nHost *\n  ProxyCommand nc %h %p\n",
    "Host web1\n  ProxyCommand none\nHost *\n  ProxyJump gate\n",
    "Host *\n  ProxyCommand nc %h %p\n  ProxyJump gate\n",
    "Host *\n  ProxyJump gate\n  ProxyCommand nc %h %p\n",
    "Host *\n  ProxyJump \"gate\"\n",
    "IdentityFile /a\nIdentityFile /a\nIdentityFile /b\nMatch final all\nIdentityFile /a\nIdentityFile /c\n",
    "ConnectTimeout none\nConnectTimeout 5\n",
    "CanonicalizeHostname yes\nCanonicalDomains example.invalid\nMatch canonical all\nPort 23\n",
    "CanonicalizeHostname always\nCanonicalizeMaxDots 0\nHost db.example.com\nUser x\n",
    "CanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal no\n",
    "HostName WEB1\nHostKeyAlias UPPER\nUserKnownHostsFile /k/%k\n",
    "HostName 0177.0.0.1\n",
    "HostName 2001:0DB8::0001\n",
    "HostName fe80::1%lo\n",
    "HostName 127.0.0.1.\n",
    "HostName 1.2.3.4.5\n",
    "AddressFamily inet6\nHostName 127.1\n",
    "Include ~nobody-of-that-name/x\n",
    "Include /etc/ssh/ssh_config\n",
    "Include /dev/null /\n",
    "Host a\n Include /nowhere/* \n Port 5\n",
    "UserKnownHostsFile \"/a b\" /c\nGlobalKnownHostsFile ~/not-expanded\n",
    "IdentityAgent \"~/Group Containers/agent.sock\"\n",
    "BatchMode yes\n",
    "BatchMode yes\nServerAliveInterval 5\n",
    "Ciphers aes128-ctr,aes128-ctr\nMACs hmac-sha2-256,\nHostKeyAlgorithms rsa,ssh-*\n",
    "Port 22\u{0}23\n",
    "ConnectionAttempts 0\n",
    "\u{feff}Port 22\n",
    "Port 22\r\nUser x\r\n",
    "Host web1 # not me\n Port 31\nHost #\n Port 32\n",
    "host=web1\nport=33\n",
    "Host \"web 1\" web1\n Port 34\n",
    "Host !web1 *\n Port 35\nHost * !web1\n Port 36\n",
];

/// A configuration of many hosts.
fn many_hosts(dir: &Path, count: usize) -> PathBuf {
    let blocks: String = (0..count)
        .map(|n| format!("Host h{n}\n  HostName 10.0.0.1\n  Port 22{}\n  User u{n}\n  IdentityFile ~/.ssh/k{n}\n  ProxyJump gate\n", n % 90))
        .collect();
    let more = dir.join("more");
    fs::write(&more, "Host h*\n  ConnectTimeout 5\n").unwrap();
    let file = dir.join("config");
    let last = "Match host 10.0.* exec \"true\"\n  ServerAliveInterval 9\n";
    fs::write(&file, format!("{blocks}Include {}\n{last}", more.display())).unwrap();
    file
}

/// CPU time of this thread: the machine of a test may be busy.
fn cpu_time() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(u64::try_from(now.tv_sec).unwrap(), u32::try_from(now.tv_nsec).unwrap())
}

#[test]
fn a_thousand_hosts_cost_no_more_than_a_moment() {
    const HOSTS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let file = many_hosts(dir.path(), HOSTS);
    let (files, user) = (Files::default(), user());
    let started = cpu_time();
    for n in 0..HOSTS {
        let config = files.load(Some(&file.display().to_string()), &user).unwrap();
        let name = format!("h{n}");
        let found = resolve(&config, &Query { host: &name, ..Query::default() }, &user).unwrap();
        assert_eq!((found.number(Key::ServerAliveInterval), found.user), (Some(9), format!("u{n}")));
    }
    let took = cpu_time() - started;
    eprintln!("{HOSTS} hosts of {HOSTS} blocks: {took:?} of CPU");
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
    if ready() {
        let started = std::time::Instant::now();
        for n in 0..10 {
            let host = format!("h{n}");
            assert!(Command::new("ssh").arg("-G").arg("-F").arg(&file).arg(host).output().unwrap().status.success());
        }
        eprintln!("ssh -G: {:?} for 10 hosts", started.elapsed());
    }
}
