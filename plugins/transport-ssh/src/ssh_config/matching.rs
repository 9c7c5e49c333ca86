//! The conditions of `Match`.
use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use super::words::{self, Delimited};

/// How long a command of `Match exec` may take.
const EXEC_LIMIT: Duration = Duration::from_secs(20);

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Criterion {
    pub(crate) negated: bool,
    pub(crate) what: What,
    /// What it is compared with: patterns, or a command.
    pub(crate) argument: String,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    All,
    /// `final` asks for the second pass, in which both it and `canonical` match.
    Final,
    Canonical,
    Host,
    OriginalHost,
    User,
    LocalUser,
    LocalNetwork,
    Tagged,
    Command,
    Version,
    SessionType,
    Exec,
}

impl What {
    fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "all" => Self::All,
            "final" => Self::Final,
            "canonical" => Self::Canonical,
            "host" => Self::Host,
            "originalhost" => Self::OriginalHost,
            "user" => Self::User,
            "localuser" => Self::LocalUser,
            "localnetwork" => Self::LocalNetwork,
            "tagged" => Self::Tagged,
            "command" => Self::Command,
            "version" => Self::Version,
            "sessiontype" => Self::SessionType,
            "exec" => Self::Exec,
            _ => return None,
        })
    }

    fn has_argument(self) -> bool {
        !matches!(self, Self::All | Self::Final | Self::Canonical)
    }
}

/// Reads the conditions of a line.
///
/// OpenSSH up to 9.8 parts them at blanks, double quotes and `=`, later versions as all other values. A line is read
/// the old way, and the new way where that says nothing.
///
/// # Errors
/// What is wrong with them, in words.
pub(crate) fn read(text: &str, words: &[String]) -> Result<Vec<Criterion>, String> {
    let mut delimited = Delimited::new(text);
    let old = criteria(|| delimited.next(), false).and_then(|criteria| match delimited.rest() {
        None | Some("") => Ok(criteria),
        Some(extra) => Err(format!("{extra:?} follows the conditions")),
    });
    let quoted =
        |criteria: &[Criterion]| criteria.iter().any(|c| c.what != What::Exec && c.argument.contains(['\'', '\\']));
    match old {
        Ok(criteria) if !quoted(&criteria) => Ok(criteria),
        old => {
            let mut each = words.iter().cloned();
            criteria(|| each.next(), true).or(old)
        }
    }
}

fn criteria(mut next: impl FnMut() -> Option<String>, equals: bool) -> Result<Vec<Criterion>, String> {
    let mut out = Vec::new();
    let mut attributes = 0;
    while let Some(word) = next().filter(|word| !word.is_empty()) {
        if word.starts_with('#') {
            while next().is_some() {}
            break;
        }
        let (negated, name) = word.strip_prefix('!').map_or((false, word.as_str()), |name| (true, name));
        let (name, joined) = match name.split_once('=').filter(|_| equals) {
            Some((name, argument)) => (name, Some(argument.to_owned())),
            None => (name, None),
        };
        let Some(what) = What::of(name) else { return Err(format!("{name:?} is not a condition")) };
        if what == What::All {
            let after = next();
            if attributes > 1 || after.as_deref().is_some_and(|word| !word.is_empty() && !word.starts_with('#')) {
                return Err("`all` cannot be combined with other conditions".to_owned());
            }
            while next().is_some() {}
            out.push(Criterion { negated, what, argument: String::new() });
            return Ok(out);
        }
        attributes += 1;
        let mut argument = String::new();
        if what.has_argument() {
            argument = joined
                .or_else(&mut next)
                .filter(|word| !word.is_empty() && !word.starts_with('#'))
                .ok_or_else(|| format!("{name} needs a value to compare with"))?;
        }
        out.push(Criterion { negated, what, argument });
    }
    if attributes == 0 {
        return Err("there is no condition".to_owned());
    }
    Ok(out)
}

/// What a command of `Match exec` answered, or why it could not be run; waited for by whoever asks at the same time.
type Answer = Arc<OnceLock<Result<bool, String>>>;

/// What is asked of the machine, each once.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    commands: Mutex<HashMap<String, Answer>>,
    version: OnceLock<Option<String>>,
    addresses: OnceLock<Vec<IpAddr>>,
}

impl Asked {
    /// Whether a command succeeds in the user's shell. Blocks; each command runs once in this process.
    ///
    /// # Errors
    /// When it cannot be run, ends by a signal or takes too long.
    pub(crate) fn exec(&self, command: &str) -> Result<bool, String> {
        let slot = {
            let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(commands.entry(command.to_owned()).or_default())
        };
        slot.get_or_init(|| succeeds(command)).clone()
    }

    /// The version as OpenSSH itself compares it; none: there is no ssh.
    pub(crate) fn version(&self) -> Option<&str> {
        let ask = || {
            let asked = Command::new("ssh").arg("-V").stdin(Stdio::null()).output().ok()?;
            let text = String::from_utf8_lossy(&asked.stderr).into_owned();
            text.split(',').next().map(|version| version.trim().to_owned()).filter(|version| !version.is_empty())
        };
        self.version.get_or_init(ask).as_deref()
    }

