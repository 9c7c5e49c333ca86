//! What a configuration says of one host.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs},
    sync::Arc,
};

use super::{
    Config,
    error::{ConfigError, Place},
    files::{Entry, HostPattern, Include, Setting, SourceFile},
    jump::Jump,
    keywords::{Key, Value},
    matching::{self, Criterion, What},
    tokens::{Set, Tokens},
    users::User,
    words,
};

/// Most values of a keyword that may be repeated.
const MAX_FILES: usize = 100;
/// Most files with host keys, and most domains.
const MAX_WORDS: usize = 32;

/// What is asked: a host, and what was given for it outside of files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query<'a> {
    /// The name as it was given.
    pub(crate) host: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) port: Option<u16>,
    pub(crate) identity: Option<&'a str>,
    /// As `ssh -J` takes it.
    pub(crate) jump: Option<&'a str>,
    /// As `ssh -o` takes them, the first one first.
    pub(crate) options: &'a [String],
}

/// A value, and where it was said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What is said of a host.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// The name as it was given.
    pub(crate) alias: String,
    /// Where it is.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    said: BTreeMap<Key, Said>,
    pub(crate) identity_files: Vec<(String, Place)>,
    pub(crate) certificate_files: Vec<(String, Place)>,
    /// `ProxyJump none` came before `ProxyCommand`.
    pub(crate) directly: bool,
}

impl Resolved {
    pub(crate) fn said(&self, key: Key) -> Option<&Said> {
        self.said.get(&key)
    }