    /// Whether an address of this machine is in a list of networks.
    ///
    /// # Errors
    /// Which entry is no network.
    pub(crate) fn in_network(&self, list: &str) -> Result<bool, String> {
        let addresses = self.addresses.get_or_init(local_addresses);
        let mut found = false;
        let networks = list.split(',').map(Network::read).collect::<Result<Vec<_>, _>>()?;
        for address in addresses {
            let hits = networks.iter().filter(|network| network.contains(*address));
            let hits: Vec<_> = hits.collect();
            found |= !hits.is_empty() && hits.iter().all(|network| !network.negated);
        }
        Ok(found)
    }
}

fn succeeds(command: &str) -> Result<bool, String> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut child = Command::new(&shell)
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", shell.to_string_lossy()))?;
    let deadline = Instant::now() + EXEC_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return status.code().map(|code| code == 0).ok_or_else(|| format!("{command:?} ended by {status}"));
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                // The whole group: a shell may have left the work to a child.
                if let Some(group) = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("{command:?} did not end within {} s", EXEC_LIMIT.as_secs()));
            }
            Err(e) => return Err(format!("cannot wait for {command:?}: {e}")),
        }
    }
}

/// Addresses with a prefix, as `Match localnetwork` names them.
struct Network {
    negated: bool,
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn read(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a network such as 10.0.0.0/8");
        let (negated, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (address, prefix) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |p| p.parse::<u32>().map_err(|_| bad()))?;
        if prefix > longest {
            return Err(bad());
        }
        Ok(Self { negated, address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let different = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4() && different.leading_zeros() >= self.prefix
    }
}

/// The addresses of this machine's interfaces, as the kernel lists them.
fn local_addresses() -> Vec<IpAddr> {
    let mut out = Vec::new();
    // An address of the machine itself is a leaf of the table that is said to be a local host.
    let table = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut leaf = None;
    for line in table.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            leaf = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            out.extend(leaf.map(IpAddr::V4));
        }
    }
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let of_line = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    out.extend(table.lines().filter_map(of_line).map(|bits| IpAddr::V6(bits.into())));
    out
}

/// Whether the commands that are run on a host match a list; none: that depends on the command.
pub(crate) fn command_matches(list: &str) -> Option<bool> {
    /// What every command of autoprof begins with on a host.
    const BEGINNING: &str = "exec ";
    let mut undecided = false;
    for pattern in list.split(',') {
        let pattern = pattern.strip_prefix('!').unwrap_or(pattern);
        let literal = pattern.split(['*', '?']).next().unwrap_or_default();
        undecided |= BEGINNING.starts_with(literal) || literal.starts_with(BEGINNING);
    }
    (!undecided).then_some(false)
}

/// Whether a text matches, for conditions on text.
pub(crate) fn text_matches(what: What, text: &str, list: &str) -> bool {
    match what {
        What::Host | What::OriginalHost => words::matches_host(text, list),
        _ => words::matches_list(text, list, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(bool, What, String)>, String> {
        let criteria = read(text, &words::split(text).unwrap_or_default())?;
        Ok(criteria.into_iter().map(|c| (c.negated, c.what, c.argument)).collect())
    }

    #[test]
    fn conditions_are_read_with_their_quotes() {
        let one = |what, argument: &str| vec![(false, what, argument.to_owned())];
        assert_eq!(parse("host \"a,b\" # c").unwrap(), one(What::Host, "a,b"));
        assert_eq!(parse("host=a").unwrap(), one(What::Host, "a"));
        assert_eq!(parse("host 'a,b'").unwrap(), one(What::Host, "a,b"));
        assert_eq!(parse("exec \"test -f 'x y'\"").unwrap(), one(What::Exec, "test -f 'x y'"));
        assert_eq!(parse("exec 'test -f \"x y\"'").unwrap(), one(What::Exec, "test -f \"x y\""));
        assert_eq!(parse("ALL").unwrap(), one(What::All, ""));
        assert_eq!(parse("final all").unwrap().len(), 2);
        assert_eq!(parse("!host a user b").unwrap().len(), 2);
        for bad in ["host", "nothing x", "host a user b all", "# none", "all host a"] {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn networks_are_compared_by_their_prefix() {
        let asked = Asked::default();
        assert_eq!(asked.in_network("127.0.0.0/8"), Ok(true));
        assert_eq!(asked.in_network("127.0.0.1,!127.0.0.0/8"), Ok(false));
        assert_eq!(asked.in_network("240.0.0.0/4,2001:db8::/32"), Ok(false));
        assert!(asked.in_network("10/8").is_err());
    }

    #[test]
    fn a_command_runs_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ran");
        let asked = Asked::default();
        let command = format!("echo x >> {}; exit 1", file.display());
        assert_eq!([asked.exec(&command), asked.exec(&command)], [Ok(false), Ok(false)]);
        assert_eq!(fs::read_to_string(file).unwrap(), "x\n");
    }
}