    pub(crate) fn text(&self, key: Key) -> Option<&str> {
        match &self.said.get(&key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: Key) -> Option<i64> {
        match self.said.get(&key)?.value {
            Value::Number(number) => number,
            _ => None,
        }
    }

    /// A flag, where it was said.
    pub(crate) fn flag(&self, key: Key) -> Option<bool> {
        self.text(key).map(|text| text != "no")
    }

    pub(crate) fn words(&self, key: Key) -> Option<&[String]> {
        match &self.said.get(&key)?.value {
            Value::Words(words) => Some(words),
            _ => None,
        }
    }

    /// The hops, before their tokens are expanded.
    pub(crate) fn jump(&self) -> Option<&Jump> {
        match &self.said.get(&Key::ProxyJump)?.value {
            Value::Jump(jump) => Some(jump),
            _ => None,
        }
    }

    /// The command, unless it is `none` or a jump host stands in its place.
    pub(crate) fn proxy_command(&self) -> Option<&Said> {
        let said = self.said.get(&Key::ProxyCommand)?;
        let none = matches!(&said.value, Value::Text(text) if text.eq_ignore_ascii_case("none"));
        (!none).then_some(said)
    }
}

/// Resolves what a configuration says of a host. Blocks: `Match exec` runs commands, and `CanonicalizeHostname` asks
/// the resolver.
///
/// # Errors
/// When the configuration cannot be used for the host.
pub(crate) fn resolve(config: &Config, query: &Query<'_>, user: &User) -> Result<Resolved, ConfigError> {
    if !valid_host(query.host) {
        return Err(ConfigError::Host(format!("{:?} cannot be the name of a host", query.host)));
    }
    if let Some(remote) = query.user.filter(|user| !valid_user(user)) {
        return Err(ConfigError::Host(format!("{remote:?} cannot be the name of a user")));
    }
    let host = query.host.to_owned();
    let mut pass = Pass { config, query, user, host, state: State::default(), last: false, wants_last: false };
    pass.given()?;
    pass.files()?;

    let mut host = match pass.state.said.get(&Key::HostName).cloned() {
        Some(said) => pass.host_name(&said)?,
        None => query.host.to_owned(),
    };
    let family = pass.state.text(Key::AddressFamily).unwrap_or("any").to_owned();
    let numeric = is_address(&host, &family);
    if !numeric {
        host.make_ascii_lowercase();
    }
    let canonicalize = pass.state.text(Key::CanonicalizeHostname).unwrap_or("no").to_owned();
    if canonicalize != "no" || numeric {
        host = pass.canonical(host, &canonicalize, &family)?;
    }
    pass.wants_last |= canonicalize != "no";
    if pass.wants_last {
        // What the first pass did not say of the canonical name is settled by then.
        for (key, usual) in [
            (Key::CanonicalizeHostname, Value::Text("no".into())),
            (Key::CanonicalizeFallbackLocal, Value::Text("yes".into())),
            (Key::CanonicalizeMaxDots, Value::Number(Some(1))),
        ] {
            pass.state.said.entry(key).or_insert_with(|| Said { value: usual, place: Place::options() });
        }
        let place = pass.state.said.get(&Key::HostName).map_or_else(Place::options, |said| said.place.clone());
        pass.state.said.insert(Key::HostName, Said { value: Value::Text(host.clone()), place });
        pass.host.clone_from(&host);
        pass.last = true;
        pass.files()?;
    }
    let remote = pass.remote(&host)?;
    let port = pass.port();
    let State { mut said, identity_files, certificate_files, directly } = pass.state;
    if let Some(Said { value: Value::Text(alias), .. }) = said.get_mut(&Key::HostKeyAlias) {
        alias.make_ascii_lowercase();
    }
    if let Some(Said { value: Value::Number(Some(0)), place }) = said.get(&Key::ConnectionAttempts) {
        return Err(ConfigError::line(place, "ConnectionAttempts", "at least 1 attempt is needed"));
    }
    Ok(Resolved {
        alias: query.host.to_owned(),
        host,
        port,
        user: remote,
        said,
        identity_files,
        certificate_files,
        directly,
    })
}

/// What has been said so far.
#[derive(Debug, Default)]
struct State {
    said: BTreeMap<Key, Said>,
    identity_files: Vec<(String, Place)>,
    certificate_files: Vec<(String, Place)>,
    directly: bool,
}

impl State {
    fn text(&self, key: Key) -> Option<&str> {
        match &self.said.get(&key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Notes a setting; of most keywords the first value counts.
    fn set(&mut self, setting: &Setting, place: Place) -> Result<(), ConfigError> {
        let Setting { key, keyword, value } = setting;
        let repeated = match key {
            Key::IdentityFile => Some(&mut self.identity_files),
            Key::CertificateFile => Some(&mut self.certificate_files),
            _ => None,
        };
        if let Some(files) = repeated {
            let Value::Text(file) = value else { return Ok(()) };
            if !files.iter().any(|(known, _)| known == file) {
                if files.len() >= MAX_FILES {
                    return Err(ConfigError::line(&place, keyword, format!("it is said more than {MAX_FILES} times")));
                }
                files.push((file.clone(), place));
            }
            return Ok(());
        }
        let says_nothing = match value {
            // In OpenSSH, the time `none` is the same as no time yet.
            Value::Number(number) => number.is_none(),
            Value::Words(words) => words.is_empty(),
            // A command that was said first counts, and a jump host stands for a command from then on.
            Value::Jump(Jump::Via(_)) => self.said.contains_key(&Key::ProxyCommand),
            _ => false,
        };
        if says_nothing || self.said.contains_key(key) {
            return Ok(());
        }
        if let Value::Words(words) = value
            && words.len() > MAX_WORDS
        {
            return Err(ConfigError::line(&place, keyword, format!("it has more than {MAX_WORDS} values")));
        }
        match value {
            Value::Jump(Jump::None) => self.directly = !self.said.contains_key(&Key::ProxyCommand),
            Value::Jump(Jump::Via(_)) => {
                let none = Said { value: Value::Text("none".into()), place: place.clone() };
                self.said.insert(Key::ProxyCommand, none);
            }
            _ => {}
        }
        self.said.insert(*key, Said { value: value.clone(), place });
        Ok(())
    }
}

/// One way through the files.
struct Pass<'a> {
    config: &'a Config,
    query: &'a Query<'a>,
    user: &'a User,
    /// What `Host` lines are about: the name as it was given, and the second time the canonical one.
    host: String,
    state: State,
    /// The second way, with the canonical name.
    last: bool,
    wants_last: bool,
}

impl Pass<'_> {
    /// What was given for the host comes before all files.
    fn given(&mut self) -> Result<(), ConfigError> {
        let loader = &self.config.loader;
        let place = Place::options();
        if let Some(jump) = self.query.jump {
            let jump = Jump::read(jump, &loader.services).map_err(ConfigError::Host)?;
            // As `-J`, it is the last word on the way to the host.
            self.state.directly = jump == Jump::None;
            self.state.said.insert(Key::ProxyJump, Said { value: Value::Jump(jump), place: place.clone() });
            if !self.state.directly {
                let none = Said { value: Value::Text("none".into()), place: place.clone() };
                self.state.said.insert(Key::ProxyCommand, none);
            }
        }
        if let Some(port) = self.query.port {
            let value = Value::Number(Some(port.into()));
            self.state.said.insert(Key::Port, Said { value, place: place.clone() });
        }
        let texts = [(Key::User, self.query.user), (Key::IdentityFile, self.query.identity)];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
            let setting = Setting { key, keyword: String::new(), value: Value::Text(text.to_owned()) };
            self.state.set(&setting, place.clone())?;
        }
        for option in self.query.options {
            if let Some(setting) = loader.option(option, self.user)? {
                self.state.set(&setting, place.clone())?;
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<(), ConfigError> {
        let config = self.config;
        config.files.iter().try_for_each(|file| self.walk(file, true, false, 0))
    }

    /// Goes through a file; `never`: it is included where nothing counts, and only looked at.
    fn walk(&mut self, file: &SourceFile, active: bool, never: bool, depth: usize) -> Result<(), ConfigError> {
        let mut active = active;
        for line in &file.lines {
            match &line.entry {
                Entry::Setting(setting) if active => self.state.set(setting, file.place(line))?,
                Entry::Setting(_) => {}
                Entry::Host(patterns) => active = !never && self.names_host(patterns),
                Entry::Match(criteria) => {
                    self.wants_last |= criteria.iter().any(|c| c.what == What::Final);
                    active = !never && self.matches(criteria, &file.place(line))?;
                }
                Entry::Include(included) => {
                    for include in included {
                        let later;
                        let files = match include {
                            Include::Files(files) => files,
                            Include::Later(_) if !active => continue,
                            Include::Later(word) => {
                                later = self.later(word, file, &file.place(line), depth)?;
                                &later
                            }
                        };
                        for included in files {
                            self.walk(included, active, never || !active, depth + 1)?;
                        }
                    }
                }
                Entry::Unknown(keyword) => {
                    let ignored = self.state.text(Key::IgnoreUnknown).unwrap_or_default();
                    if !words::matches_list(&keyword.to_ascii_lowercase(), ignored, true) {
                        let reason = "OpenSSH knows no such keyword; IgnoreUnknown allows some";
                        return Err(ConfigError::line(&file.place(line), keyword, reason));
                    }
                }
            }
        }
        Ok(())
    }

    fn later(
        &self,
        word: &str,
        file: &SourceFile,
        place: &Place,
        depth: usize,
    ) -> Result<Vec<Arc<SourceFile>>, ConfigError> {
        let host = self.host_now()?;
        let remote = self.remote(&host)?;
        let path = self.tokens(&host, &remote).expand(word, Set::All, true);
        let path = path.map_err(|reason| ConfigError::line(place, "Include", reason))?;
        self.config.loader.included(&path, file.of_user, place, self.user, depth + 1)
    }

    fn names_host(&self, patterns: &[HostPattern]) -> bool {
        let mut hits = patterns.iter().filter(|p| words::matches(&self.host, &p.pattern)).peekable();
        hits.peek().is_some() && hits.all(|hit| !hit.negated)
    }

    fn matches(&self, criteria: &[Criterion], place: &Place) -> Result<bool, ConfigError> {
        let mut result = true;
        for criterion in criteria {
            // OpenSSH looks at the rest as well, to find errors; commands are not run any more.
            if !result {
                break;
            }
            result = self.meets(criterion, place)? != criterion.negated;
        }
        Ok(result)
    }

    fn meets(&self, criterion: &Criterion, place: &Place) -> Result<bool, ConfigError> {
        let bad = |reason: String| ConfigError::line(place, "Match", reason);
        let list = criterion.argument.as_str();
        let text = |text: &str| Ok(matching::text_matches(criterion.what, text, list));
        match criterion.what {
            What::All => Ok(true),
            What::Final | What::Canonical => Ok(self.last),
            What::Host => text(&self.host_now()?),
            What::OriginalHost => text(self.query.host),
            What::User => text(&self.remote(&self.host_now()?)?),
            What::LocalUser => text(&self.user.name),
            What::LocalNetwork => self.config.asked.in_network(list).map_err(bad),
            What::Tagged => text(self.state.text(Key::Tag).unwrap_or_default()),
            What::SessionType => text("exec"),
            What::Command => matching::command_matches(list).ok_or_else(|| {
                let reason = format!("whether `command {list}` matches differs between the commands that are run");
                ConfigError::only_openssh(place, "Match", reason)
            }),
            What::Version => match self.config.asked.version() {
                Some(version) => text(version),
                None => Err(bad("`version` needs the system's ssh, which cannot be run".into())),
            },
            What::Exec => {
                let host = self.host_now()?;
                let remote = self.remote(&host)?;
                let command = self.tokens(&host, &remote).expand(list, Set::All, false).map_err(bad)?;
                self.config.asked.exec(&command).map_err(|reason| bad(format!("exec: {reason}")))
            }
        }
    }

    /// The host as far as it is known.
    fn host_now(&self) -> Result<String, ConfigError> {
        match self.state.said.get(&Key::HostName) {
            Some(said) => self.host_name(said),
            None => Ok(self.query.host.to_owned()),
        }
    }

    fn host_name(&self, said: &Said) -> Result<String, ConfigError> {
        let Value::Text(name) = &said.value else { return Ok(self.query.host.to_owned()) };
        if self.last {
            // It is expanded already.
            return Ok(name.clone());
        }
        let tokens = self.tokens(self.query.host, "");
        tokens.expand(name, Set::Name, false).map_err(|reason| ConfigError::line(&said.place, "HostName", reason))
    }

    fn port(&self) -> u16 {
        let said = self.state.said.get(&Key::Port).map(|said| &said.value);
        match said {
            Some(Value::Number(Some(port))) => u16::try_from(*port).unwrap_or(22),
            _ => self.config.loader.services.port("ssh").unwrap_or(22),
        }
    }

    /// The user on the host, as far as it is known.
    fn remote(&self, host: &str) -> Result<String, ConfigError> {
        let Some(said) = self.state.said.get(&Key::User) else { return Ok(self.user.name.clone()) };
        let Value::Text(name) = &said.value else { return Ok(self.user.name.clone()) };
        if self.query.user.is_some() || !(name.contains('%') || name.contains("${")) {
            return Ok(name.clone());
        }
        let tokens = self.tokens(host, "");
        tokens.expand(name, Set::User, true).map_err(|reason| ConfigError::line(&said.place, "User", reason))
    }

    fn tokens<'a>(&'a self, host: &'a str, remote: &'a str) -> Tokens<'a> {
        Tokens {
            user: self.user,
            alias: self.query.host,
            address: host,
            port: self.port(),
            remote,
            key_alias: self.state.text(Key::HostKeyAlias).unwrap_or(host),
            jump: "",
        }
    }

    /// The canonical name of a host, as `CanonicalizeHostname` and the form of addresses want it.
    fn canonical(&self, host: String, mode: &str, family: &str) -> Result<String, ConfigError> {
        if let Some(address) = address(&host, family) {
            return Ok(address);
        }
        if looks_like_address(&host) || mode == "no" {
            return Ok(host);
        }
        let said = |key| self.state.said.get(&key).map(|said: &Said| &said.value);
        let command = matches!(said(Key::ProxyCommand), Some(Value::Text(text)) if !text.eq_ignore_ascii_case("none"));
        let direct = !command && said(Key::ProxyJump).is_none();
        if !direct && mode != "always" {
            return Ok(host);
        }
        if let Some(cnames) = self.state.said.get(&Key::CanonicalizePermittedCnames)
            && !matches!(&cnames.value, Value::Words(words) if words.iter().any(|word| word.eq_ignore_ascii_case("none")))
        {
            let reason = "the aliases of a name in the DNS are not looked up";
            return Err(ConfigError::only_openssh(&cnames.place, "CanonicalizePermittedCNAMEs", reason));
        }
        let exists = |name: &str| resolves(name, family);
        let found = if host.ends_with('.') {
            exists(&host).then(|| host.trim_end_matches('.').to_owned())
        } else {
            let most = match said(Key::CanonicalizeMaxDots) {
                Some(Value::Number(Some(most))) => usize::try_from(*most).unwrap_or(1),
                _ => 1,
            };
            if host.matches('.').count() > most {
                return Ok(host);
            }
            let domains = match said(Key::CanonicalDomains) {
                Some(Value::Words(domains)) => domains.as_slice(),
                _ => &[],
            };
            let domains = domains.iter().take_while(|domain| !domain.eq_ignore_ascii_case("none"));
            domains.map(|domain| format!("{host}.{domain}")).find(|name| exists(&format!("{name}.")))
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(fallback) = self.state.said.get(&Key::CanonicalizeFallbackLocal)
            && matches!(&fallback.value, Value::Text(text) if text == "no")
        {
            let reason = format!("{host} was found in none of CanonicalDomains");
            return Err(ConfigError::line(&fallback.place, "CanonicalizeFallbackLocal", reason));
        }
        Ok(host)
    }
}

fn resolves(name: &str, family: &str) -> bool {
    (name, 22).to_socket_addrs().is_ok_and(|mut found| found.any(|address| in_family(address.ip(), family)))
}

/// Whether an address is of the family that `AddressFamily` names.
pub(crate) fn in_family(address: IpAddr, family: &str) -> bool {
    match family {
        "inet" => address.is_ipv4(),
        "inet6" => address.is_ipv6(),
        _ => true,
    }
}

fn looks_like_address(host: &str) -> bool {
    host.contains(['%', ':']) || host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn is_address(host: &str, family: &str) -> bool {
    looks_like_address(host) || address(host, family).is_some()
}

/// An address in its usual form; none: it is a name.
fn address(host: &str, family: &str) -> Option<String> {
    if let Some(v4) = old_ipv4(host) {
        return in_family(v4.into(), family).then(|| v4.to_string());
    }
    let (text, scope) = host.split_once('%').map_or((host, None), |(text, scope)| (text, Some(scope)));
    let v6: Ipv6Addr = text.parse().ok()?;
    match scope {
        Some(scope) => {
            let exists = scope.parse::<u32>().is_ok() || std::path::Path::new("/sys/class/net").join(scope).exists();
            (exists && in_family(v6.into(), family)).then(|| format!("{v6}%{scope}"))
        }
        None => in_family(v6.into(), family).then(|| v6.to_string()),
    }
}

/// An IPv4 address in any form of old: up to four parts, decimal, octal or hexadecimal.
fn old_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let number = |text: &str| match text {
        "0" => Some(0),
        hex if hex.starts_with("0x") || hex.starts_with("0X") => u64::from_str_radix(&hex[2..], 16).ok(),
        octal if octal.starts_with('0') => u64::from_str_radix(octal, 8).ok(),
        decimal => decimal.parse().ok().filter(|_| !decimal.starts_with('+')),
    };
    let mut bits = 0u64;
    for part in first {
        bits = bits << 8 | number(part).filter(|n| *n < 256)?;
    }
    let room = 32 - 8 * first.len();
    let last = number(last).filter(|n| *n < 1 << room)?;
    u32::try_from(bits << room | last).ok().map(Ipv4Addr::from)
}

/// Whether a name can be a host's; what OpenSSH allows on its command line.
fn valid_host(name: &str) -> bool {
    let bad = |c: char| "'`\"$\\;&<>|(){},".contains(c) || c.is_ascii_whitespace() || c == '\u{b}' || c.is_control();
    !name.is_empty() && !name.starts_with('-') && !name.contains(bad)
}

/// Whether a name can be a user's; what OpenSSH allows on its command line.
fn valid_user(name: &str) -> bool {
    let bad = |c: char| "'`\";&<>|(){}".contains(c) || c.is_control();
    !name.starts_with('-') && !name.contains(bad) && !name.contains(" -") && !name.ends_with('\\')
}
